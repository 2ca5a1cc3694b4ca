"""What every head has: two stages, a loss and probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras, unconverted
from egt_tf.registry import Registry

HEADS = Registry("head")

# Axes of a map for each pair of a query and a class, `(episodes, queries, ways, h, w, channels)`.
_AXES_WITH_POSITIONS = 6


def relate_inputs(feature_shape: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The inputs of a head's first stage: support maps, one-hot support labels and query maps.

    Args:
        feature_shape: (h, w, c).

    Returns:
        Symbols of the shapes `(episodes, support, h, w, c)`, `(episodes, support, ways)` and
        `(episodes, queries, h, w, c)`.
    """
    support = keras.Input((None, *feature_shape), name="support_features")
    labels = keras.Input((None, None), name="support_labels")
    return support, labels, keras.Input((None, *feature_shape), name="query_features")


def take_classes(x: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """What belongs to some classes of each query: `y[e, q, n] = x[e, q, classes[e, q, n]]`.

    Args:
        x: `(episodes, queries, ways, ...)`.
        classes: integers `(episodes, queries, n)`.

    Returns:
        `(episodes, queries, n, ...)`.

    Example:
        >>> take_classes(tf.constant([[[5.0, 6.0, 7.0]]]), tf.constant([[[2, 0]]])).numpy().tolist()
        [[[7.0, 5.0]]]
    """
    return tf.gather(x, classes, axis=2, batch_dims=2)


def has_positions(shape: tf.TensorShape) -> bool:
    """Whether what a head weights is maps, `(episodes, ., ., h, w, channels)`, or vectors, `(episodes, ., ., channels)`.

    Example:
        >>> has_positions(tf.TensorShape([None, None, 5, 7, 7, 64])), has_positions(tf.TensorShape([None, 3, 6, 128]))
        (True, False)
    """
    return len(shape) == _AXES_WITH_POSITIONS


class Head(keras.layers.Layer):
    """Compares the queries of an episode with its support set in two stages.

    `features = relate(support, support_labels, query)` are what gets explained and weighted, and whatever else the
    scores need; `scores = score(features)`. A subclass sets `relate_model` and `score_model`, two Functional Keras
    models, in its constructor; guidance and explanation need nothing else. What a head does in its own way is in the
    attributes below and in `training_scores` and `auxiliary_loss`.

    Args:
        feature_shape: (height, width, channels) of the backbone's feature map.

    Attributes:
        auxiliary_model: weights that only training uses, or None.
        explained_layer: name of the layer of `score_model` whose output is the raw scores that relevance starts from,
            classes last; None: the scores themselves.
        weighted_layers: names of the layers of `score_model` whose outputs' relevance becomes weights, an input's name
            for an input; empty: the first input.
        first_pairs: name of the input or layer of `score_model` that holds pairs of queries and classes,
            `(episodes, queries, ways, ...)`, as all behind it does; None: queries are not compared with each class by
            itself.
        has_halves: whether what is weighted holds the channels of the prototype and, behind them, those of the query.
        needs_base_classes: whether the constructor takes `base_classes`, how many classes the training source has.
        needs_ways: whether the constructor takes `ways`, the number of classes that every episode must have.

    Example:
        >>> class Sum(Head):
        ...     def __init__(self, feature_shape, **kwargs):
        ...         super().__init__(feature_shape, **kwargs)
        ...         support, labels, query = inputs = relate_inputs(feature_shape)
        ...         self.relate_model = keras.Model(inputs, [query, labels])
        ...         self.score_model = keras.Sequential([keras.layers.Dense(3)])
        >>> Sum((2, 2, 4)).query_multiple(ways=3)
        1
    """

    relate_model: keras.Model
    score_model: keras.Model
    auxiliary_model: keras.Model | None
    explained_layer: str | None = None
    weighted_layers: tuple[str, ...] = ()
    first_pairs: str | None = None
    has_halves: bool = False
    needs_ways: bool = False
    needs_base_classes: bool = False

    def __init__(self, feature_shape: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        if len(feature_shape) != 3 or any(not side or side < 1 for side in feature_shape):
            raise ConfigError(
                "`feature_shape` must be (height, width, channels), all >= 1. "
                f"Received: feature_shape={tuple(feature_shape)}"
            )
        self.feature_shape = tuple(int(side) for side in feature_shape)
        # Not on the class: Keras tracks the weights of no attribute that the class has too.
        self.auxiliary_model = None

    @property
    def weights_positions(self) -> bool:
        """Whether anything that is weighted has positions, see `has_positions`."""
        symbols = [self.score_model.get_layer(name).output for name in self.weighted_layers]
        return any(has_positions(symbol.shape) for symbol in symbols or self.score_model.inputs[:1])

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a query's score depends, in inference, on the other queries of its episode."""
        return False

    def query_multiple(self, ways: int) -> int:
        """The number of queries in an episode must be a multiple of this."""
        return 1

    def filler_queries(self, support_size: int | tf.Tensor, ways: int | tf.Tensor) -> tf.Tensor:
        """Which support images are scored beside a query that is asked about alone, the first of its episode.

        A head that normalises by the statistics of its episode needs more than one query to have any: all support
        images then. Where the number of queries must be a multiple (`query_multiple`), support images fill it up,
        again from the first.

        Args:
            support_size: number of support images.
            ways: number of classes.

        Returns:
            Indices of support images, int32 `(fillers,)`; none for a head whose scores depend on no other query.
        """
        count = support_size if self.uses_batch_statistics else 0
        count += -(1 + count) % self.query_multiple(ways)
        return tf.range(count) % support_size

    def relate(
        self, support: tf.Tensor, support_labels: tf.Tensor, query: tf.Tensor, training: bool | None = None
    ) -> tf.Tensor | list[tf.Tensor]:
        """First stage.

        Args:
            support: features of the support images, `(episodes, support, height, width, channels)`.
            support_labels: one-hot labels, `(episodes, support, ways)`.
            query: features of the query images, `(episodes, queries, height, width, channels)`.
            training: whether normalisations use the statistics of the call.

        Returns:
            The features that `score` takes, a list if there are several; the last axis holds channels.
        """
        return self.relate_model([support, support_labels, query], training=training)

    def score(self, features: tf.Tensor | Sequence[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Second stage: raw scores `(episodes, queries, ways)`, unbounded; larger means more alike."""
        return self.score_model(features, training=training)

    @unconverted
    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        support, support_labels, query = inputs
        return self.score(self.relate(support, support_labels, query, training=training), training=training)

    def training_scores(
        self,
        features: Sequence[tf.Tensor],
        scores: tf.Tensor,
        weightings: Sequence[Weighting] | None = None,
        training: bool = True,
        classes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """What the loss is taken of: the raw scores, or those of the weighted features.

        Args:
            features: what `relate` gave, always as a list.
            scores: raw scores of the features.
            weightings: what is done to the output of each of `weighted_layers`, or None for no guidance.
            training: whether normalisations use the statistics of the call.
            classes: of each query, the classes that the weightings are of, integers `(episodes, queries, n)`, for a head
                with `first_pairs`; the scores are those of these classes then. None: of all.

        Returns:
            Raw scores `(episodes, queries, ..., ways)`.
        """
        return scores if weightings is None else self.weighted_scores(features, weightings, training, classes)

    def weighted_scores(
        self,
        features: Sequence[tf.Tensor],
        weightings: Sequence[Weighting],
        training: bool = True,
        classes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The raw scores of the weighted features, `(episodes, queries, ways)`; see `training_scores`."""
        first, *rest = features if classes is None else (take_classes(x, classes) for x in features)
        weighted = weightings[0](first)
        return self.score([weighted, *rest] if rest else weighted, training=training)

    def auxiliary_loss(
        self, features: Sequence[tf.Tensor], labels: tf.Tensor, base_labels: tf.Tensor | None, training: bool = True
    ) -> tf.Tensor:
        """A loss beside that of the scores, which guidance leaves alone.

        Args:
            features: what `relate` gave, always as a list.
            labels: class of each query in its episode, integers `(episodes, queries)`.
            base_labels: its class in the training source, or None where that is not known.
            training: whether normalisations use the statistics of the call.

        Returns:
            `(episodes,)`, >= 0; zeros if the head has none.
        """
        return tf.zeros(tf.shape(labels)[:1], keras.backend.floatx())

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Loss of each episode.

        Args:
            scores: what `training_scores` gave, `(episodes, queries, ..., ways)`.
            labels: class of each query, integers `(episodes, queries)`.

        Returns:
            `(episodes,)`, >= 0.
        """
        raise NotImplementedError

    def probabilities(self, scores: tf.Tensor) -> tf.Tensor:
        """Softmax of the raw scores over the ways, `(episodes, queries, ways)`; what explanations start from."""
        return tf.nn.softmax(scores, axis=-1)

    def log_probabilities(self, scores: tf.Tensor) -> tf.Tensor:
        """Natural logarithm of `probabilities`, accurate also where those round to 0, `(episodes, queries, ways)`.

        A head that has other probabilities overrides both.
        """
        return tf.nn.log_softmax(scores, axis=-1)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {**super().get_config(), "feature_shape": self.feature_shape}
