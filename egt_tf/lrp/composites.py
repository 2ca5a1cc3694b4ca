"""Composites: which rule each layer gets. An ordered list; the first entry that fits a layer wins."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from egt_tf.errors import ExplainError
from egt_tf.keras_api import keras
from egt_tf.lrp.layer_types import check_layer_type, is_layer_type, treat_like
from egt_tf.lrp.rules import RULES, Rule

# Whose numbers the named composites follow: the published few-shot code's, zennit's or innvestigate's.
CONVENTIONS = ("published", "zennit", "innvestigate")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a composite.

    Attributes:
        rule: what the layers it fits get.
        layer_type: fits layers of this type (a key of `egt_tf.lrp.layer_types.LAYER_TYPES`), or None.
        layer: fits the layer of exactly this name, or None. Exactly one of the two is set.
        first: fits only layers that see the model's input, as it is or reshaped, padded or cropped.

    Raises:
        ExplainError: both or none of `layer_type` and `layer`, or an unknown type.

    Example:
        >>> from egt_tf.lrp.linear_rules import Flat
        >>> entry = Entry(Flat(), layer_type="convolution", first=True)
        >>> entry.fits(keras.layers.Conv2D(8, 3), first=True), entry.fits(keras.layers.Conv2D(8, 3), first=False)
        (True, False)
    """

    rule: Rule
    layer_type: str | None = None
    layer: str | None = None
    first: bool = False

    def __post_init__(self) -> None:
        if (self.layer_type is None) == (self.layer is None):
            raise ExplainError(
                "an entry must have either `layer_type` or `layer`. "
                f"Received: layer_type={self.layer_type!r}, layer={self.layer!r}"
            )
        if self.layer_type is not None:
            check_layer_type("layer_type", self.layer_type)

    def fits(self, layer: keras.layers.Layer, first: bool) -> bool:
        """Whether this entry decides about `layer`; `first` says whether the layer sees the model's input."""
        if self.first and not first:
            return False
        return layer.name == self.layer if self.layer_type is None else is_layer_type(layer, self.layer_type)

    def to_json(self) -> dict[str, Any]:
        """What `Entry.from_json` makes an equal entry from."""
        return {
            "rule": self.rule.to_json(),
            "layer_type": self.layer_type,
            "layer": self.layer,
            "first": self.first,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        """Undoes `to_json`; reads what was written when layer types were called kinds, too."""
        arguments = {"layer_type" if name == "kind" else name: argument for name, argument in value.items()}
        return cls(**{**arguments, "rule": RULES.get(value["rule"])})


class Composite:
    """An ordered list of entries.

    Args:
        entries: the first that fits a layer gives its rule.
        name: shown in figures and errors.
        convention: one of `CONVENTIONS`; chooses among the rules that were registered for a layer that no entry fits.

    Raises:
        ExplainError: an unknown convention.

    Example:
        >>> from egt_tf.lrp.linear_rules import Epsilon, ZPlus
        >>> from egt_tf.lrp.rules import Pass
        >>> composite = Composite([Entry(Epsilon(0.1), layer_type="dense"), Entry(Pass(), layer_type="activation")])
        >>> composite.prepend(Entry(ZPlus(), layer="scores")).rule_for(keras.layers.Dense(2, name="scores"))
        ZPlus(bias=False, stabilizer=0.0)
    """

    def __init__(self, entries: Sequence[Entry], name: str = "composite", convention: str = "zennit"):
        _check_convention(convention)
        self.entries = tuple(entries)
        self.name = name
        self.convention = convention

    def prepend(self, *entries: Entry) -> Composite:
        """A composite that asks `entries` first."""
        return Composite((*entries, *self.entries), self.name, self.convention)

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
        rule = registered_rule(layer, self.convention)
        if rule is None:
            raise ExplainError(
                f"no rule of composite {self.name!r} fits layer {layer.name!r} of class {type(layer).__name__}; "
                f"register one for its class with egt_tf.lrp.register_rule({type(layer).__name__}, rule), or "
                f"prepend Entry(rule, layer={layer.name!r}) to the composite"
            )
        return rule

    def to_json(self) -> dict[str, Any]:
        """What `Composite.from_json` makes an equal composite from."""
        return {
            "name": self.name,
            "entries": [entry.to_json() for entry in self.entries],
            "convention": self.convention,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Composite:
        """Undoes `to_json`; what was written before there were conventions gets the default one."""
        return cls(**{**value, "entries": [Entry.from_json(entry) for entry in value["entries"]]})


# The class of a layer and a convention, or None for all conventions, and the rule.
_REGISTERED: dict[tuple[type, str | None], Rule] = {}


def registered_rule(layer: keras.layers.Layer, convention: str) -> Rule | None:
    """The rule registered for the class of `layer` or the nearest of its bases; None if there is none.

    Of two rules for the same class, the one for the convention comes before the one for all.
    """
    for base in type(layer).__mro__:
        for each in (convention, None):
            if (base, each) in _REGISTERED:
                return _REGISTERED[base, each]
    return None


def register_rule(
    layer_class: type[keras.layers.Layer],
    rule: Rule | None = None,
    *,
    like: str | None = None,
    convention: str | None = None,
) -> None:
    """Teaches every composite a layer that it does not know: what it is like, or a rule of its own.

    Most layers are like one of those that Keras has: they copy values ("route"), average them ("mean"), let them
    through one by one ("activation"). Then composites treat them as they treat those, and know what Keras's layer would
    tell them, such as that copies of values >= 0 are >= 0.

    For other layers choose a rule: `Derivative` (copies, or a back-propagation), `Share` (linear and without weights),
    `Pass` (value by value), `Mask` (a gate of its own). For a layer with weights, teach `linear_parts` its weighted sum
    and register `Epsilon(...)` or another rule for such layers. For anything else write a `Rule` with an `apply` of its
    own.

    Args:
        layer_class: the layers of this class and of its subclasses.
        rule: what they get unless an entry of the composite fits them.
        like: the type that they are from now on, a key of `egt_tf.lrp.layer_types.LAYER_TYPES`. Exactly one of `rule`
            and `like` is given.
        convention: the composites that the rule is for, by whose numbers they follow (one of `CONVENTIONS`); None: all
            composites that have no rule of their own convention.

    Raises:
        ExplainError: the class is none of Keras 2's layers; both or none of `rule` and `like`, an unknown type or
            convention, or a convention with `like`.

    Example:
        >>> class SwapHalves(keras.layers.Layer):
        ...     def call(self, x):
        ...         return tf.concat(tf.split(x, 2, axis=-1)[::-1], axis=-1)
        >>> register_rule(SwapHalves, like="route")

        >>> from egt_tf.lrp.rules import Pass
        >>> class Double(keras.layers.Layer):
        ...     def call(self, x):
        ...         return 2.0 * x
        >>> register_rule(Double, Pass())
        >>> registered_rule(Double(), "zennit")
        Pass()
    """
    if not (inspect.isclass(layer_class) and issubclass(layer_class, keras.layers.Layer)):
        raise ExplainError(f"`layer_class` must be a class of layers of egt_tf.keras. Received: {layer_class!r}")
    if (rule is None) == (like is None):
        raise ExplainError(f"either `rule` or `like` must be given. Received: rule={rule!r}, like={like!r}")
    if like is not None:
        if convention is not None:
            raise ExplainError(
                f"a layer is like another in every convention. Received: like={like!r}, convention={convention!r}"
            )
        treat_like(layer_class, like)
    if rule is not None:
        if convention is not None:
            _check_convention(convention)
        _REGISTERED[layer_class, convention] = rule


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise ExplainError(f"`convention` must be one of {', '.join(CONVENTIONS)}. Received: convention={convention!r}")
