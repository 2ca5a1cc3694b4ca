"""Composites: which rule each layer gets. An ordered list; the first entry that fits a layer wins."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tensorflow import keras

from egt_tf.errors import ExplainError
from egt_tf.explain.kinds import KINDS, is_kind
from egt_tf.explain.rules import AlphaBeta, Epsilon, Mask, Pass, Route, Rule, Share, ShareSum
from egt_tf.registry import Registry

COMPOSITES = Registry("composite")

# The published code's stabiliser, in the start relevance and in every epsilon rule.
PUBLISHED_EPSILON = 0.01


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of a composite.

    Attributes:
        rule: what the layers it fits get.
        kind: fits layers of this kind (a key of `egt_tf.explain.kinds.KINDS`), or None.
        layer: fits the layer of exactly this name, or None. Exactly one of the two is set.
    """

    rule: Rule
    kind: str | None = None
    layer: str | None = None

    def __post_init__(self):
        if (self.kind is None) == (self.layer is None):
            raise ExplainError("an entry must have either `kind` or `layer`. "
                               f"Received: kind={self.kind!r}, layer={self.layer!r}")
        if self.kind is not None and self.kind not in KINDS:
            raise ExplainError(f"`kind` must be one of {', '.join(KINDS)}. Received: kind={self.kind!r}")

    def fits(self, layer: keras.layers.Layer) -> bool:
        """Whether this entry decides about `layer`."""
        return layer.name == self.layer if self.kind is None else is_kind(layer, self.kind)


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

    def rule_for(self, layer: keras.layers.Layer) -> Rule:
        """The rule of `layer`.

        Raises:
            ExplainError: no entry fits.
        """
        for entry in self.entries:
            if entry.fits(layer):
                return entry.rule
        raise ExplainError(f"no rule of composite {self.name!r} fits layer {layer.name!r} of class "
                           f"{type(layer).__name__}; prepend Entry(rule, layer={layer.name!r}) to the composite")


def structural_entries() -> tuple[Entry, ...]:
    """Entries for layers without weights, which most composites end with."""
    return (Entry(Mask(), kind="relu"), Entry(Pass(), kind="activation"), Entry(Share(), kind="max_pool"),
            Entry(Share(), kind="mean"), Entry(Route(), kind="route"))


@COMPOSITES.register("fsc")
def fsc() -> Composite:
    """As published for RelationNet and GNN: convolution alpha 1 beta 0, dense epsilon 0.01, batch norm identity."""
    return Composite((
        Entry(AlphaBeta(1.0, 0.0, bias=False), kind="convolution"),
        Entry(Epsilon(PUBLISHED_EPSILON, bias=False), kind="dense"),
        Entry(Pass(), kind="batch_norm"),
        Entry(ShareSum(PUBLISHED_EPSILON), kind="add"),
        *structural_entries()), "fsc")
