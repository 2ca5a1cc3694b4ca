"""How much a request to an exported model may hold."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.errors import ExportError
from egt_tf.export.requests import RequestLimits
from egt_tf.export.saved_model import make_portable, make_servable
from tests.helpers.quick import all_but_slow

# No image files: what is refused by its number is not decoded.
NOTHING = [b""]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_pixels": 1023}, "`max_pixels` must be between 1024 and 134217727. Received: max_pixels=1023"),
        ({"max_pixels": 2**27}, "Received: max_pixels=134217728"),
        ({"max_images": 2}, "`max_images` must be between 3 and 65536. Received: max_images=2"),
        ({"max_images": 65_537}, "Received: max_images=65537"),
    ],
)
def test_limits_have_a_range(given, says):
    with pytest.raises(ExportError, match=re.escape(says)):
        RequestLimits(**given)


def test_limits_in_words():
    assert RequestLimits().size == "50 megapixels"
    assert RequestLimits(max_pixels=2_500_000).size == "2500000 pixels"


@pytest.mark.slow
def test_a_request_must_hold_an_episode_of_the_head(build):
    with pytest.raises(ExportError, match=r"at least 4 for a head of 3 classes.*max_images=3"):
        make_servable(build({"name": "graph", "ways": 3}), None, limits=RequestLimits(max_images=3))


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("serving_default", {"images": 257 * NOTHING}),
        ("explain", {"images": 257 * NOTHING, "targets": 257 * [-1]}),
        ("embed", {"images": 257 * NOTHING}),
        ("embed_floats", {"images": np.zeros((257, 32, 32, 3), np.float32)}),
    ],
)
def test_too_many_images_are_refused_before_they_are_decoded(model, query_files, signature, inputs):
    with pytest.raises(ExportError, match=r"a request may hold at most 256 images. Received: 257") as raised:
        model.ask(signature, inputs)
    assert isinstance(raised.value.__cause__, tf.errors.InvalidArgumentError)
    assert np.isfinite(model.ask("embed", {"images": query_files})["features"]).all()


@pytest.mark.parametrize(("held", "asked"), all_but_slow([(256, 1), (6, 251), (300, 0)], {(256, 1), (300, 0)}))
@pytest.mark.parametrize("signature", ["classify_episode", "explain_episode"])
def test_support_images_and_queries_count_together(model, signature, held, asked):
    request = {
        "support_images": held * NOTHING,
        "support_labels": [k % 2 for k in range(held)],
        "query_images": asked * NOTHING,
    }
    targets = {"targets": asked * [-1]} if signature == "explain_episode" else {}
    with pytest.raises(
        ExportError,
        match="at most 256 images, support images and queries together. "
        f"Received: {held} support images and {asked} queries",
    ):
        model.ask(signature, {**request, **targets})


@pytest.mark.slow
def test_a_limit_of_ones_own_also_for_prototypes(build):
    signatures = make_servable(build("cosine"), None, limits=RequestLimits(max_images=4)).signatures
    prototypes, classify = (
        tf.function(signatures[name].function) for name in ("prototypes_floats", "classify_with_prototypes_floats")
    )
    images, labels = tf.fill([5, 32, 32, 3], 9.0), tf.constant([0, 1, 0, 1, 1], tf.int64)
    maps = prototypes(support_images=images[:4], support_labels=labels[:4])["prototypes"]
    assert classify(prototypes=maps, query_images=images[:2])["probabilities"].shape == (2, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 4 images.*5"):
        prototypes(support_images=images, support_labels=labels)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 4 images, prototypes and queries together"):
        classify(prototypes=maps, query_images=images[:3])


@pytest.mark.slow
def test_a_portable_model_counts_too(relation, support):
    ask = make_portable(relation, support, limits=RequestLimits(max_images=3)).signatures["serving_default"].concrete
    images = tf.fill([4, 32, 32, 3], 9.0)
    assert ask(images=images[:3], targets=tf.fill([3], tf.constant(-1, tf.int64)))["probabilities"].shape == (3, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at most 3 images.*4"):
        ask(images=images, targets=tf.fill([4], tf.constant(-1, tf.int64)))
