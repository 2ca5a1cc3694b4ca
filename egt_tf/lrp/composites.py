"""Composites: which rule each layer gets. An ordered list; the first entry that fits a layer wins."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from tensorflow import keras

from egt_tf.errors import ExplainError
from egt_tf.lrp.layer_types import KINDS, is_kind
from egt_tf.lrp.rules import RULES, Rule


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a composite.

    Attributes:
        rule: what the layers it fits get.
        kind: fits layers of this kind (a key of `egt_tf.lrp.layer_types.KINDS`), or None.
        layer: fits the layer of exactly this name, or None. Exactly one of the two is set.
        first: fits only layers that see the model's input, as it is or reshaped, padded or cropped.
    """

    rule: Rule
    kind: str | None = None
    layer: str | None = None
    first: bool = False

    def __post_init__(self):
        if (self.kind is None) == (self.layer is None):
            raise ExplainError(
                f"an entry must have either `kind` or `layer`. Received: kind={self.kind!r}, layer={self.layer!r}"
            )
        if self.kind is not None and self.kind not in KINDS:
            raise ExplainError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={self.kind!r}")

    def fits(self, layer: keras.layers.Layer, first: bool) -> bool:
        """Whether this entry decides about `layer`; `first` says whether the layer sees the model's input."""
        if self.first and not first:
            return False
        return layer.name == self.layer if self.kind is None else is_kind(layer, self.kind)

    def to_json(self) -> dict[str, Any]:
        """What `Entry.from_json` makes an equal entry from."""
        return {"rule": self.rule.to_json(), "kind": self.kind, "layer": self.layer, "first": self.first}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """Undoes `to_json`."""
        return cls(**{**value, "rule": RULES.get(value["rule"])})


class Composite:
    """An ordered list of entries.

    Args:
        entries: the first that fits a layer gives its rule.
        name: shown in figures and errors.
    """

    def __init__(self, entries: Sequence[Entry], name: str = "composite"):
        self.entries = tuple(entries)
        self.name = name

    def prepend(self, *entries: Entry) -> Composite:
        """A composite that asks `entries` first."""
        return Composite((*entries, *self.entries), self.name)

    def rule_for(self, layer: keras.layers.Layer, first: bool = False) -> Rule:
        """The rule of `layer`: that of the first entry that fits, else one registered for the layer's class.

        Args:
            layer: the Keras layer.
            first: whether it sees the model's input.

        Raises:
            ExplainError: no entry fits and none is registered.
        """
        for entry in self.entries:
            if entry.fits(layer, first):
                return entry.rule
        rule = registered_rule(layer)
        if rule is None:
            raise ExplainError(
                f"no rule of composite {self.name!r} fits layer {layer.name!r} of class {type(layer).__name__}; "
                f"register one for its class with egt_tf.lrp.register_rule({type(layer).__name__}, rule), or "
                f"prepend Entry(rule, layer={layer.name!r}) to the composite"
            )
        return rule

    def to_json(self) -> dict[str, Any]:
        """What `Composite.from_json` makes an equal composite from."""
        return {"name": self.name, "entries": [entry.to_json() for entry in self.entries]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Composite:
        """Undoes `to_json`."""
        return cls([Entry.from_json(entry) for entry in value["entries"]], value["name"])


@functools.singledispatch
def registered_rule(layer: keras.layers.Layer) -> Rule | None:
    """The rule registered for the class of `layer` or the nearest of its bases; None if there is none."""
    return None


def register_rule(layer_class: type[keras.layers.Layer], rule: Rule) -> None:
    """Gives every composite a rule for a layer that no kind knows.

    Example: a layer that swaps the two halves of its channels. Each output is a copy of one input, so its relevance
    goes back where it came from.

        >>> class SwapHalves(keras.layers.Layer):
        ...     def call(self, x):
        ...         return tf.concat(tf.split(x, 2, axis=-1)[::-1], axis=-1)
        >>> register_rule(SwapHalves, Route())

    Rules to choose from: `Route` (copies), `Share` (linear and without weights), `Pass` (value by value), `Mask` (a
    gate of its own), `Derivative`. For a layer with weights, teach `linear_parts` its weighted sum and register
    `Epsilon(...)` or another rule for such layers. For anything else write a `Rule` with an `apply` of its own.

    Args:
        layer_class: layers of this class and of its subclasses get the rule.
        rule: what they get unless a composite decides otherwise.
    """
    registered_rule.register(layer_class)(lambda layer: rule)
