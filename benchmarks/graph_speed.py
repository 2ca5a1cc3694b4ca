"""How fast the graph head is, beside one that looks at half of all pairs in every graph, layer by layer, by turns.

    python benchmarks/graph_speed.py [--ways 5] [--shots 5] [--queries 8] [--evaluated 15] [--rounds 15] [--json FILE]

Random maps of 5x5x64; a graph for each query of a class. `plain` and `guided` are the head's part of a training step,
from maps to the gradients of the head's weights and of the maps; `evaluation` scores four episodes, with --evaluated
queries a class. One thread. Every round runs all of them one after the other, so that the machine's speed drifts for all
alike; the ratios are medians of the rounds' ratios. `counted` are multiply-adds of the matrix products that weigh the
neighbours, nearly all there are, of one pass forward. Before anything is timed, both are compared.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from straightforward import (
    BATCH_NORM_EPSILON,
    LEAKY_SLOPE,
    Weights,
    dense,
    graph_relevance,
    weights_of,
)

from egt_tf.heads import GraphHead
from egt_tf.lrp import COMPOSITES
from egt_tf.training.guidance import guided_scores

MAP = (5, 5, 64)
EPISODES = 4
Scorer = Callable[[GraphHead, list[tf.Tensor], bool], list[tf.Tensor]]


# === Half of the pairs, layer by layer ===


def layer_by_layer(head: GraphHead, features: list[tf.Tensor], guided: bool) -> list[tf.Tensor]:
    """The plain scores and, with `guided`, those of the weighted nodes."""
    w = {weight.name.removesuffix(":0"): tf.convert_to_tensor(weight) for weight in head.weights}
    nodes, labels = features
    of_queries = head.score_model.get_layer("scores")
    kept = half_pairs_network(w, tf.concat([nodes, labels], axis=-1))
    scores = [of_queries(kept[-1])]
    if guided:
        relevance = graph_relevance(w, [tf.stop_gradient(x) for x in kept], head.embedding)
        weighted = nodes * tf.stop_gradient(weights_of(relevance))
        scores.append(of_queries(half_pairs_network(w, tf.concat([weighted, labels], axis=-1))[-1]))
    return scores


def half_pairs_network(w: Weights, x: tf.Tensor) -> list[tf.Tensor]:
    """Nodes `(episodes, graphs, nodes, width)` and adjacency of each of the three levels, and scores of all nodes."""
    kept = []
    for level in ("graph1", "graph2"):
        adjacency = half_pairs_adjacency(w, level, x)
        kept += [x, adjacency]
        new = dense(w, level, tf.concat([x, tf.matmul(adjacency, x)], axis=-1))
        every = tf.ones([1] * len(new.shape), new.dtype) / tf.cast(new.shape[1] * new.shape[2], new.dtype)
        x = tf.concat([x, tf.nn.leaky_relu(normalised(w, level, new, every), LEAKY_SLOPE)], axis=-1)
    adjacency = half_pairs_adjacency(w, "graph3", x)
    return [*kept, x, adjacency, dense(w, "node_scores", tf.concat([x, tf.matmul(adjacency, x)], axis=-1))]


def half_pairs_adjacency(w: Weights, level: str, x: tf.Tensor) -> tf.Tensor:
    """The weights of all neighbours, from the pairs of node i and node i + k for k = 0 .. nodes / 2, in a circle."""
    graphs, nodes = x.shape[1:3]
    steps = np.arange(nodes // 2 + 1)
    partners = (np.arange(nodes)[:, None] + steps) % nodes
    once = (steps == 0) | (2 * steps == nodes)
    shares = tf.constant((np.where(once, 1, 2) / (graphs * nodes**2))[:, None], x.dtype)
    e = tf.abs(x[:, :, :, None] - tf.gather(x, partners, axis=2))
    for number in range(1, 5):
        name = f"{level}_adjacency{number}"
        e = tf.nn.leaky_relu(normalised(w, name, dense(w, name, e), shares), LEAKY_SLOPE)
    e = tf.reshape(dense(w, f"{level}_adjacency_last", e), [-1, graphs, nodes * len(steps)])
    i = np.arange(nodes)
    ahead = (i - i[:, None]) % nodes
    place = np.where(ahead < len(steps), i[:, None] * len(steps) + ahead, i * len(steps) + nodes - ahead)
    return tf.nn.softmax(tf.gather(e, place, axis=-1) - 1e8 * tf.eye(nodes, dtype=x.dtype))


def normalised(w: Weights, name: str, x: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Batch normalisation by the statistics of each episode, of rows with the given shares."""
    axes = list(range(1, len(x.shape) - 1))
    mean = tf.reduce_sum(shares * x, axes, keepdims=True)
    variance = tf.reduce_sum(shares * tf.math.squared_difference(x, mean), axes, keepdims=True)
    scale = w[f"{name}_bn/gamma"] * tf.math.rsqrt(variance + BATCH_NORM_EPSILON)
    return x * scale + (w[f"{name}_bn/beta"] - mean * scale)


# === The head ===


def of_the_head(head: GraphHead, features: list[tf.Tensor], guided: bool) -> list[tf.Tensor]:
    """The same scores by the head."""
    if not guided:
        return [head.score(features, training=True)]
    result = guided_scores(head, features, COMPOSITES.get("fsc"))
    return [result.plain, result.guided]


# === What is timed ===


def episodes(options: argparse.Namespace, count: int, queries: int) -> list[tf.Tensor]:
    """Support maps, their labels and query maps."""
    rng = np.random.default_rng(0)
    support, query = (
        tf.constant(rng.normal(size=(count, options.ways * number, *MAP)).astype(np.float32))
        for number in (options.shots, queries)
    )
    labels = np.repeat(np.eye(options.ways, dtype=np.float32), options.shots, axis=0)
    return [support, tf.constant(np.tile(labels, (count, 1, 1))), query]


def step(head: GraphHead, scorer: Scorer, guided: bool, data: list[tf.Tensor]) -> Callable[[], list[tf.Tensor]]:
    """The losses of an episode and their gradients."""
    labels = np.repeat(np.arange(head.ways), data[2].shape[1] // head.ways)[None]

    @tf.function
    def run(support, classes, query):
        with tf.GradientTape() as tape:
            tape.watch([support, query])
            features = head.relate(support, classes, query, training=True)
            loss = tf.add_n([tf.reduce_sum(head.loss(scores, labels)) for scores in scorer(head, features, guided)])
        return [loss, *tape.gradient(loss, [support, query, *head.trainable_variables])]

    return lambda: run(*data)


def evaluation(head: GraphHead, scorer: Scorer, data: list[tf.Tensor]) -> Callable[[], list[tf.Tensor]]:
    """The scores of episodes."""
    run = tf.function(lambda *inputs: scorer(head, head.relate(*inputs, training=False), False))
    return lambda: run(*data)


def measured(head: GraphHead, options: argparse.Namespace) -> dict[str, tuple[Callable, Callable]]:
    """By name, what is timed: layer by layer, and by the head."""
    data, many = episodes(options, 1, options.queries), episodes(options, EPISODES, options.evaluated)
    ways = (layer_by_layer, of_the_head)
    return {
        "plain": tuple(step(head, scorer, False, data) for scorer in ways),
        "guided": tuple(step(head, scorer, True, data) for scorer in ways),
        "evaluation": tuple(evaluation(head, scorer, many) for scorer in ways),
    }


def largest_difference(reference: list[tf.Tensor], ours: list[tf.Tensor]) -> float:
    """Of all arrays, in parts of the largest value of any."""
    largest = max(float(tf.reduce_max(tf.abs(x))) for x in reference)
    return max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(reference, ours, strict=True)) / largest


def seconds(cases: dict[str, tuple[Callable, Callable]], rounds: int) -> dict[str, np.ndarray]:
    """Of each case `(rounds, 2)`: layer by layer, and the head."""
    times: dict[str, list[list[float]]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, functions in cases.items():
            times[name].append([])
            for function in functions:
                began = time.perf_counter()
                function()
                times[name][-1].append(time.perf_counter() - began)
    return {name: np.array(values) for name, values in times.items()}


# === Counts ===


def counted(head: GraphHead, graphs: int, support: int) -> dict[str, float]:
    """Multiply-adds of one episode forward, in 1e9."""
    nodes = support + head.query_multiple(head.ways)
    first, new, width = head.embedding + head.ways, head.growth, head.adjacency_width
    behind = 4 * width**2 + 2 * width**2 + width**2 + width
    half = graphs * nodes * (nodes // 2 + 1)
    every = sum((first + level * new) * 2 * width + behind for level in range(3)) * half
    among, all_pairs = 1 + support * (support - 1) // 2, 1 + nodes * (nodes - 1) // 2
    beside = all_pairs - among

    def head_pairs(shared: int) -> int:
        """With the support pairs of the first level computed `shared` times."""
        once, each = shared * among + graphs * beside, graphs * all_pairs
        return (3 * first * 2 * width + behind) * once + (3 * new * 2 * width + 2 * behind) * each

    return {"layer by layer": every / 1e9, "plain": head_pairs(1) / 1e9, "weighted": head_pairs(graphs) / 1e9}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("ways", 5), ("shots", 5), ("queries", 8), ("evaluated", 15), ("rounds", 15)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    head = GraphHead(MAP, options.ways, seed=0)
    cases = measured(head, options)
    results = {}
    for name, (reference, ours) in cases.items():
        results[name] = {"difference": largest_difference(reference(), ours())}
    for name, times in seconds(cases, options.rounds).items():
        ratios = times[:, 0] / times[:, 1]
        before, now = np.median(times, axis=0)
        results[name] |= {"before": before, "now": now, "times": float(np.median(ratios))}
        print(
            f"{name:10s} layer by layer {1e3 * before:7.1f} ms   head {1e3 * now:7.1f} ms   {np.median(ratios):5.2f} times "
            f"({np.percentile(ratios, 25):.2f} to {np.percentile(ratios, 75):.2f})   "
            f"largest difference {results[name]['difference']:.1g}"
        )
    before, now = (EPISODES / results["evaluation"][key] for key in ("before", "now"))
    print(f"evaluation, episodes a second: layer by layer {before:.1f}, head {now:.1f}")
    for graphs in (options.queries, options.evaluated):
        counts = counted(head, graphs, options.ways * options.shots)
        print(f"counted, {graphs} graphs: " + ", ".join(f"{name} {value:.2f} GMAC" for name, value in counts.items()))
        results[f"counted {graphs}"] = counts
    if options.json:
        from egt_tf.files import write_json

        write_json(options.json, results)


if __name__ == "__main__":
    main()
