"""Relevance through complete few-shot models, from the score of a query to all pixels, with nothing lost."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.episodic_model import EpisodicModel
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm

SIZE, WAYS, SHOTS, QUERIES = 32, 3, 2, 6
HEADS = {
    "relation": {},
    "graph": {"ways": WAYS},
    "graph of one query": {"ways": WAYS, "queries_per_graph": "one"},
    "cross_attention": {},
    "prototype": {},
    "cosine": {},
    "ridge": {},
}
BACKBONES = {
    "conv4": {"width": 16},
    "resnet10": {"stem": "small", "widths": (16, 16, 16, 16)},
    "resnet12": {"widths": (32, 32, 32, 32)},
}


def _model(head: str, backbone: str) -> EpisodicModel:
    """With folded normalisations, and no biases in the backbone: no unit fires that has no inputs to thank for it."""
    model = fold_batch_norm(
        EpisodicModel.build_from(
            {"name": backbone, **BACKBONES[backbone]}, {"name": head.split()[0], **HEADS[head]}, SIZE, seed=3
        )
    )
    for weight in model.backbone.weights:
        if "bias" in weight.name:
            weight.assign(tf.zeros_like(weight))
    return model


def _inputs(model: EpisodicModel) -> list[tf.Tensor]:
    rng, dtype = np.random.default_rng(5), keras.backend.floatx()
    arrays = {
        "support_images": rng.uniform(-1, 1, size=(1, WAYS * SHOTS, SIZE, SIZE, 3)),
        "support_labels": np.eye(WAYS)[np.repeat(np.arange(WAYS), SHOTS)][None],
        "query_images": rng.uniform(-1, 1, size=(1, QUERIES, SIZE, SIZE, 3)),
    }
    return [tf.constant(arrays[name], dtype) for name in model.input_names]


QUICKEST = {
    "relation": ("conv4",),
    "cross_attention": ("conv4",),
    "prototype": ("conv4", "resnet10"),
    "cosine": ("conv4",),
    "ridge": ("conv4",),
}
PAIRS = [
    pytest.param(
        head,
        backbone,
        # Graphs, and the larger networks but with one head each.
        marks=[pytest.mark.slow] * (backbone not in QUICKEST.get(head, ())),
    )
    for backbone in BACKBONES
    for head in HEADS
]


@pytest.mark.parametrize(("head", "backbone"), PAIRS)
def test_relevance_of_a_query_is_conserved_down_to_the_pixels(head, backbone, float64):
    model = _model(head, backbone)
    inputs = _inputs(model)
    trace = record(model, inputs)
    scores = trace.outputs[0]
    start = np.zeros(scores.shape)
    start[0, 0, 1] = 1
    composite = COMPOSITES.get({"name": "epsilon_plus", "bias": False})
    wanted = {name: trace.output_of(name) for name in ("support_images", "query_images")}
    if head.startswith("graph"):
        # The labels of the support are features of the nodes like any other.
        wanted["node_labels"] = next(call for call in trace.calls if call.layer.name == "graphs").outputs[1]
    relevance = dict(zip(wanted, reverse(trace, start, composite, list(wanted.values()))))
    parts = {name: float(tf.reduce_sum(r)) for name, r in relevance.items()}
    for name in ("support_images", "query_images"):
        assert np.abs(relevance[name].numpy()).max() > 0
    # Where a head's sums of both signs cancel, relevance grows in both directions; the sum is as exact as its parts.
    mass = max(1.0, *(float(tf.reduce_sum(tf.abs(r))) for r in relevance.values()))
    assert abs(sum(parts.values()) - 1.0) < 0.01 * mass, parts
    if not head.startswith("graph"):
        np.testing.assert_allclose(sum(parts.values()), 1.0, rtol=0.01, err_msg=str(parts))
