"""The graph head of one episode and its relevance, slowly, node by node, in float64 NumPy."""

from __future__ import annotations

import dataclasses

import numpy as np

from egt_tf.heads import GraphHead

BATCH_NORM_EPSILON = 1e-5
# TensorFlow's operation holds its slope in float32, whatever it works in.
LEAKY_SLOPE = float(np.float32(0.01))
LEVELS = ("graph1", "graph2", "graph3")


@dataclasses.dataclass
class Pass:
    """A forward pass: x (graphs, nodes, width) of each level and its adjacency, and the scores of all nodes."""

    weights: dict[str, np.ndarray]
    levels: list[np.ndarray]
    adjacency: list[np.ndarray]
    node_scores: np.ndarray
    scores: np.ndarray


def weights_of(head: GraphHead) -> dict[str, np.ndarray]:
    return {w.name.split(":")[0]: w.numpy().astype(np.float64) for w in head.weights}


def dense(w, name, x):
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def normalise(w, name, x):
    axes = tuple(range(x.ndim - 1))
    x = (x - x.mean(axes)) / np.sqrt(x.var(axes) + BATCH_NORM_EPSILON)
    return x * w[f"{name}_bn/gamma"] + w[f"{name}_bn/beta"]


def leaky(x):
    return np.where(x > 0, x, LEAKY_SLOPE * x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def embed(head: GraphHead, maps: np.ndarray) -> np.ndarray:
    w = weights_of(head)
    return normalise(w, "embedding", dense(w, "embedding", maps.astype(np.float64).mean((1, 2))))


def graphs_of(head: GraphHead, vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Nodes with their labels, `(graphs, nodes, embedding + ways)`."""
    support, ways = labels.shape
    queries = vectors[support:]
    per_graph = ways if head.queries_per_graph == "ways" else 1
    count = len(queries) // per_graph
    nodes = [np.concatenate([vectors[:support], queries[i::count]]) for i in range(count)]
    label = np.concatenate([labels, np.zeros((per_graph, ways))])
    return np.stack([np.concatenate([z, label], axis=-1) for z in nodes])


def adjacency_of(w, name, x):
    graphs, nodes, width = x.shape
    e = np.empty((graphs, nodes, nodes, width))
    for i in range(nodes):
        for j in range(nodes):
            e[:, i, j] = np.abs(x[:, i] - x[:, j])
    for step in range(1, 5):
        layer = f"{name}_adjacency{step}"
        e = leaky(normalise(w, layer, dense(w, layer, e)))
    e = dense(w, f"{name}_adjacency_last", e)[..., 0]
    for i in range(nodes):
        e[:, i, i] = -np.inf
    return softmax(e)


def beside_neighbours(x, a):
    return np.concatenate([x, np.stack([a_graph @ x_graph for a_graph, x_graph in zip(a, x)])], axis=-1)


def forward(head: GraphHead, support: np.ndarray, labels: np.ndarray, query: np.ndarray) -> Pass:
    """All of one episode: maps of the support, their one-hot labels, maps of the queries."""
    return of_nodes(head, graphs_of(head, embed(head, np.concatenate([support, query])), labels.astype(np.float64)))


def of_nodes(head: GraphHead, x: np.ndarray) -> Pass:
    """All of one episode, from the nodes with their labels, `(graphs, nodes, embedding + ways)`."""
    w = weights_of(head)
    per_graph = head.query_multiple(head.ways)
    levels, adjacency = [], []
    for name in LEVELS:
        levels.append(x)
        adjacency.append(adjacency_of(w, name, x))
        g = beside_neighbours(x, adjacency[-1])
        if name != "graph3":
            x = np.concatenate([x, leaky(normalise(w, name, dense(w, name, g)))], axis=-1)
    node_scores = dense(w, "node_scores", g)
    of_queries = node_scores[:, -per_graph:]
    return Pass(w, levels, adjacency, node_scores, np.concatenate(list(of_queries.transpose(1, 0, 2))))


def stabilised(z, epsilon):
    return z + np.where(z >= 0, epsilon, -epsilon)


def level_relevance(x, a, kernel, r, epsilon, exact_identity=False):
    """Relevance of one graph's nodes x for that of `Dense([x ; A x])`, each sum written out."""
    width = x.shape[-1]
    means = a @ x
    g = np.concatenate([x, means], axis=-1)
    rg = np.zeros_like(g)
    for i in range(len(g)):
        z = stabilised(g[i] @ kernel, epsilon)
        for c in range(g.shape[1]):
            rg[i, c] = g[i, c] * sum(kernel[c, o] * r[i, o] / z[o] for o in range(kernel.shape[1]))
    result = np.zeros_like(x)
    for i in range(len(x)):
        own = rg[i, :width]
        result[i] = own if exact_identity else x[i] * own / stabilised(x[i], epsilon)
        for j in range(len(x)):
            result[i] += x[i] * a[j, i] * rg[j, width:] / stabilised(means[j], epsilon)
    return result


def relevance(
    state: Pass, start: np.ndarray, epsilon: float = 0.01, skip_relevance: bool = False, exact_identity: bool = False
) -> np.ndarray:
    """Relevance of nodes and labels `(graphs, nodes, embedding + ways)` for that of all nodes' scores."""
    width, middle = (level.shape[-1] for level in state.levels[:2])

    def back(level, kernel, r):
        rows = zip(state.levels[level], state.adjacency[level], r)
        return np.stack(
            [
                level_relevance(x, a, state.weights[f"{kernel}/kernel"], r_graph, epsilon, exact_identity)
                for x, a, r_graph in rows
            ]
        )

    third = back(2, "node_scores", start)
    second = back(1, "graph2", third[..., middle:])
    new1 = second[..., width:] + (third[..., width:middle] if skip_relevance else 0.0)
    return back(0, "graph1", new1) + second[..., :width] + third[..., :width]
