"""Whether explanations look at the weights: maps while layers get random ones, from the scores down.

Source: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity checks for saliency maps", NeurIPS 2018.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from egt_tf.data.image_set import OnProgress
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.explained_model import explainer_of
from egt_tf.evaluation.judged_queries import JudgedQuery
from egt_tf.explain.methods import Method
from egt_tf.explain.query import query_inputs
from egt_tf.explain.query_scores import QueryScores
from egt_tf.keras_api import keras
from egt_tf.measures import rank_correlation


@dataclasses.dataclass(frozen=True, eq=False)
class Randomization:
    """How much is left of maps.

    Attributes:
        methods: M names.
        layers: L names, in the order in which layers lost their weights; each row has all layers before it too.
        correlations: Spearman's correlation of the magnitudes with those of the trained model, `(M, L, queries)`. A
            method that looks at the weights loses it.

    Example:
        >>> Randomization(("fsc",), ("scores",), np.zeros((1, 1, 2))).correlations.mean(-1)
        array([[0.]])
    """

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    correlations: np.ndarray


def randomize(
    model: EpisodicModel,
    methods: Sequence[Method],
    queries: Sequence[JudgedQuery],
    seed: int = 0,
    progress: OnProgress | None = None,
) -> Randomization:
    """Explains queries by a model whose layers get random weights one after the other, from the scores down.

    The class is that which the trained model predicts, at every step.

    Args:
        model: the classifier; it keeps its weights.
        methods: at least one.
        queries: at least one.
        seed: of the random weights.
        progress: called with (layers done, layers).

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> from egt_tf.explain.methods import get_method
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 2}, "prototype", image_size=16, seed=1)
        >>> images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
        >>> query = JudgedQuery(SupportSet(("ant", "bee"), images[:2, None]), images[2], None)
        >>> randomize(model, [get_method("gradient")], [query]).layers[0]
        'block4_bn'
    """
    scores = QueryScores(model)
    inputs = [query_inputs(model, query.support, query.image) for query in queries]
    targets = [int(scores(x, query.image[None])[0].argmax()) for x, query in zip(inputs, queries, strict=True)]

    def maps(explained: EpisodicModel) -> np.ndarray:
        explainers = [explainer_of(explained, method) for method in methods]
        found = [[explain(x, target) for x, target in zip(inputs, targets, strict=True)] for explain in explainers]
        return np.array(found)

    trained, names, correlations = maps(model), [], []
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    layers = list(_from_the_top(copy))
    for number, layer in enumerate(layers):
        _redraw(layer, np.random.default_rng([seed, number]))
        names.append(layer.name)
        correlations.append(rank_correlation(maps(copy), trained))
        if progress is not None:
            progress(number + 1, len(layers))
    return Randomization(tuple(method.name for method in methods), tuple(names), np.stack(correlations, axis=1))


def _from_the_top(model: EpisodicModel) -> Iterator[keras.layers.Layer]:
    """Layers with weights that the scores hang on, the last ones first."""
    seen: set[int] = set()
    for part in (model.head.score_model, model.head.relate_model, model.backbone):
        for layer in reversed(list(_flat(part))):
            if layer.weights and id(layer) not in seen:
                seen.add(id(layer))
                yield layer


def _flat(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def _redraw(layer: keras.layers.Layer, rng: np.random.Generator) -> None:
    """Kernels are drawn anew with the deviation that they had; vectors, some of which must be positive, are shuffled."""
    layer.set_weights(
        [
            rng.normal(0.0, values.std(), values.shape) if values.ndim > 1 else rng.permutation(values)
            for values in layer.get_weights()
        ]
    )
