"""Graph neural network (Garcia and Bruna, ICLR 2018, "Few-Shot Learning with Graph Neural Networks")."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.backbones.base import InitialWeights
from egt_tf.errors import ConfigError, check_integer, original_error
from egt_tf.heads.base import HEADS, Head, relate_inputs
from egt_tf.heads.graph_layers import GraphNodes, Neighbourhood, NeighbourSoftmax, QueryScores, SkipConcatenate
from egt_tf.heads.graph_pairs import PairBatchNormalization, PairDense, PairDifferences, PairMatrix
from egt_tf.heads.layers import EpisodeBatchNormalization, MapMean
from egt_tf.heads.similarity import cross_entropy
from egt_tf.heads.weighting import Weighting
from egt_tf.keras_api import keras, layers_in

QUERIES_PER_GRAPH = ("ways", "one")
LEVELS = ("graph1", "graph2", "graph3")
LEAKY_SLOPE = 0.01
# Widths of the four hidden layers of the network that weighs neighbours, in units of `adjacency_width`.
ADJACENCY_RATIOS = (2, 2, 1, 1)


@HEADS.register("graph")
class GraphHead(Head):
    """Labels the unlabelled nodes of graphs made of support and query images.

    Features: nodes `z = normalise(Dense(mean over the map))`, `(episodes, graphs, nodes, embedding)`, and labels of the
    nodes `(episodes, graphs, nodes, ways)`, one-hot for the support and zeros for the queries. The nodes of a graph are
    the support images in their order, then its queries.

    Scores, with `x0 = [z ; label]`: `x1 = [x0 ; G1(x0)]`, `x2 = [x1 ; G2(x1)]`, scores of the nodes = G3(x2). Each
    `G(x) = leaky(normalise(Dense([x ; A x])))`, the last without normalisation and activation. The weights of a
    node's neighbours are `A = softmax over j != i of network(|x_i - x_j|)`: four times Dense, normalisation and leaky
    ReLU, then Dense(1). Every normalisation is over all graphs of one episode.

    Args:
        feature_shape: (h, w, c) of the backbone's map.
        ways: classes of every episode, >= 2; the widths of the layers depend on it.
        queries_per_graph: "ways" (a graph holds the i-th query of every class, as published) or "one" (a graph for
            each query, and any number of queries in any order).
        embedding: width of z.
        adjacency_width: width of the network that weighs neighbours; its first two layers have twice as much.
        growth: features that each level adds.
        batch_statistics: see `EpisodeBatchNormalization`; with False and "one" a query's score does not depend on the
            other queries.
        seed: of the initial weights.

    Notes:
        With "ways" the queries must be in the order of their classes, the same number of each. Every graph then holds
        one unlabelled node of every class, and the network can use that no two of its queries are of one class. So
        accuracies as published, which rest on it, are not those of queries that come one by one.
        The support nodes of an episode are the same in every graph, so `score_model` looks at the pairs of the first
        graph's for all of them, once; derivatives for them are then right as a sum over the graphs. `weighted_model`
        has the same layers and takes support nodes that differ from graph to graph.
        The published code orders the nodes class by class, each query behind the support of its class; the order
        changes nothing but the rounding.
        Source of the dimensions: Tseng et al., ICLR 2020, "Cross-Domain Few-Shot Classification via Learned
        Feature-Wise Transformation".

    Example:
        >>> head = GraphHead((4, 4, 8), ways=3, seed=0)
        >>> support, query = tf.ones((1, 6, 4, 4, 8)), tf.ones((1, 3, 4, 4, 8))
        >>> labels = tf.one_hot([[0, 1, 2, 0, 1, 2]], 3)
        >>> head([support, labels, query]).shape
        TensorShape([1, 3, 3])
    """

    explained_layer = "node_scores"
    weighted_layers = ("nodes",)
    needs_ways = True

    def __init__(
        self,
        feature_shape: Sequence[int],
        ways: int = 5,
        queries_per_graph: str = "ways",
        embedding: int = 128,
        adjacency_width: int = 96,
        growth: int = 48,
        batch_statistics: bool = True,
        seed: int | None = None,
        name: str = "graph",
        **kwargs: Any,
    ):
        super().__init__(feature_shape, name=name, **kwargs)
        if queries_per_graph not in QUERIES_PER_GRAPH:
            raise ConfigError(
                f"`queries_per_graph` must be one of {', '.join(QUERIES_PER_GRAPH)}. "
                f"Received: queries_per_graph={queries_per_graph!r}"
            )
        if not isinstance(batch_statistics, bool):
            raise ConfigError(f"`batch_statistics` must be true or false. Received: {batch_statistics!r}")
        check_integer("ways", ways, 2)
        for argument, width in (("embedding", embedding), ("adjacency_width", adjacency_width), ("growth", growth)):
            check_integer(argument, width, 1)

        # === Config ===
        self.ways = ways
        self.queries_per_graph = queries_per_graph
        self.embedding = embedding
        self.adjacency_width = adjacency_width
        self.growth = growth
        self.batch_statistics = batch_statistics
        self.seed = seed

        # === Functional Models ===
        weights = InitialWeights(seed)
        self.relate_model = self._relate_model(weights)
        layers = self._score_layers(weights)
        self.score_model = self._score_model(layers, "score", same_support=True)
        self._make_weighted_model = functools.partial(self._score_model, layers, "score_weighted", same_support=False)
        self._precision = keras.mixed_precision.global_policy().name

    @functools.cached_property
    def weighted_model(self) -> keras.Model:
        """The scores by the same layers of nodes whose support part differs from graph to graph, as weighted ones do.

        Made on first use: only guidance needs it, and making it takes as long as the head itself.
        """
        # In the precision that the head was made in, which need not be that of the moment.
        with tf.init_scope(), layers_in(self._precision):
            return self._make_weighted_model()

    @property
    def uses_batch_statistics(self) -> bool:
        """Whether a query's score depends, in inference, on the other queries of its episode."""
        return self.batch_statistics or self.queries_per_graph == "ways"

    def query_multiple(self, ways: int) -> int:
        """The number of queries in an episode must be a multiple of this."""
        return ways if self.queries_per_graph == "ways" else 1

    def relate(
        self, support: tf.Tensor, support_labels: tf.Tensor, query: tf.Tensor, training: bool | None = None
    ) -> list[tf.Tensor]:
        """First stage, see `Head.relate`.

        Returns:
            Nodes `(episodes, graphs, nodes, embedding)` and their labels `(episodes, graphs, nodes, ways)`.

        Raises:
            ConfigError: an episode of other ways than the head was made for, or a number of queries that is no
                multiple of `query_multiple`.
        """
        with original_error():
            return super().relate(support, support_labels, query, training=training)

    @property
    def _per_graph(self) -> int:
        return self.query_multiple(self.ways)

    def _relate_model(self, weights: InitialWeights) -> keras.Model:
        support, labels, query = inputs = relate_inputs(self.feature_shape)
        vectors = [MapMean(name=f"{part}_mean")(maps) for part, maps in (("support", support), ("query", query))]
        x = keras.layers.Concatenate(axis=1, name="images")(vectors)
        x = self._normalisation("embedding")(weights.dense(x.shape[-1], self.embedding, "embedding")(x))
        nodes = GraphNodes(self.ways, self._per_graph, name="graphs")([x, labels])
        return keras.Model(inputs, nodes, name="relate")

    def _score_layers(self, weights: InitialWeights) -> dict[str, keras.layers.Layer]:
        """All layers of the scores that have weights, by name."""
        layers: list[keras.layers.Layer] = []
        width = self.embedding + self.ways
        for level in LEVELS:
            layers += self._adjacency_layers(level, width, weights)
            if level == LEVELS[-1]:
                layers.append(weights.dense(2 * width, self.ways, "node_scores"))
            else:
                layers += [weights.dense(2 * width, self.growth, level), self._normalisation(level)]
                width += self.growth
        return {layer.name: layer for layer in layers}

    def _adjacency_layers(self, level: str, width: int, weights: InitialWeights) -> list[keras.layers.Layer]:
        layers: list[keras.layers.Layer] = []
        for number, ratio in enumerate(ADJACENCY_RATIOS, start=1):
            name, units = f"{level}_adjacency{number}", ratio * self.adjacency_width
            normalisation = PairBatchNormalization(
                self._per_graph, LEAKY_SLOPE, batch_statistics=self.batch_statistics, name=f"{name}_bn"
            )
            dense = weights.dense(width, units, name, PairDense, centred=self.batch_statistics)
            layers += [dense, normalisation]
            width = units
        return [*layers, weights.dense(width, 1, f"{level}_adjacency_last", PairDense)]

    # Keras runs every layer symbolically for its shapes; to convert their code for that as well would double the time.
    @tf.autograph.experimental.do_not_convert
    def _score_model(self, layers: Mapping[str, keras.layers.Layer], name: str, same_support: bool) -> keras.Model:
        nodes = keras.Input((None, None, self.embedding), name="nodes")
        labels = keras.Input((None, None, self.ways), name="node_labels")
        join = keras.layers.Concatenate
        x0 = join(name="level0")([nodes, labels])
        between = PairDifferences(self._per_graph, same_support, name="graph1_differences")(x0)
        new1 = self._new_features("graph1", layers, x0, between)
        x1 = join(name="level1")([x0, new1])
        new2 = self._new_features("graph2", layers, x1, between + self._differences("graph2", new1))
        x2 = SkipConcatenate(name="level2")([x0, new1, new2])
        new = join(name="graph3_new")([new1, new2])
        x3 = self._neighbourhood("graph3", layers, x2, between + self._differences("graph3", new))
        scores = QueryScores(self._per_graph, name="scores")(layers["node_scores"](x3))
        return keras.Model([nodes, labels], scores, name=name)

    def _differences(self, level: str, new: tf.Tensor) -> list[tf.Tensor]:
        """Of the features that the level has beside those of the first."""
        return PairDifferences(self._per_graph, name=f"{level}_differences")(new)

    def _new_features(
        self, level: str, layers: Mapping[str, keras.layers.Layer], x: tf.Tensor, differences: list[tf.Tensor]
    ) -> tf.Tensor:
        x = layers[level](self._neighbourhood(level, layers, x, differences))
        return keras.layers.LeakyReLU(LEAKY_SLOPE, name=f"{level}_leaky")(layers[f"{level}_bn"](x))

    def _neighbourhood(
        self, level: str, layers: Mapping[str, keras.layers.Layer], x: tf.Tensor, differences: list[tf.Tensor]
    ) -> tf.Tensor:
        e = differences
        for number in range(1, len(ADJACENCY_RATIOS) + 1):
            e = layers[f"{level}_adjacency{number}_bn"](layers[f"{level}_adjacency{number}"](e))
        e = layers[f"{level}_adjacency_last"](e)
        matrix = PairMatrix(self._per_graph, name=f"{level}_adjacency_matrix")(e)
        adjacency = NeighbourSoftmax(name=f"{level}_adjacency")(matrix)
        return Neighbourhood(name=f"{level}_neighbourhood")([x, adjacency])

    def _normalisation(self, name: str) -> EpisodeBatchNormalization:
        return EpisodeBatchNormalization(batch_statistics=self.batch_statistics, name=f"{name}_bn")

    def weighted_scores(
        self,
        features: Sequence[tf.Tensor],
        weightings: Sequence[Weighting],
        training: bool = True,
        classes: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """The raw scores of the weighted nodes, for all classes; see `Head.training_scores`."""
        nodes, labels = features
        return self.weighted_model([weightings[0](nodes), labels], training=training)

    def loss(self, scores: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Cross-entropy over the ways, mean over the queries of each episode. See `Head.loss` for the shapes."""
        return cross_entropy(labels, scores)

    def get_config(self) -> dict:
        """Every argument of the constructor."""
        return {
            **super().get_config(),
            "ways": self.ways,
            "queries_per_graph": self.queries_per_graph,
            "embedding": self.embedding,
            "adjacency_width": self.adjacency_width,
            "growth": self.growth,
            "batch_statistics": self.batch_statistics,
            "seed": self.seed,
        }
