"""The composites that have names: those of the published code, of zennit and of innvestigate."""

from __future__ import annotations

from collections.abc import Sequence

from egt_tf.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from egt_tf.heads.lrp_rules import (
    AttendedFraction,
    AttentionGate,
    Fraction,
    NeighbourhoodShare,
    RouteWithout,
    ShareProduct,
)
from egt_tf.lrp.composites import Composite, Entry
from egt_tf.lrp.linear_rules import (
    AlphaBeta,
    AlphaBetaX,
    Bounded,
    Epsilon,
    Flat,
    Gamma,
    InnvestigateBatchNorm,
    LinearRule,
    Magnitude,
    WSquare,
    Z,
    ZPlus,
)
from egt_tf.lrp.output_relevance import PUBLISHED_EPSILON
from egt_tf.lrp.rules import Gate, Mask, Pass, Route, Rule, Share, ShareSum
from egt_tf.registry import Registry

COMPOSITES = Registry("composite")

# zennit's, in every denominator.
ZENNIT_STABILIZER = 1e-6
# Black and white after the normalisation by ImageNet's mean and standard deviation, channel by channel.
DARKEST = tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
BRIGHTEST = tuple((1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))

Bound = float | Sequence[float]


def similarity_entries(epsilon: float, query: float = 0.5, prototype: float = 0.5) -> tuple[Entry, ...]:
    """Entries for the layers of heads that compare pooled maps (cross attention, prototypes, cosines).

    Args:
        epsilon: stabiliser of their sums and means.
        query: part of a product's relevance that goes to the query.
        prototype: part that goes to the prototype; conserving if both add up to 1.
    """
    return (
        Entry(Fraction(epsilon), kind="reduction"),
        Entry(ShareProduct(query, prototype), kind="pair_product"),
        Entry(Pass(), kind="elementwise"),
        Entry(AttentionGate(), kind="attended_query"),
        Entry(AttendedFraction(epsilon), kind="attended_prototype"),
    )


def structural_entries(
    max_pool: Rule = Share(), relu: Rule = Mask(), neighbourhood: Rule = NeighbourhoodShare()
) -> tuple[Entry, ...]:
    """Entries for layers without weights, which every composite ends with.

    Args:
        max_pool: `Share()` as published (windows whose maximum is zero lose their relevance), or `Route()`.
        relu: `Mask()` as published, or `Pass()`. They differ below rules that give relevance to zeros (flat, w^2).
        neighbourhood: for nodes of a graph beside the mean of their neighbours.
    """
    return (
        Entry(relu, kind="relu"),
        Entry(Pass(), kind="activation"),
        Entry(max_pool, kind="max_pool"),
        Entry(Share(), kind="mean"),
        Entry(Gate(), kind="gate"),
        Entry(neighbourhood, kind="neighbourhood"),
        Entry(Route(), kind="route"),
    )


def _few_shot(convolution: Rule, batch_norm: Rule, name: str, skip_relevance: bool = True) -> Composite:
    skip = () if skip_relevance else (Entry(RouteWithout((1,)), kind="skip"),)
    return Composite(
        (
            *skip,
            Entry(convolution, kind="convolution"),
            Entry(Epsilon(PUBLISHED_EPSILON, bias=False), kind="dense"),
            Entry(batch_norm, kind="batch_norm"),
            Entry(ShareSum(PUBLISHED_EPSILON), kind="add"),
            *similarity_entries(PUBLISHED_EPSILON, 1.0, 1.0),
            *structural_entries(),
        ),
        name,
    )


@COMPOSITES.register("fsc")
def fsc(skip_relevance: bool = False) -> Composite:
    """Published for RelationNet and GNN: convolution alpha 1 beta 0, dense epsilon 0.01, batch norm unchanged.

    Args:
        skip_relevance: keep the relevance of features that skip a level of a graph network, which the published code
            loses: it takes no relevance from the last level straight back to the features of the first.
    """
    return _few_shot(AlphaBeta(1.0, 0.0, bias=False), Pass(), "fsc", skip_relevance)


@COMPOSITES.register("fsc_gamma")
def fsc_gamma(gamma: float = 0.25, skip_relevance: bool = False) -> Composite:
    """As fsc, with the gamma rule for convolutions."""
    # The sign of the contributions: biases do not take part here, and the normalisation behind moves the sign anyway.
    convolution = Gamma(gamma, bias=False, bias_in_sign=False)
    return _few_shot(convolution, Pass(), "fsc_gamma", skip_relevance)


@COMPOSITES.register("fsc_can")
def fsc_can() -> Composite:
    """Published for CAN: convolution alpha 1.5 beta 0.5, batch norm in proportion to signal and shift."""
    return _few_shot(AlphaBeta(1.5, 0.5, bias=False), Magnitude(), "fsc_can")


def _zennit(first: Sequence[Entry], convolution: Rule, bias: bool, epsilon: float, name: str) -> Composite:
    """Relevance passes zennit's activations unchanged; its sums and means have the stabiliser too."""
    return Composite(
        (
            *first,
            Entry(convolution, kind="convolution"),
            Entry(Epsilon(epsilon, bias), kind="dense"),
            Entry(Epsilon(epsilon, bias), kind="batch_norm"),
            Entry(ShareSum(ZENNIT_STABILIZER), kind="add"),
            Entry(Share(ZENNIT_STABILIZER), kind="mean"),
            *similarity_entries(ZENNIT_STABILIZER),
            *structural_entries(Route(), Pass(), NeighbourhoodShare(ZENNIT_STABILIZER, exact_identity=True)),
        ),
        name,
    )


@COMPOSITES.register("epsilon")
def epsilon(epsilon: float = ZENNIT_STABILIZER, bias: bool = True) -> Composite:
    """The epsilon rule for every layer with weights.

    Without the biases relevance grows wherever a sum nearly cancels: in deep networks with batch normalisation beyond
    the range of float32.
    """
    return _zennit((), Epsilon(epsilon, bias), bias, epsilon, "epsilon")


@COMPOSITES.register("epsilon_plus")
def epsilon_plus(bias: bool = True) -> Composite:
    """Convolution z+, dense epsilon (zennit's EpsilonPlus)."""
    return _zennit((), ZPlus(bias, ZENNIT_STABILIZER), bias, ZENNIT_STABILIZER, "epsilon_plus")


@COMPOSITES.register("epsilon_gamma_box")
def epsilon_gamma_box(low: Bound = DARKEST, high: Bound = BRIGHTEST, bias: bool = True) -> Composite:
    """First convolution z^B between black and white, other convolutions gamma 0.25, dense epsilon."""
    first = Entry(Bounded(low, high, ZENNIT_STABILIZER), kind="convolution", first=True)
    convolution = Gamma(0.25, bias, ZENNIT_STABILIZER, bias_in_sign=bias)
    return _zennit((first,), convolution, bias, ZENNIT_STABILIZER, "epsilon_gamma_box")


@COMPOSITES.register("epsilon_alpha2_beta1_flat")
def epsilon_alpha2_beta1_flat(bias: bool = True) -> Composite:
    """First layer flat, convolutions alpha 2 beta 1, dense epsilon."""
    first = [Entry(Flat(ZENNIT_STABILIZER), kind=kind, first=True) for kind in ("convolution", "dense")]
    rule = AlphaBeta(2.0, 1.0, bias, stabilizer=ZENNIT_STABILIZER)
    return _zennit(first, rule, bias, ZENNIT_STABILIZER, "epsilon_alpha2_beta1_flat")


def _innvestigate(
    name: str,
    dense: Rule,
    convolution: Rule,
    batch_norm: LinearRule,
    innvestigate_batch_norm: bool,
    first: Sequence[Entry] = (),
) -> Composite:
    """innvestigate guards exact zeros in sums and means and moves relevance through max-pooling by the gradient.

    Relevance passes its activations unchanged.
    """
    norm = InnvestigateBatchNorm(batch_norm) if innvestigate_batch_norm else batch_norm
    return Composite(
        (
            *first,
            Entry(dense, kind="dense"),
            Entry(convolution, kind="convolution"),
            Entry(norm, kind="batch_norm"),
            Entry(Share(), kind="add"),
            *similarity_entries(0.0),
            *structural_entries(Route(), Pass(), NeighbourhoodShare(0.0, exact_identity=True)),
        ),
        name,
    )


def _same_everywhere(name: str, rule: LinearRule, innvestigate_batch_norm: bool) -> Composite:
    return _innvestigate(name, rule, rule, rule, innvestigate_batch_norm)


@COMPOSITES.register("lrp.z")
def lrp_z(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.z: the plain rule for every layer with weights."""
    return _same_everywhere("lrp.z", Z(), innvestigate_batch_norm)


@COMPOSITES.register("lrp.epsilon")
def lrp_epsilon(epsilon: float = 1e-7, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.epsilon: the epsilon rule for every layer with weights."""
    return _same_everywhere("lrp.epsilon", Epsilon(epsilon), innvestigate_batch_norm)


@COMPOSITES.register("lrp.w_square")
def lrp_w_square(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.w_square: the squared weights for every layer with weights."""
    return _same_everywhere("lrp.w_square", WSquare(padding=True), innvestigate_batch_norm)


@COMPOSITES.register("lrp.flat")
def lrp_flat(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.flat: equal shares for every layer with weights."""
    return _same_everywhere("lrp.flat", Flat(padding=True), innvestigate_batch_norm)


@COMPOSITES.register("lrp.z_plus")
def lrp_z_plus(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.z_plus: positive contributions alone, without biases."""
    return _same_everywhere("lrp.z_plus", ZPlus(), innvestigate_batch_norm)


@COMPOSITES.register("lrp.alpha_1_beta_0")
def lrp_alpha_1_beta_0(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.alpha_1_beta_0: positive contributions alone, the whole bias in the denominators."""
    return _same_everywhere("lrp.alpha_1_beta_0", AlphaBeta(1.0, 0.0, whole_bias=True), innvestigate_batch_norm)


@COMPOSITES.register("lrp.alpha_2_beta_1")
def lrp_alpha_2_beta_1(innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.alpha_2_beta_1: positive and negative contributions apart, the whole bias in each."""
    return _same_everywhere("lrp.alpha_2_beta_1", AlphaBeta(2.0, 1.0, whole_bias=True), innvestigate_batch_norm)


def _preset(name: str, alpha: float, epsilon: float, innvestigate_batch_norm: bool, flat: bool) -> Composite:
    first = [Entry(Flat(padding=True), kind=kind, first=True) for kind in ("dense", "convolution")] if flat else ()
    convolution = AlphaBeta(alpha, alpha - 1.0, whole_bias=True)
    return _innvestigate(name, Epsilon(epsilon), convolution, AlphaBetaX(), innvestigate_batch_norm, first)


@COMPOSITES.register("lrp.sequential_preset_a")
def lrp_sequential_preset_a(epsilon: float = 0.1, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's preset A: dense epsilon 0.1, convolution alpha 1 beta 0."""
    return _preset("lrp.sequential_preset_a", 1.0, epsilon, innvestigate_batch_norm, flat=False)


@COMPOSITES.register("lrp.sequential_preset_b")
def lrp_sequential_preset_b(epsilon: float = 0.1, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's preset B: dense epsilon 0.1, convolution alpha 2 beta 1."""
    return _preset("lrp.sequential_preset_b", 2.0, epsilon, innvestigate_batch_norm, flat=False)


@COMPOSITES.register("lrp.sequential_preset_a_flat")
def lrp_sequential_preset_a_flat(epsilon: float = 0.1, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's preset A with equal shares in the first layer."""
    return _preset("lrp.sequential_preset_a_flat", 1.0, epsilon, innvestigate_batch_norm, flat=True)


@COMPOSITES.register("lrp.sequential_preset_b_flat")
def lrp_sequential_preset_b_flat(epsilon: float = 0.1, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's preset B with equal shares in the first layer."""
    return _preset("lrp.sequential_preset_b_flat", 2.0, epsilon, innvestigate_batch_norm, flat=True)
