from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from egt_tf.data.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    denormalize,
    draw_augmentation,
    erase,
    evaluation_image,
    jitter,
    normalize,
    random_crop_box,
    training_image,
)
from egt_tf.errors import ConfigError


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Coarse random colours scaled up: detail, edges and strong saturation."""
    coarse = np.random.default_rng(seed).integers(256, size=(9, 11, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def published_evaluation(image: np.ndarray, size: int) -> np.ndarray:
    """Resize and centre crop with Pillow, the reference."""
    side = int(size * 1.15)
    resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    offset = round((side - size) / 2)
    return np.array(resized.crop((offset, offset, offset + size, offset + size)))


@pytest.mark.parametrize(("height", "width"), [(84, 84), (500, 333), (40, 61), (1, 1), (97, 1000)])
@pytest.mark.parametrize("size", [84, 112])
def test_evaluation_agrees_with_pillow(height, width, size):
    image = picture(height, width)
    ours = denormalize(evaluation_image(image, size)).numpy().astype(int)
    assert ours.shape == (size, size, 3)
    difference = np.abs(ours - published_evaluation(image, size))
    assert difference.mean() < 0.5
    assert difference.max() <= 2


@pytest.mark.parametrize(("size", "side", "offset"), [(84, 96, 6), (224, 257, 16)])
def test_evaluation_crops_the_published_square(size, side, offset):
    # Already of the intermediate size, so resizing changes nothing.
    image = picture(side, side)
    ours = denormalize(evaluation_image(image, size)).numpy()
    np.testing.assert_array_equal(ours, image[offset : offset + size, offset : offset + size])


def test_normalisation_by_hand_and_back():
    levels = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    expected = (levels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(normalize(levels), expected, atol=1e-5)
    np.testing.assert_array_equal(denormalize(normalize(levels)), levels)


def test_denormalize_rounds_and_clips():
    assert denormalize(normalize([[-9.0, 3.4, 300.0]])).numpy().tolist() == [[0, 3, 255]]


def test_unknown_augmentation_lists_the_known():
    with pytest.raises(ConfigError, match=r"one of none, flip, full, full_erasing. Received: 'crop'"):
        training_image(picture(9, 9), 8, "crop", [0, 0], False)


def test_no_augmentation_is_evaluation():
    image = picture(50, 70)
    for mirrored in (False, True):
        np.testing.assert_array_equal(training_image(image, 32, "none", [3, 4], mirrored), evaluation_image(image, 32))


def test_half_of_many_are_mirrored_independently_of_the_seeds():
    seeds, mirrored = draw_augmentation(np.random.default_rng(1), 4000)
    assert seeds.shape == (4000, 2)
    assert seeds.dtype == np.int32
    assert (seeds >= 0).all()
    assert mirrored.dtype == bool
    # Four standard deviations of a share, for all and for those of each parity of the seeds.
    for some in (mirrored, mirrored[seeds[:, 0] % 2 == 0], mirrored[seeds[:, 1] % 2 == 1]):
        assert abs(some.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(some))


@pytest.mark.parametrize("augmentation", ["flip", "full", "full_erasing"])
def test_mirroring_is_what_was_drawn(augmentation):
    # Nothing is erased by this seed.
    image, seed = picture(50, 70), tf.constant([5, 1])
    plain, turned = (training_image(image, 16, augmentation, seed, mirrored) for mirrored in (False, True))
    in_graph = tf.function(lambda mirrored: training_image(image, 16, augmentation, seed, mirrored))
    np.testing.assert_array_equal(turned, plain[:, ::-1])
    np.testing.assert_allclose(in_graph(tf.constant(True)), turned, atol=1e-5)
    np.testing.assert_allclose(in_graph(tf.constant(False)), plain, atol=1e-5)


@pytest.mark.parametrize("augmentation", ["flip", "full", "full_erasing"])
def test_augmentation_is_a_function_of_its_seed(augmentation):
    image = picture(50, 70)
    compiled = tf.function(lambda seed, mirrored: training_image(image, 24, augmentation, seed, mirrored))
    draws = [(tf.constant([5, i]), tf.constant(i % 2 == 1)) for i in range(8)]
    results = [training_image(image, 24, augmentation, *drawn).numpy() for drawn in draws]
    for drawn, result in zip(draws, results):
        np.testing.assert_array_equal(result, training_image(image, 24, augmentation, *drawn))
        np.testing.assert_allclose(result, compiled(*drawn), atol=1e-5)
    assert len({result.tobytes() for result in results}) > 1


def test_full_augmentation_keeps_range_and_shape():
    for height, width in [(84, 84), (1, 1), (3, 400), (400, 3)]:
        image = picture(height, width)
        for i in range(5):
            levels = denormalize(training_image(image, 20, "full", [2, i], i % 2 == 1)).numpy()
            exact = training_image(image, 20, "full", [2, i], i % 2 == 1).numpy() * 255 * IMAGENET_STD
            exact += 255 * np.array(IMAGENET_MEAN)
            assert levels.shape == (20, 20, 3)
            np.testing.assert_allclose(exact, levels, atol=1e-3)  # whole levels within 0..255


@pytest.mark.parametrize("seed", range(6))
def test_jitter_is_that_of_pillow(seed):
    image = picture(31, 47, seed)
    factors = np.random.default_rng(seed).uniform(0.6, 1.4, 3).astype(np.float32)
    expected = Image.fromarray(image)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhancer, factor in zip(enhancers, factors):
        expected = enhancer(expected).enhance(float(factor))
    ours = jitter(tf.cast(image, tf.float32), *factors).numpy()
    difference = np.abs(ours - np.array(expected))
    # A rounding of the single-precision product may move a level by one, here and there.
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_jitter_with_factors_of_one_changes_nothing():
    image = tf.cast(picture(20, 20), tf.float32)
    np.testing.assert_array_equal(jitter(image, 1.0, 1.0, 1.0), image)


def boxes(height: int, width: int, n: int) -> np.ndarray:
    uniforms = np.random.default_rng(0).random((n, 22), dtype=np.float32)
    choose = tf.function(lambda u: random_crop_box(tf.constant(height), tf.constant(width), u))
    return np.array([choose(u) for u in uniforms])


def test_crop_boxes_lie_inside_and_spread():
    height, width = 60, 80
    top, left, h, w = boxes(height, width, 1500).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    area, aspect = h * w / (height * width), w / h
    # Rounding to whole pixels moves both a little beyond the limits.
    assert 0.07 < area.min() < 0.1
    assert 0.93 < area.max() <= 1
    assert 0.70 < aspect.min() < 0.78
    assert 1.28 < aspect.max() < 1.42
    free = (height - h) > 20
    assert abs((top[free] / (height - h[free])).mean() - 0.5) < 0.03


def sequential_box(height: int, width: int, uniforms: np.ndarray) -> list[int]:
    """The definition: try one after the other, in double precision."""
    u = uniforms.astype(np.float64)
    for area, ratio in zip(0.08 + 0.92 * u[:10], np.exp(np.log(4 / 3) * (2 * u[10:20] - 1))):
        w, h = round(np.sqrt(area * height * width * ratio)), round(np.sqrt(area * height * width / ratio))
        if 0 < w <= width and 0 < h <= height:
            return [int(u[20] * (height - h + 1)), int(u[21] * (width - w + 1)), h, w]
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(("height", "width"), [(84, 84), (60, 80), (30, 200), (500, 40)])
def test_crop_boxes_agree_with_the_definition(height, width):
    found = boxes(height, width, 300)
    uniforms = np.random.default_rng(0).random((300, 22), dtype=np.float32)
    expected = np.array([sequential_box(height, width, u) for u in uniforms])
    # Single precision may round a half to the other side.
    assert (found == expected).all(axis=1).mean() > 0.98
    assert np.abs(found[:, 2:] - expected[:, 2:]).max() <= 1


def test_crop_places_the_first_attempt_that_fits():
    # Attempt 0 asks for the whole area at 4:3, which does not fit; attempt 1 for an eighth of it, square.
    uniforms = np.full(22, 0.5, np.float32)
    uniforms[0], uniforms[10] = 0.999, 0.999
    uniforms[1], uniforms[11] = (0.125 - 0.08) / 0.92, 0.5
    uniforms[20:] = 0.0, 0.9999
    assert random_crop_box(tf.constant(80), tf.constant(80), uniforms).numpy().tolist() == [0, 52, 28, 28]


@pytest.mark.parametrize(("height", "width", "box"), [(30, 300, [0, 130, 30, 40]), (300, 30, [130, 0, 40, 30])])
def test_crop_falls_back_to_the_centre(height, width, box):
    # The largest areas at the middle ratio never fit a ribbon.
    uniforms = np.full(22, 0.9, np.float32)
    uniforms[10:20] = 0.5
    assert random_crop_box(tf.constant(height), tf.constant(width), uniforms).numpy().tolist() == box


# === Erasing ===


def test_erasing_changes_a_rectangle_in_half_of_the_images_and_nothing_else():
    image, erased, areas = picture(84, 84), 0, []

    @tf.function
    def both(seed):
        return [training_image(image, 84, name, seed, False) for name in ("full", "full_erasing")]

    for number in range(200):
        full, result = (each.numpy() for each in both(tf.constant([number, 7])))
        changed = (full != result).any(-1)
        if changed.any():
            erased += 1
            rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
            box = result[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            np.testing.assert_allclose(box, np.broadcast_to((0.4914, 0.4822, 0.4465), box.shape), rtol=1e-6)
            areas.append(len(rows) * len(columns) / 84**2)
    assert 70 < erased < 130
    assert min(areas) > 0.015
    assert max(areas) < 0.42
    assert max(areas) > 0.3


def test_an_image_of_one_pixel_is_never_erased():
    image = tf.zeros((1, 1, 3))
    for number in range(20):
        uniforms = tf.random.stateless_uniform([23], [number, 1])
        np.testing.assert_array_equal(erase(image, uniforms), image)
