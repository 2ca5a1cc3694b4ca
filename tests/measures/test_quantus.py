"""Our measures beside Quantus's, where both define the same, with our explainer as its `explain_func`."""

from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import EpisodeConfig
from egt_tf.data import open_source
from egt_tf.data.preprocessing import normalize
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.judged_queries import draw_queries
from egt_tf.explain.class_maps import class_maps, explain_func
from egt_tf.explain.query_classifier import query_classifier
from egt_tf.measures import (
    area_under,
    deletion_curve,
    faithfulness_correlation,
    max_sensitivity,
    most_relevant_first,
    points_inside,
    rank_inside,
    share_inside,
)

quantus = pytest.importorskip("quantus", reason="pip install -e '.[quantus]' brings what is compared with here")
pytestmark = pytest.mark.slow

SIZE = 32
QUIET = {"disable_warnings": True, "normalise": False, "return_aggregate": False}


@pytest.fixture(scope="module")
def queries():
    images = open_source("synthetic:sketch").split("novel")
    return list(draw_queries(images, EpisodeConfig(3, 2, 1), 3, seed=0, size=SIZE))


@pytest.fixture(scope="module")
def classifier(queries):
    model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "relation", SIZE, seed=1)
    return query_classifier(model, queries[0].support)


@pytest.fixture(scope="module")
def batch(classifier, queries):
    """What Quantus is called with, beside masks and attributions."""
    images = normalize(np.stack([query.image for query in queries])).numpy()
    return {
        "model": classifier,
        "x_batch": images,
        "y_batch": np.array([0, 1, 2]),
        "channel_first": False,
        "explain_func": explain_func,
        # Nearly no pixel of its maps is zero, so that there is one order only.
        "explain_func_kwargs": {"method": {"name": "smoothgrad", "samples": 8}},
    }


@pytest.fixture(scope="module")
def maps(batch):
    return class_maps(batch["model"], batch["x_batch"], batch["y_batch"], **batch["explain_func_kwargs"])


def scores_of(batch, images):
    """The raw score of each one's class; images `(n, ..., H, W, 3)`."""
    flat = images.reshape(-1, SIZE, SIZE, 3).astype(np.float32)
    found = batch["model"].predict(flat, verbose=0).reshape(*images.shape[:-3], -1)
    targets = np.asarray(batch["y_batch"]).reshape(-1, *[1] * (found.ndim - 1))
    return np.take_along_axis(found, np.broadcast_to(targets, (*found.shape[:-1], 1)), axis=-1)[..., 0]


@pytest.mark.parametrize(
    ("name", "absolute", "ours"),
    [
        ("RelevanceMassAccuracy", True, lambda maps, masks: share_inside(np.abs(maps), masks)),
        ("RelevanceRankAccuracy", False, rank_inside),
        ("PointingGame", False, points_inside),
    ],
)
def test_on_the_object(name, absolute, ours, batch, maps, queries):
    masks = np.stack([query.mask for query in queries])
    theirs = getattr(quantus, name)(abs=absolute, **QUIET)(s_batch=masks[:, None], **batch)
    np.testing.assert_allclose(ours(maps, masks), np.asarray(theirs, float), rtol=1e-5)


def test_deletion_is_pixel_flipping(batch, maps):
    images, step = batch["x_batch"], 64
    # Quantus flips single values of three channels, which have one relevance here; sorted, its order must be ours.
    generator = np.random.default_rng(0)
    maps = generator.permutation(maps.size).reshape(maps.shape).astype(np.float64)

    def blacken(arr, indices, **keywords):
        changed = arr.copy().reshape(len(arr), 3, -1)
        np.put_along_axis(changed, np.repeat((indices % SIZE**2)[:, None], 3, axis=1), 0.0, axis=2)
        return changed.reshape(arr.shape)

    # One channel's order decides for all three.
    order = np.concatenate([maps.reshape(3, 1, -1), np.full((3, 2, SIZE**2), -1.0)], axis=1).reshape(3, 3, SIZE, SIZE)
    metric = quantus.PixelFlipping(perturb_func=blacken, features_in_step=step, **QUIET)
    theirs = np.asarray(metric(a_batch=order, softmax=False, **batch))[:, : SIZE**2 // step]
    shares = np.arange(1, SIZE**2 // step + 1) * step / SIZE**2
    ours = deletion_curve(
        lambda x: scores_of(batch, x), images, np.zeros_like(images), most_relevant_first(maps, SIZE), shares.tolist()
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    # Its area is a sum of trapezoids a step of 1 apart, ours a mean height.
    np.testing.assert_allclose(
        area_under(ours, shares.tolist()) * (len(shares) - 1), np.trapz(theirs, axis=1), rtol=1e-4
    )


def test_faithfulness_correlation(batch, maps, monkeypatch):
    runs, share, seed, images = 20, 0.2, 3, batch["x_batch"]
    size = round(share * SIZE**2)
    ours = faithfulness_correlation(lambda x: scores_of(batch, x), images, maps, 0 * images, share, runs, seed)
    generator = np.random.default_rng(seed)
    sets = [generator.choice(SIZE**2, size, replace=False) for _ in range(runs)]
    # Quantus draws a set for each image and run; of both, all images of a run get the same here.
    drawn = iter(np.repeat(sets, 3, axis=0))
    monkeypatch.setattr(np.random, "choice", lambda *arguments, **keywords: next(drawn))

    def blacken(arr, indices, **keywords):
        changed = arr.copy().reshape(len(arr), 3, -1)
        np.put_along_axis(changed, np.repeat(indices[:, None], 3, axis=1), 0.0, axis=2)
        return changed.reshape(arr.shape)

    metric = quantus.FaithfulnessCorrelation(perturb_func=blacken, nr_runs=runs, subset_size=size, abs=False, **QUIET)
    np.testing.assert_allclose(ours, metric(**batch), rtol=1e-3, atol=1e-4)


def test_max_sensitivity(batch, maps, queries):
    images = np.stack([query.image for query in queries])
    changed = []

    def explain(pixels):
        changed.append(normalize(pixels).numpy())
        return class_maps(batch["model"], changed[-1], batch["y_batch"], **batch["explain_func_kwargs"])

    ours = max_sensitivity(explain, images, maps, samples=3, seed=1)
    steps = iter(changed)

    def the_same_noise(arr, indices, **keywords):
        return np.moveaxis(next(steps), -1, 1).reshape(arr.shape)

    metric = quantus.MaxSensitivity(
        perturb_func=the_same_noise,
        nr_samples=3,
        abs=False,
        norm_numerator=lambda a: np.linalg.norm(a.reshape(len(a), -1), axis=1),
        # Theirs is the norm of the image, ours that of the map.
        norm_denominator=lambda a: np.linalg.norm(maps.reshape(len(maps), -1), axis=1),
        **QUIET,
    )
    np.testing.assert_allclose(ours, metric(**batch), rtol=1e-4)
