"""Ridge regression (Bertinetto et al., ICLR 2019, "Meta-learning with Differentiable Closed-form Solvers", R2D2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError, check_positive
from egt_tf.heads.base import HEADS, Head, relate_inputs
from egt_tf.heads.layers import PairConcat
from egt_tf.heads.ridge_layers import CentredMaps, MapCombination, RidgeCoefficients, UnitVector
from egt_tf.heads.similarity import AxisSum, PairProduct, Scale, cross_entropy, pooled_pairs
from egt_tf.keras_api import keras

# Below, rounding in float32 shows in the scores of a few hundred support images; above, every score is 0.
PENALTIES = (1e-3, 1e6)


@HEADS.register("ridge")
class RidgeHead(Head):
    """Classifies a query by a linear classifier that is fitted to the support images in closed form.

    Features: beside the query's map that of each class, which is a weighted sum of all support maps, the images of
    other classes with weights below 0 as a rule; `(episodes, queries, ways, h, w, 2 c)`. Scores, for the spatial means
    q and w_k: `scale <w_k, q / ||q||>`. The weights come from ridge regression of the support images' unit vectors on
    their one-hot labels: `W = F^T (F F^T + penalty I)^-1 Y`. The gradient goes through the solution. The head has no
    weights of its own.

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        penalty: of the squared length of the w_k, 0.001 to 1000000. The unit vectors have the length 1, so that with a
            penalty far above the number of images a class, the w_k are in the direction of the class's mean.
        scale: of the inner products, the inverse temperature of the probabilities.
        centre: whether the mean of the support images is subtracted from all maps before they get the length 1.
        seed: not used; every head takes one.

    Raises:
        ConfigError: `penalty` out of its range, `scale` not above 0, or `centre` neither true nor false.

    Notes:
        The paper learns the penalty, the scale and an offset that is the same for all classes; here the first two are
        fixed and the last, which changes no probability, is left out. The unit vectors are not in the paper.
        Relevance takes the coefficients of the support images as constants. Of a centred map the relevance stays with
        the query: what the mean alone would say is not told apart.

    Example:
        >>> head = RidgeHead((4, 4, 8), seed=0)
        >>> support, query = tf.ones((1, 6, 4, 4, 8)), tf.ones((1, 3, 4, 4, 8))
        >>> labels = tf.one_hot([[0, 1, 2, 0, 1, 2]], 3)
        >>> head([support, labels, query]).shape
        TensorShape([1, 3, 3])
    """

    first_pairs = "pair_features"
    has_halves = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        penalty: float = 1.0,
        scale: float = 10.0,
        centre: bool = False,
        seed: int | None = None,
        name: str = "ridge",
        **kwargs: Any,
    ):
        super().__init__(feature_shape, name=name, **kwargs)
        check_positive("scale", scale)
        _check_penalty(penalty)
        if not isinstance(centre, bool):
            raise ConfigError(f"`centre` must be true or false. Received: centre={centre!r}")

        # === Config ===
        self.penalty = float(penalty)
        self.scale = float(scale)
        self.centre = centre
        self.seed = seed

        # === Functional Models ===
        self.relate_model = self._relate_model()
        self.score_model = self._score_model()

    def _relate_model(self) -> keras.Model:
        support, labels, query = inputs = relate_inputs(self.feature_shape)
        coefficients = RidgeCoefficients(self.penalty, self.centre, name="coefficients")([support, labels])
        classes = MapCombination(name="prototypes")([support, coefficients])
        if self.centre:
            query = CentredMaps(name="centred")([query, support])
        return keras.Model(inputs, PairConcat(name="pairs")([classes, query]), name="relate")

    def _score_model(self) -> keras.Model:
        pairs, query, weights = pooled_pairs(self.feature_shape)
        product = PairProduct(name="product")([UnitVector(name="unit_query")(query), weights])
        return keras.Model(pairs, Scale(self.scale, name="scores")(AxisSum(-1, name="sum")(product)), name="score")

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy over the ways, averaged over the queries of each episode; see `Head.loss` for the shapes."""
        return cross_entropy(labels, scores)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        own = {"penalty": self.penalty, "scale": self.scale, "centre": self.centre, "seed": self.seed}
        return {**super().get_config(), **own}


def _check_penalty(penalty: float) -> None:
    check_positive("penalty", penalty)
    smallest, largest = PENALTIES
    if not smallest <= penalty <= largest:
        raise ConfigError(f"`penalty` must be between {smallest} and {largest:.0f}. Received: penalty={penalty}")
