"""Training steps written straight down from the formulas, as the published code computes them.

They are what the tests hold the package's own steps against, and the yardstick of `train_step.py`: RelationNet
convolves every pair, runs its relation module once for the plain scores, once more in evaluation mode, a third time for
the explanation and a fourth time on the weighted pairs, and computes the negative branch of the alpha-beta rule
although beta is 0; the graph network looks at every pair of nodes in both directions and computes its layers anew for
the explanation; cross attention writes its explanation out channel by channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from egt_tf.heads import CrossAttentionHead, GraphHead, Head, RelationHead

ALPHA, BETA = 1.0, 0.0
EPSILON = 0.01
ZERO_GUARD = 1e-7
BATCH_NORM_EPSILON = 1e-5
LEAKY_SLOPE = 0.01

Weights = Mapping[str, tf.Tensor]
# Scores that the plain and the guided loss are taken of; no guided ones where there is no guidance.
Scores = tuple[tf.Tensor, tf.Tensor | None]


def scores_of(head: Head, features: Sequence[tf.Tensor], guided: bool, beta: tf.Tensor | float = BETA) -> Scores:
    """The scores of one episode that the losses of `head` are taken of.

    Args:
        head: RelationNet, graph network or cross attention.
        features: what `head.relate` gives, for one episode.
        guided: whether to explain the plain scores and to score the weighted features.
        beta: weight of the negative contributions. For timings it is the input of a compiled step: were it known to be
            0, the compiler would leave their branch out.
    """
    functions = {RelationHead: relation_scores, GraphHead: graph_scores, CrossAttentionHead: attention_scores}
    weights = {w.name.removesuffix(":0"): tf.convert_to_tensor(w) for w in head.weights}
    return functions[type(head)](head, weights, features, guided, tf.cast(beta, features[0].dtype))


# === What all three share ===


def start_relevance(scores: tf.Tensor) -> tf.Tensor:
    """`log(beta (p + epsilon) / (1 + epsilon - p))`, p the softmax over the ways and beta one less than the ways."""
    p = tf.nn.softmax(scores)
    return tf.math.log((scores.shape[-1] - 1) * (p + EPSILON) / (1 + EPSILON - p))


def weights_of(relevance: tf.Tensor) -> tf.Tensor:
    """`1 + R / max |R|` over the channels."""
    largest = tf.reduce_max(tf.abs(relevance), axis=-1, keepdims=True)
    return 1 + relevance / tf.where(largest == 0, tf.ones_like(largest), largest)


def stabilized(z: tf.Tensor) -> tf.Tensor:
    """`z + epsilon sign(z)`, epsilon where z is 0."""
    return z + EPSILON * tf.where(z >= 0, tf.ones_like(z), -tf.ones_like(z))


def epsilon_rule(x: tf.Tensor, kernel: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Relevance of the inputs of a dense layer, its bias ignored."""
    return x * tf.tensordot(relevance / stabilized(tf.tensordot(x, kernel, 1)), tf.transpose(kernel), 1)


def normalised(w: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """Batch normalisation by the statistics of the call."""
    mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
    return tf.nn.batch_normalization(x, mean, variance, w[f"{name}_bn/beta"], w[f"{name}_bn/gamma"], BATCH_NORM_EPSILON)


def dense(w: Weights, name: str, x: tf.Tensor) -> tf.Tensor:
    """A dense layer."""
    return tf.tensordot(x, w[f"{name}/kernel"], 1) + w[f"{name}/bias"]


# === RelationNet ===


def relation_scores(
    head: RelationHead, w: Weights, features: Sequence[tf.Tensor], guided: bool, beta: tf.Tensor
) -> Scores:
    """Every pair through the relation module; see the top of the file."""
    prototypes, queries = features[0][0], features[1][0]
    shape = [queries.shape[0], prototypes.shape[0], *queries.shape[1:]]
    pairs = tf.concat([tf.broadcast_to(prototypes[None], shape), tf.broadcast_to(queries[:, None], shape)], axis=-1)
    pairs = tf.reshape(pairs, [shape[0] * shape[1], *pairs.shape[2:]])
    padding = head.score_model.get_layer("block1_conv").padding.upper()

    def scores(x):
        return tf.reshape(relation_module(w, x, padding)[-1], [1, *shape[:2]])

    plain = scores(pairs)
    if not guided:
        return plain, None
    constant = tf.stop_gradient(pairs)
    start = tf.reshape(start_relevance(scores(constant)), [-1, 1])
    relevance = relation_relevance(w, relation_module(w, constant, padding), start, padding, beta)
    return plain, scores(pairs * tf.stop_gradient(weights_of(relevance)))


def relation_module(w: Weights, pairs: tf.Tensor, padding: str) -> list[tf.Tensor]:
    """What each layer that has a rule of relevance is given, and the scores."""
    x, kept = pairs, []
    for block in ("block1", "block2"):
        kept.append(x)
        x = tf.nn.conv2d(x, w[f"{block}_conv/kernel"], 1, padding) + w[f"{block}_conv/bias"]
        x = tf.nn.relu(normalised(w, block, x))
        kept.append(x)
        x = tf.nn.max_pool2d(x, 2, 2, "VALID") if min(x.shape[1:3]) >= 2 else x
    flat = tf.reshape(x, [x.shape[0], -1])
    hidden = tf.nn.relu(dense(w, "fc1", flat))
    return [*kept, flat, hidden, dense(w, "fc2", hidden)]


def relation_relevance(
    w: Weights, kept: Sequence[tf.Tensor], start: tf.Tensor, padding: str, beta: tf.Tensor
) -> tf.Tensor:
    """Relevance of the pairs; batch normalisation passes it on unchanged."""
    x1, y1, x2, y2, flat, hidden, _ = kept
    relevance = epsilon_rule(hidden, w["fc2/kernel"], start)
    relevance = epsilon_rule(flat, w["fc1/kernel"], tf.where(hidden > 0, relevance, tf.zeros_like(relevance)))
    for name, x, y in (("block2_conv/kernel", x2, y2), ("block1_conv/kernel", x1, y1)):
        relevance = tf.where(y > 0, pooled_relevance(y, relevance), tf.zeros_like(y))
        relevance = alpha_beta_rule(x, w[name], relevance, padding, beta)
    return relevance


def pooled_relevance(y: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Relevance of what 2x2 max-pooling was given; the winner takes all."""
    if min(y.shape[1:3]) < 2:
        return tf.reshape(relevance, y.shape)
    pooled = tf.nn.max_pool2d(y, 2, 2, "VALID")
    share = tf.reshape(relevance, pooled.shape) / guarded(pooled)
    return y * tf.raw_ops.MaxPoolGrad(
        orig_input=y, orig_output=pooled, grad=share, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding="VALID"
    )


def alpha_beta_rule(x: tf.Tensor, kernel: tf.Tensor, relevance: tf.Tensor, padding: str, beta: tf.Tensor) -> tf.Tensor:
    """Both branches, although that of the negative contributions has no weight."""
    x_up, x_down, up, down = (f(v, 0.0) for v in (x, kernel) for f in (tf.maximum, tf.minimum))

    def branch(pairs):
        z = tf.add_n([tf.nn.conv2d(a, b, 1, padding) for a, b in pairs])
        share = relevance / guarded(z)
        return tf.add_n([a * tf.nn.conv2d_transpose(share, b, tf.shape(a), 1, padding) for a, b in pairs])

    return ALPHA * branch(((x_up, up), (x_down, down))) - beta * branch(((x_up, down), (x_down, up)))


def guarded(z: tf.Tensor) -> tf.Tensor:
    """z, with 1e-7 for zeros."""
    return tf.where(z == 0, tf.constant(ZERO_GUARD, z.dtype), z)


# === Graph network ===


def graph_scores(head: GraphHead, w: Weights, features: Sequence[tf.Tensor], guided: bool, beta: tf.Tensor) -> Scores:
    """All graphs of the episode through the network; see the top of the file."""
    nodes, labels = (x[0] for x in features)
    of_queries = head.score_model.get_layer("scores")

    def scores(z):
        return of_queries(graph_network(w, tf.concat([z, labels], axis=-1))[-1][None])

    plain = scores(nodes)
    if not guided:
        return plain, None
    kept = graph_network(w, tf.concat([tf.stop_gradient(nodes), labels], axis=-1))
    relevance = graph_relevance(w, kept, head.embedding)
    return plain, scores(nodes * tf.stop_gradient(weights_of(relevance)))


def graph_network(w: Weights, x: tf.Tensor) -> list[tf.Tensor]:
    """Nodes and adjacency of each of the three levels, and the scores of all nodes."""
    kept = []
    for level in ("graph1", "graph2"):
        adjacency = adjacency_of(w, level, x)
        kept += [x, adjacency]
        new = normalised(w, level, dense(w, level, tf.concat([x, tf.matmul(adjacency, x)], axis=-1)))
        x = tf.concat([x, tf.nn.leaky_relu(new, LEAKY_SLOPE)], axis=-1)
    adjacency = adjacency_of(w, "graph3", x)
    return [*kept, x, adjacency, dense(w, "node_scores", tf.concat([x, tf.matmul(adjacency, x)], axis=-1))]


def adjacency_of(w: Weights, level: str, x: tf.Tensor) -> tf.Tensor:
    """How much each node looks at each other one, `(graphs, nodes, nodes)`."""
    e = tf.abs(x[:, :, None] - x[:, None])
    for number in range(1, 5):
        name = f"{level}_adjacency{number}"
        e = tf.nn.leaky_relu(normalised(w, name, dense(w, name, e)), LEAKY_SLOPE)
    e = tf.squeeze(dense(w, f"{level}_adjacency_last", e), axis=-1)
    return tf.nn.softmax(e - 1e8 * tf.eye(x.shape[1], dtype=x.dtype))


def graph_relevance(w: Weights, kept: Sequence[tf.Tensor], embedding: int) -> tf.Tensor:
    """Relevance of the nodes' features; what skips from the first level to the last is lost."""
    x0, a0, x1, a1, x2, a2, scores = kept
    start, first = x0.shape[-1], x1.shape[-1]
    at_last = neighbourhood_relevance(x2, a2, w["node_scores/kernel"], start_relevance(scores))
    at_second = neighbourhood_relevance(x1, a1, w["graph2/kernel"], at_last[..., first:])
    at_first = neighbourhood_relevance(x0, a0, w["graph1/kernel"], at_second[..., start:])
    return at_first[..., :embedding] + at_second[..., :embedding] + at_last[..., :embedding]


def neighbourhood_relevance(x: tf.Tensor, adjacency: tf.Tensor, kernel: tf.Tensor, relevance: tf.Tensor) -> tf.Tensor:
    """Back through `Dense([x ; A x])`, with A as constant weights."""
    means = tf.matmul(adjacency, x)
    own, of_means = tf.split(epsilon_rule(tf.concat([x, means], axis=-1), kernel, relevance), 2, axis=-1)
    back = tf.matmul(adjacency, of_means / stabilized(means), transpose_a=True)
    return x * (own / stabilized(x) + back)


# === Cross attention ===


def attention_scores(
    head: CrossAttentionHead, w: Weights, features: Sequence[tf.Tensor], guided: bool, beta: tf.Tensor
) -> Scores:
    """Cosines at every position, `(1, queries, h, w, ways)`; nothing of the explanation is a constant."""
    attended, pooled = features
    products = unit(attended) * unit(pooled)[..., None, None, :]
    if guided:
        of_map, of_channels = attention_weights(head.scale, attended, pooled)
        products = products * of_map * of_channels[..., None, None, :]
    scores = tf.transpose(head.scale * tf.reduce_sum(products, axis=-1), [0, 1, 3, 4, 2])
    return scores, scores if guided else None


def attention_weights(scale: float, attended: tf.Tensor, pooled: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weights of the attended query maps and of the channels of the cosine."""
    rows = tf.reduce_mean(attended, axis=-2)
    products = unit(tf.reduce_mean(rows, axis=-2)) * unit(pooled)
    cosines = tf.reduce_sum(products, axis=-1)
    of_channels = fractions(products, start_relevance(scale * cosines)[..., None], -1)
    of_rows = fractions(rows, of_channels[..., None, :], -2)
    of_map = fractions(attended, of_rows[..., None, :], -2)
    return weights_of(of_map), weights_of(of_channels)


def fractions(summands: tf.Tensor, relevance: tf.Tensor, axis: int) -> tf.Tensor:
    """Each summand's share of the relevance of their sum or mean over `axis`."""
    total = tf.reduce_sum(summands, axis=axis, keepdims=True)
    return relevance * summands / stabilized(tf.where(total == 0, tf.ones_like(total) / summands.shape[axis], total))


def unit(x: tf.Tensor) -> tf.Tensor:
    """x over its length, along the channels."""
    return tf.math.l2_normalize(x, axis=-1, epsilon=1e-24)
