from __future__ import annotations

import numpy as np
import pytest

from egt_tf.data.likeness import measures, unlike
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sources import open_source
from egt_tf.data.support import load_image

SIZE = 84


def drawn(domain: str, count: int, seed: int = 0) -> np.ndarray:
    source = open_source(f"synthetic:{domain}")
    chosen = np.random.default_rng(seed).choice(len(source.labels), count, replace=False)
    return np.stack([resized_centre(source.read(int(index)), SIZE).numpy() for index in chosen])


def test_measures_of_known_images():
    half = np.zeros((8, 8, 3), np.uint8)
    half[:, 4:] = 255
    # One step of seven in each row; two colours, equally often.
    assert measures(half) == pytest.approx([6 / 7, 1.0])
    ramp = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 32, 8, axis=0).repeat(3, axis=2)
    assert measures(ramp) == pytest.approx([0.0, 3.0])


def test_drawn_shapes_look_like_each_other_and_noise_does_not():
    images = drawn("shapes", 60)
    assert unlike(images[25:], images[:25]).mean() <= 0.05
    noise = np.random.default_rng(1).integers(0, 256, (10, SIZE, SIZE, 3)).astype(np.uint8)
    assert unlike(noise, images[:25]).all()


def test_too_small_a_reference_says_nothing():
    images = drawn("shapes", 8)
    blank = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    assert not unlike(blank, images[:7]).any()
    assert unlike(blank, images).all()


def test_photographs_and_drawings_look_unlike_each_other(benchmark_dir):
    files = sorted((benchmark_dir / "flowers17").rglob("*.jpg"))
    chosen = np.random.default_rng(0).choice(len(files), 80, replace=False)
    photographs = np.stack([load_image(files[index], SIZE) for index in chosen])
    shapes = drawn("shapes", 80)
    assert unlike(photographs, shapes[:25]).mean() > 0.95
    assert unlike(shapes, photographs[:25]).mean() > 0.95
    assert unlike(photographs[25:], photographs[:25]).mean() <= 0.05
