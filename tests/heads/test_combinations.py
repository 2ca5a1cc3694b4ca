"""Every head takes the feature map of every backbone."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.heads import HEADS

WAYS, SHOTS, QUERIES = 3, 1, 3
# Attention between all positions of Conv4NP's 54x54 map at 224 px would take gigabytes.
SIZES = {"conv4": (84, 224), "conv4np": (84,), "resnet10": (84, 224), "resnet12": (84, 224), "resnet18": (84, 224)}
# The largest and the smallest map; the others are slow.
QUICKEST = {("conv4", 84), ("resnet10", 224)}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((name, size), marks=[pytest.mark.slow] * ((name, size) not in QUICKEST))
        for name, sizes in SIZES.items()
        for size in sizes
    ],
    ids=lambda case: f"{case[0]}-{case[1]}px",
)
def feature_shape(request):
    name, size = request.param
    return BACKBONES.get(name, image_size=size, seed=0).output_shape[1:]


@pytest.mark.parametrize("head", HEADS.names())
def test_scores(head, feature_shape):
    arguments = {"ways": WAYS} if HEADS.member(head).needs_ways else {}
    head = HEADS.get({"name": head, **arguments}, feature_shape=feature_shape, seed=0)
    rng = np.random.default_rng(1)
    support, query = (
        tf.constant(rng.uniform(size=(1, n, *feature_shape)), tf.float32) for n in (WAYS * SHOTS, QUERIES)
    )
    scores = head([support, tf.one_hot([np.repeat(np.arange(WAYS), SHOTS)], WAYS), query], training=False)
    assert scores.shape == (1, QUERIES, WAYS)
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("support", np.inf),
        ("query", np.nan),
        pytest.param("support", np.nan, marks=pytest.mark.slow),
        pytest.param("query", np.inf, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", HEADS.names())
def test_a_feature_that_is_not_finite_is_no_score_like_any_other(name, place, number):
    """It shows in the scores, where who uses them looks for it; taken for a zero vector it would be a tie."""
    arguments = {"ways": 2} if HEADS.member(name).needs_ways else {}
    head = HEADS.get({"name": name, **arguments}, feature_shape=(3, 3, 8), seed=0)
    rng = np.random.default_rng(1)
    maps = {part: rng.uniform(size=(1, n, 3, 3, 8)).astype(np.float32) for part, n in (("support", 2), ("query", 4))}
    maps[place][..., 2] = number
    scores = head([maps["support"], tf.eye(2)[None], maps["query"]], training=False)
    assert not np.isfinite(scores).any(axis=-1).all()
