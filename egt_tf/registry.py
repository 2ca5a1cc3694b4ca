"""Named tables of the parts a configuration can choose: backbones, heads, composites."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from egt_tf.errors import ConfigError, did_you_mean
from egt_tf.keras_api import keras, unconverted

loadable = keras.utils.register_keras_serializable("egt_tf")
"""Decorator that lets Keras load a layer, a model or an optimizer by its name, "egt_tf>CLASS"."""

Class = TypeVar("Class", bound=type)


def serializable(member: Class) -> Class:
    """`loadable`, for classes of this package, whose code branches by no tensor and is run in graphs as it stands."""
    for name in ("call", "train_step", "test_step"):
        if name in vars(member):
            unconverted(vars(member)[name])
    return loadable(member)


def family_layer(network: Callable[..., keras.Model], name: str) -> type[keras.layers.Layer]:
    """A layer that `keras.applications` has for one family of networks only, by the name of its class.

    Example:
        >>> family_layer(keras.applications.ConvNeXtTiny, "LayerScale").__name__
        'LayerScale'
    """
    return getattr(sys.modules[network.__module__], name)


Member = TypeVar("Member", bound=Callable[..., Any])


class Registry:
    """One table of names; registering also makes a Keras class loadable under the package "egt_tf".

    Example:
        >>> BACKBONES = Registry("backbone")
        >>> @BACKBONES.register("conv4")
        ... def conv4(image_size=84): ...
        >>> BACKBONES.get({"name": "conv4", "image_size": 96})
    """

    def __init__(self, noun: str):
        self.noun = noun
        self._table: dict[str, Callable[..., Any]] = {}
        self._families: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Member], Member]:
        """Decorator that enters a class or a factory function as `name`.

        Raises:
            ConfigError: the name is taken.
        """

        def enter(member: Member) -> Member:
            if name in self._table:
                raise ConfigError(f"a {self.noun} name must be registered once. Received: {name!r} a second time")
            self._table[name] = member
            if inspect.isclass(member) and hasattr(member, "get_config"):
                loadable(member)
            return member

        return enter

    def register_family(self, prefix: str) -> Callable[[Member], Member]:
        """Decorator that enters a factory for every name that begins with `prefix:`; it gets the rest first.

        Example:
            >>> TOOLS = Registry("tool")
            >>> @TOOLS.register_family("shop")
            ... def bought(label, size=1):
            ...     return f"a {label} of size {size}"
            >>> TOOLS.get({"name": "shop:saw", "size": 3})
            'a saw of size 3'
        """

        def enter(member: Member) -> Member:
            self._families[prefix] = member
            return member

        return enter

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        return tuple(sorted(self._table))

    def summary(self, name: str) -> str:
        """The first line of what the member called `name` says about itself.

        Raises:
            ConfigError: an unknown name.
        """
        return (inspect.getdoc(self.member(name)) or "").partition("\n")[0]

    def member(self, name: str) -> Callable[..., Any]:
        """The class or the factory registered as `name`.

        Raises:
            ConfigError: an unknown name; the known ones are listed.
        """
        prefix, colon, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
        if colon and rest and prefix in self._families:
            return functools.partial(self._families[prefix], rest)
        if not isinstance(name, str) or name not in self._table:
            hint = did_you_mean(name, self._table, otherwise=".")
            known = (*self.names(), *(f"{prefix}:..." for prefix in sorted(self._families)))
            raise ConfigError(f"unknown {self.noun} {name!r}{hint} Known: {', '.join(known)}")
        return self._table[name]

    def name_of(self, member: Callable[..., Any]) -> str:
        """The name that `member` was registered under.

        Raises:
            ConfigError: it was not.
        """
        for name, registered in self._table.items():
            if registered is member:
                return name
        raise ConfigError(f"a {self.noun} must be registered to be named. Received: {member!r}")

    def get(self, identifier: str | Mapping[str, Any] | Any, **defaults: Any) -> Any:
        """Makes the member named by `identifier`.

        Args:
            identifier: a name, a mapping `{"name": ..., <arguments>}`, or an instance, which is handed back.
            **defaults: arguments used unless the mapping sets them.

        Raises:
            ConfigError: an unknown name (the known ones are listed), or an argument the member does not take.
        """
        if isinstance(identifier, str):
            identifier = {"name": identifier}
        if not isinstance(identifier, Mapping):
            return identifier
        arguments = {**defaults, **identifier}
        factory = self.member(arguments.pop("name", None))
        self._check_arguments(identifier.get("name"), factory, arguments)
        return factory(**arguments)

    def _check_arguments(self, name: Any, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        known = [
            name
            for name, parameter in inspect.signature(factory).parameters.items()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        for argument in arguments:
            if argument not in known:
                hint = did_you_mean(argument, known, otherwise=".")
                raise ConfigError(
                    f"{self.noun} {name!r} takes no argument {argument!r}{hint} Known: {', '.join(known)}"
                )
