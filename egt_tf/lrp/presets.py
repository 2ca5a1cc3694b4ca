"""The composites that have names: those of the published code, of zennit and of innvestigate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from egt_tf.errors import ExplainError, as_number
from egt_tf.lrp.attention import Attention, MatrixProduct
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
from egt_tf.lrp.rules import (
    PUBLISHED_EPSILON,
    ZENNIT_STABILIZER,
    Derivative,
    Gate,
    Mask,
    Pass,
    RouteWithout,
    Rule,
    Share,
    ShareSum,
    SoftmaxShare,
)
from egt_tf.registry import Registry
from egt_tf.tensors import IMAGENET_MEAN, IMAGENET_STD

COMPOSITES = Registry("composite")

# Black and white after the normalisation by ImageNet's mean and standard deviation, channel by channel.
DARKEST = tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
BRIGHTEST = tuple((1 - mean) / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))

Bound = float | Sequence[float]


def structural_entries(
    max_pool: Rule = Share(),
    relu: Rule = Mask(),
    linear: Rule = Share(),
    normalization: Rule = Z(),
    product: Rule = MatrixProduct(),
    attention: Rule = Attention(),
) -> tuple[Entry, ...]:
    """Entries for layers without a kernel, which every composite ends with.

    Args:
        max_pool: `Share()` as published (windows whose maximum is zero lose their relevance), or `Derivative()`.
        relu: `Mask()` as published, or `Pass()`. They differ below rules that give relevance to zeros (flat, w^2).
        linear: of differences and of interpolation with weights of both signs.
        normalization: of layer and group normalisation.
        product: of sums of products of two activations.
        attention: of Keras's multi-head attention.
    """
    return (
        Entry(relu, layer_type="relu"),
        Entry(SoftmaxShare(), layer_type="softmax"),
        Entry(Pass(), layer_type="activation"),
        # The pixels in other units. Inside a network, a constant that is added takes its share (the last entry).
        Entry(Pass(), layer_type="rescaling", first=True),
        Entry(normalization, layer_type="normalization"),
        Entry(max_pool, layer_type="max_pool"),
        Entry(Share(), layer_type="mean"),
        Entry(linear, layer_type="linear"),
        Entry(Gate(), layer_type="gate"),
        Entry(product, layer_type="product"),
        Entry(attention, layer_type="attention"),
        Entry(Derivative(), layer_type="route"),
        Entry(Derivative(), layer_type="channel_order"),
        Entry(linear, layer_type="rescaling"),
    )


def _few_shot(convolution: Rule, batch_norm: Rule, name: str, skip_relevance: bool = True) -> Composite:
    skip = () if skip_relevance else (Entry(RouteWithout((1,)), layer_type="skip"),)
    return Composite(
        (
            *skip,
            Entry(convolution, layer_type="convolution"),
            Entry(Epsilon(PUBLISHED_EPSILON, bias=False), layer_type="dense"),
            Entry(batch_norm, layer_type="batch_norm"),
            Entry(ShareSum(PUBLISHED_EPSILON), layer_type="add"),
            *structural_entries(
                normalization=Epsilon(PUBLISHED_EPSILON, bias=False),
                product=MatrixProduct(PUBLISHED_EPSILON),
                attention=Attention(PUBLISHED_EPSILON, bias=False),
            ),
        ),
        name,
        convention="published",
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
            Entry(convolution, layer_type="convolution"),
            Entry(Epsilon(epsilon, bias), layer_type="dense"),
            Entry(Epsilon(epsilon, bias), layer_type="batch_norm"),
            Entry(ShareSum(ZENNIT_STABILIZER), layer_type="add"),
            Entry(Share(ZENNIT_STABILIZER), layer_type="mean"),
            *structural_entries(
                Derivative(),
                Pass(),
                Share(ZENNIT_STABILIZER),
                Epsilon(epsilon, bias),
                MatrixProduct(epsilon),
                Attention(epsilon, bias=bias),
            ),
        ),
        name,
        convention="zennit",
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
    first = Entry(Bounded(low, high, ZENNIT_STABILIZER), layer_type="convolution", first=True)
    convolution = Gamma(0.25, bias, ZENNIT_STABILIZER, bias_in_sign=bias)
    return _zennit((first,), convolution, bias, ZENNIT_STABILIZER, "epsilon_gamma_box")


@COMPOSITES.register("epsilon_alpha2_beta1_flat")
def epsilon_alpha2_beta1_flat(bias: bool = True) -> Composite:
    """First layer flat, convolutions alpha 2 beta 1, dense epsilon."""
    first = [
        Entry(Flat(ZENNIT_STABILIZER), layer_type=layer_type, first=True) for layer_type in ("convolution", "dense")
    ]
    rule = AlphaBeta(2.0, 1.0, bias, stabilizer=ZENNIT_STABILIZER)
    return _zennit(first, rule, bias, ZENNIT_STABILIZER, "epsilon_alpha2_beta1_flat")


@COMPOSITES.register("cp_lrp")
def cp_lrp(epsilon: float = ZENNIT_STABILIZER, bias: bool = True) -> Composite:
    """The epsilon rule, with attention as a constant: relevance passes its values alone (Ali et al., 2022).

    Nothing passes a softmax, wherever it is.
    """
    first = Entry(RouteWithout((0,)), layer_type="softmax")
    return _zennit((first,), Epsilon(epsilon, bias), bias, epsilon, "cp_lrp")


@COMPOSITES.register("attn_lrp")
def attn_lrp(epsilon: float = ZENNIT_STABILIZER, bias: bool = True) -> Composite:
    """The epsilon rule, through the softmax of attention too (AttnLRP, Achtibat et al., 2024).

    The sum is not conserved: a softmax has relevance of its own.
    """
    first = (
        Entry(MatrixProduct(epsilon, gates=False), layer_type="product"),
        Entry(Attention(epsilon, softmax=True, bias=bias), layer_type="attention"),
    )
    return _zennit(first, Epsilon(epsilon, bias), bias, epsilon, "attn_lrp")


@COMPOSITES.register("vit_gamma")
def vit_gamma(conv_gamma: float = 0.25, dense_gamma: float = 0.05, bias: bool = True) -> Composite:
    """As cp_lrp, with gamma rules against noise: conv_gamma for convolutions, dense_gamma for dense layers.

    The projections of `MultiHeadAttention` keep the epsilon rule. Of attention in plain layers they are dense layers
    like any other, unless the composite is told their names.

    Args:
        conv_gamma: >= 0, of convolutions; 0 is the epsilon rule.
        dense_gamma: >= 0, of dense layers outside `MultiHeadAttention`; 0 is the epsilon rule.
        bias: whether biases keep their share.

    Raises:
        ExplainError: a negative gamma.

    Notes:
        Nobody recommends numbers that suit every network: try some (conv_gamma 0.1, 0.25, 100; dense_gamma 0, 0.01, 0.05,
        0.1, 1) and compare them by a measure such as deletion.
    """
    first = (
        Entry(RouteWithout((0,)), layer_type="softmax"),
        Entry(_gamma_or_epsilon("dense_gamma", dense_gamma, bias), layer_type="dense"),
    )
    return _zennit(first, _gamma_or_epsilon("conv_gamma", conv_gamma, bias), bias, ZENNIT_STABILIZER, "vit_gamma")


def _gamma_or_epsilon(argument: str, gamma: float, bias: bool) -> Rule:
    number = as_number(gamma)
    if number is None or number < 0:
        raise ExplainError(f"`{argument}` must be a finite number >= 0. Received: {argument}={gamma!r}")
    if number == 0:
        return Epsilon(ZENNIT_STABILIZER, bias)
    return Gamma(number, bias, ZENNIT_STABILIZER, bias_in_sign=bias)


def _innvestigate(
    name: str,
    dense: Rule,
    convolution: Rule,
    batch_norm: LinearRule,
    innvestigate_batch_norm: bool,
    first: Rule | None = None,
) -> Composite:
    """innvestigate guards exact zeros in sums and means and moves relevance through max-pooling by the gradient.

    Relevance passes its activations unchanged.
    """
    weighted_sums = ("dense", "convolution")
    firsts = () if first is None else [Entry(first, layer_type=each, first=True) for each in weighted_sums]
    norm = InnvestigateBatchNorm(batch_norm) if innvestigate_batch_norm else batch_norm
    return Composite(
        (
            *firsts,
            Entry(dense, layer_type="dense"),
            Entry(convolution, layer_type="convolution"),
            Entry(norm, layer_type="batch_norm"),
            Entry(Share(), layer_type="add"),
            *structural_entries(Derivative(), Pass()),
        ),
        name,
        convention="innvestigate",
    )


@COMPOSITES.register("lrp.epsilon")
def lrp_epsilon(epsilon: float = 1e-7, innvestigate_batch_norm: bool = False) -> Composite:
    """innvestigate's lrp.epsilon: the epsilon rule for every layer with weights."""
    return _innvestigate("lrp.epsilon", *3 * (Epsilon(epsilon),), innvestigate_batch_norm)


def _register(name: str, summary: str, factory: Callable[..., Composite]) -> None:
    factory.__doc__ = f"innvestigate's {summary}."
    COMPOSITES.register(name)(factory)


def _same_everywhere(name: str, rule: LinearRule) -> Callable[..., Composite]:
    def composite(innvestigate_batch_norm: bool = False) -> Composite:
        return _innvestigate(name, rule, rule, rule, innvestigate_batch_norm)

    return composite


for _name, _rule, _summary in (
    ("lrp.z", Z(), "the plain rule for every layer with weights"),
    ("lrp.w_square", WSquare(padding=True), "the squared weights for every layer with weights"),
    ("lrp.flat", Flat(padding=True), "equal shares for every layer with weights"),
    ("lrp.z_plus", ZPlus(), "positive contributions alone, without biases"),
    (
        "lrp.alpha_1_beta_0",
        AlphaBeta(1.0, 0.0, whole_bias=True),
        "positive contributions alone, the whole bias in the denominators",
    ),
    (
        "lrp.alpha_2_beta_1",
        AlphaBeta(2.0, 1.0, whole_bias=True),
        "positive and negative contributions apart, the whole bias in each",
    ),
):
    _register(_name, f"{_name}: {_summary}", _same_everywhere(_name, _rule))


def _preset(name: str, alpha: float, first: Rule | None) -> Callable[..., Composite]:
    convolution = AlphaBeta(alpha, alpha - 1.0, whole_bias=True)

    def composite(epsilon: float = 0.1, innvestigate_batch_norm: bool = False) -> Composite:
        return _innvestigate(name, Epsilon(epsilon), convolution, AlphaBetaX(), innvestigate_batch_norm, first)

    return composite


for _letter, _alpha, _flat, _summary in (
    ("a", 1.0, False, "preset A: dense epsilon 0.1, convolution alpha 1 beta 0"),
    ("b", 2.0, False, "preset B: dense epsilon 0.1, convolution alpha 2 beta 1"),
    ("a_flat", 1.0, True, "preset A with equal shares in the first layer"),
    ("b_flat", 2.0, True, "preset B with equal shares in the first layer"),
):
    _name = f"lrp.sequential_preset_{_letter}"
    _register(_name, _summary, _preset(_name, _alpha, Flat(padding=True) if _flat else None))
