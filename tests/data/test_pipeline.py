from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import EpisodeConfig, ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.loading import ImageCache, image_batches
from egt_tf.data.mixture import mix
from egt_tf.data.pipeline import episode_dataset, episode_pairs
from egt_tf.data.preprocessing import denormalize, draw_augmentation, evaluation_image, training_image
from egt_tf.data.sampling import episode_generator, sample_episode
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError, DataError, original_error
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow

PER_CLASS = 6


def flat_image(index: int) -> np.ndarray:
    """Every pixel holds the image's number, so that it can be read off after any crop; sizes differ."""
    return np.full((8 + index % 5, 9 + index % 3, 3), index, np.uint8)


def gradient(index: int) -> np.ndarray:
    """Every image is another, and none is symmetric."""
    return (np.arange(12 * 14 * 3).reshape(12, 14, 3) * (3 + index) % 256).astype(np.uint8)


def broken_image(index: int) -> np.ndarray:
    raise DataError(f"cannot read image /photos/'{index}'.png: truncated, \"cut\"")


def image_set(n_classes: int = 5, read=flat_image) -> ImageSet:
    return ImageSet(
        name="test",
        class_names=tuple(f"class{c}" for c in range(n_classes)),
        members=tuple(np.arange(c * PER_CLASS, (c + 1) * PER_CLASS) for c in range(n_classes)),
        read=read,
        describe=str,
    )


def prepared(options: dict) -> ImagePreparation:
    """What the options say of the preparation, which is taken out of them."""
    names = {"image_size": 4, "augmentation": "none", "cache_mb": 1024, "seed": 5}
    return ImagePreparation(**{name: options.pop(name, value) for name, value in names.items()})


def episodes(episode=EpisodeConfig(3, 2, 3), images=None, **changes):
    options = {"count": 6} | changes
    return episode_dataset(images or image_set(), episode, prepared(options), **options)


def flat(dataset) -> list[np.ndarray]:
    return [array for element in dataset for array in tf.nest.flatten(element)]


def assert_same(first, second):
    first, second = flat(first), flat(second)
    assert len(first) == len(second) > 0
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)


def image_numbers(images) -> np.ndarray:
    return denormalize(images).numpy()[..., 0, 0, 0].astype(int)


# === Structure ===


def test_element_spec_is_static():
    inputs, labels, base_labels = episodes(EpisodeConfig(3, 2, 4), episodes_per_step=2).element_spec
    assert inputs["support_images"] == tf.TensorSpec((2, 6, 4, 4, 3), tf.float32)
    assert inputs["support_labels"] == tf.TensorSpec((2, 6, 3), tf.float32)
    assert inputs["query_images"] == tf.TensorSpec((2, 12, 4, 4, 3), tf.float32)
    assert labels == base_labels == tf.TensorSpec((2, 12), tf.int32)


def test_images_are_those_of_the_sampler_class_by_class():
    episode, images = EpisodeConfig(3, 2, 3), image_set()
    steps = list(episodes(episode, images, episodes_per_step=2))
    assert len(steps) == 3
    for step, (inputs, labels, base_labels) in enumerate(steps):
        for e in range(2):
            expected = sample_episode(images.members, episode, episode_generator(5, 2 * step + e))
            support = image_numbers(inputs["support_images"][e])
            query = image_numbers(inputs["query_images"][e])
            np.testing.assert_array_equal(support, expected.support.ravel())
            np.testing.assert_array_equal(query, expected.query.ravel())
            np.testing.assert_array_equal(inputs["support_labels"][e], np.eye(3).repeat(2, axis=0))
            np.testing.assert_array_equal(labels[e], [0, 0, 0, 1, 1, 1, 2, 2, 2])
            np.testing.assert_array_equal(query // PER_CLASS, expected.classes[labels[e].numpy()])
            np.testing.assert_array_equal(base_labels[e], query // PER_CLASS)
            assert not set(support) & set(query)


@pytest.mark.parametrize("augmentation", ["none", "flip", pytest.param("full", marks=pytest.mark.slow), "full_erasing"])
@pytest.mark.parametrize("cache_mb", all_but_slow([0, 16], {0}))
def test_images_are_those_of_training_image(augmentation, cache_mb):
    episode, images = EpisodeConfig(3, 2, 3), image_set(read=gradient)
    dataset = episodes(episode, images, augmentation=augmentation, image_size=8, count=2, cache_mb=cache_mb)
    # Twice, since the second pass comes from memory.
    for number, (inputs, *_) in enumerate([*dataset, *dataset]):
        rng = episode_generator(5, number % 2)
        indices = sample_episode(images.members, episode, rng).images
        drawn = zip(indices, *draw_augmentation(rng, len(indices)))
        expected = [training_image(gradient(i), 8, augmentation, seed, mirrored) for i, seed, mirrored in drawn]
        given = np.concatenate([inputs["support_images"][0], inputs["query_images"][0]])
        np.testing.assert_allclose(given, expected, atol=1e-5)


def test_no_augmentation_gives_evaluation_images():
    images = image_set(read=gradient)
    inputs, *_ = next(iter(episodes(images=images, image_size=8)))
    first = sample_episode(images.members, EpisodeConfig(3, 2, 3), episode_generator(5, 0)).support[0, 0]
    expected = evaluation_image(gradient(first), 8)
    np.testing.assert_allclose(inputs["support_images"][0, 0], expected, atol=1e-5)


# === Determinism ===


@pytest.mark.parametrize("augmentation", ["none", "flip", "full"])
def test_same_seed_twice_and_on_a_second_pass(augmentation):
    dataset = episodes(images=image_set(read=gradient), augmentation=augmentation, image_size=8)
    assert_same(dataset, dataset)
    assert_same(dataset, episodes(images=image_set(read=gradient), augmentation=augmentation, image_size=8))


@pytest.mark.parametrize("episodes_per_step", [1, 2])
def test_start_continues_exactly(episodes_per_step):
    options = {"images": image_set(read=gradient), "augmentation": "full", "image_size": 8}
    whole = episodes(count=6, episodes_per_step=episodes_per_step, **options)
    tail = episodes(start=2, count=4, episodes_per_step=episodes_per_step, **options)
    assert_same(whole.skip(2 // episodes_per_step), tail)


def test_other_seeds_give_other_episodes():
    first, other = (flat(episodes(seed=seed)) for seed in (5, 6))
    assert any((a.numpy() != b.numpy()).any() for a, b in zip(first, other))


def test_threads_do_not_matter():
    def slow_for_some(index):
        time.sleep(0.01 * (index % 3 == 0))
        return gradient(index)

    def with_threads(n):
        options = tf.data.Options()
        options.threading.private_threadpool_size = n
        dataset = episodes(images=image_set(read=slow_for_some), augmentation="full", image_size=8)
        return dataset.with_options(options)

    assert_same(with_threads(1), with_threads(8))


@pytest.mark.parametrize("augmentation", all_but_slow(["flip", "full"], {"full"}))
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"parallel_calls": 1}, marks=pytest.mark.slow),
        {"parallel_calls": 7},
        pytest.param({"cache_mb": 0}, marks=pytest.mark.slow),
        {"cache_mb": 0.001},
        pytest.param({"episodes_per_step": 2}, marks=pytest.mark.slow),
        {"episodes_per_step": 6},
    ],
)
def test_an_episode_depends_on_its_number_alone(augmentation, changes):
    def passes(**options):
        images = image_set(read=gradient)
        dataset = episodes(images=images, augmentation=augmentation, image_size=8, **options)
        steps = [tf.nest.flatten(element) for element in [*dataset, *dataset]]
        return [np.concatenate(parts) for parts in zip(*steps)]

    for expected, given in zip(passes(), passes(**changes), strict=True):
        np.testing.assert_array_equal(given, expected)


@pytest.mark.slow
def test_steps_divided_among_workers_are_the_same():
    options = {"images": image_set(read=gradient), "augmentation": "full", "image_size": 8}
    whole, shards = list(episodes(**options)), [list(episodes(**options).shard(2, index)) for index in range(2)]
    assert [len(shard) for shard in shards] == [3, 3]
    assert_same(whole, [step for pair in zip(*shards) for step in pair])


REPLICAS = """
import sys
import numpy as np
import tensorflow as tf
from egt_tf.config import EpisodeConfig, ImagePreparation
from egt_tf.data.mixture import mix
from egt_tf.data.pipeline import episode_dataset
from egt_tf.data.sources import open_source

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
dataset = episode_dataset(open_source("synthetic:shapes").split("base"), EpisodeConfig(3, 1, 2),
                          ImagePreparation(16, "full", seed=5), count=8, episodes_per_step=4)
for whole, divided in zip(dataset, strategy.experimental_distribute_dataset(dataset), strict=True):
    for expected, part in zip(tf.nest.flatten(whole), tf.nest.flatten(divided), strict=True):
        parts = strategy.experimental_local_results(part)
        assert [len(each) for each in parts] == [2, 2], [each.shape for each in parts]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
sys.stdout.write("equal")
"""


def test_steps_divided_among_replicas_are_the_same():
    # In a process of its own, since logical devices are made before TensorFlow is first used.
    done = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True, check=False)
    assert done.stdout == "equal", done.stderr[-2000:]


def test_positions_of_an_episode_are_augmented_independently():
    # One picture in every place: only the augmentation tells them apart.
    same = image_set(read=lambda index: gradient(0))
    inputs, *_ = next(iter(episodes(images=same, augmentation="full", image_size=8)))
    images = np.concatenate([inputs["support_images"][0], inputs["query_images"][0]])
    assert len({image.tobytes() for image in images}) == len(images)


def test_half_of_many_images_are_mirrored_whether_they_are_kept_or_not():
    # One picture in every place: only the mirroring tells them apart.
    same, plain = image_set(read=lambda index: gradient(0)), evaluation_image(gradient(0), 8).numpy()
    dataset = episodes(images=same, augmentation="flip", image_size=8, count=40)
    passes = []
    for _ in range(2):
        steps = [inputs for inputs, *_ in dataset]
        images = np.concatenate([step[part][0] for step in steps for part in ("support_images", "query_images")])
        passes.append([bool((image == plain[:, ::-1]).all()) for image in images])
        assert [bool((image == plain).all()) for image in images] == [not mirrored for mirrored in passes[-1]]
    assert passes[0] == passes[1]
    # Four standard deviations of a share.
    assert abs(np.mean(passes[0]) - 0.5) < 4 * 0.5 / np.sqrt(len(passes[0]))


# === Errors ===


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": "crop"}, "one of none, flip, full, full_erasing. Received: 'crop'"),
        ({"seed": -1}, "`seed` must be >= 0. Received: seed=-1"),
        ({"start": -2}, "`start` must be >= 0. Received: start=-2"),
        ({"count": 0}, "`count` must be >= 1. Received: count=0"),
        ({"episodes_per_step": 0}, "`episodes_per_step` must be >= 1"),
        ({"episodes_per_step": 4}, "Received: 6 episodes, episodes_per_step=4"),
    ],
)
def test_impossible_streams(changes, message):
    with pytest.raises(ConfigError) as caught:
        episodes(**changes)
    assert message in str(caught.value)


def test_infeasible_episodes_are_refused_at_once():
    with pytest.raises(DataError, match="Received: class 'class0' of test has 6"):
        episodes(EpisodeConfig(3, 3, 4))


def test_errors_of_images_show_the_original_message():
    dataset = episodes(images=image_set(read=broken_image), count=1)
    with pytest.raises(DataError) as caught, original_error():
        list(dataset)
    assert str(caught.value).startswith("cannot read image /photos/'")
    assert str(caught.value).endswith('\'.png: truncated, "cut"')


def test_errors_of_images_reach_through_fit():
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", "mse")
    batches = image_batches(image_set(read=broken_image), [0, 1], image_size=4, batch_size=2)
    batches = batches.map(lambda x: (x[:, 0, 0], x[:, 0, 0, :1]))
    message = r"^cannot read image /photos/'\d'.png: truncated, \"cut\"$"
    with pytest.raises(DataError, match=message), original_error():
        model.fit(batches, verbose=0)


def test_other_errors_pass_unchanged():
    with pytest.raises(tf.errors.InvalidArgumentError), original_error():
        tf.reshape(tf.zeros(3), [2])
    with pytest.raises(KeyError), original_error():
        raise KeyError("x")
    with original_error():
        pass


# === Several domains ===


def test_a_mixture_gives_each_episode_from_one_domain_and_numbers_the_classes_through():
    images = mix([image_set(4), image_set(5, read=lambda index: flat_image(index + 100))])
    dataset = episodes(EpisodeConfig(3, 2, 3), images, count=20, episodes_per_step=2)
    seen = set()
    for inputs, _, base_labels in dataset:
        for support, query, labels in zip(inputs["support_images"], inputs["query_images"], base_labels):
            numbers = image_numbers(np.concatenate([support, query]))
            domain = int(numbers[0] >= 100)
            assert ((numbers >= 100) == domain).all()
            np.testing.assert_array_equal(labels, (image_numbers(query) - 100 * domain) // PER_CLASS + 4 * domain)
            seen |= set(labels.numpy())
    assert seen == set(range(9))


# === Unreadable images ===


def unreadable(*broken):
    def read(index):
        return broken_image(index) if index in broken else flat_image(index)

    return image_set(read=read)


@pytest.mark.parametrize("augmentation", all_but_slow(["none", "full"], {"full"}))
def test_unreadable_images_are_left_out(augmentation):
    images, episode = unreadable(0, 7, 8, 20), EpisodeConfig(3, 1, 2)
    skipping = images.skipping_unreadable()
    options = {"augmentation": augmentation, "count": 12}
    dataset = episodes(episode, skipping, **options)
    numbers = [
        image_numbers(np.concatenate([inputs["support_images"][0], inputs["query_images"][0]]))
        for inputs, *_ in dataset
    ]
    used = set(np.concatenate(numbers))
    if augmentation == "none":
        # Every image but those, none of them black: image 0 would be, and its number is its grey level.
        assert used == set(range(30)) - {0, 7, 8, 20}
    assert skipping.report_unreadable() == "left out 4 unreadable images: 0, 7, 8 and 1 more"
    assert skipping.report_unreadable() is None
    # Again with other threads, and from the middle on: what was found before does not matter.
    assert_same(dataset, episodes(episode, images.skipping_unreadable(), parallel_calls=1, **options))
    tail = {**options, "count": 5, "start": 7}
    assert_same(dataset.skip(7), episodes(episode, images.skipping_unreadable(), **tail))


def test_episodes_without_unreadable_images_stay_as_they_were():
    episode, images = EpisodeConfig(3, 1, 2), unreadable(7)
    left_out = list(episodes(episode, images.skipping_unreadable(), count=12))
    whole = list(episodes(episode, image_set(), count=12))
    without = [i for i in range(12) if 7 not in sample_episode(images.members, episode, episode_generator(5, i)).images]
    assert 0 < len(without) < 12
    for number in range(12):
        same = all(
            (a.numpy() == b.numpy()).all()
            for a, b in zip(tf.nest.flatten(left_out[number]), tf.nest.flatten(whole[number]))
        )
        assert same == (number in without)


def test_a_class_with_too_few_readable_images_is_the_usual_error():
    images = unreadable(7)
    dataset = episodes(EpisodeConfig(3, 3, 3), images.skipping_unreadable(), count=10)
    with (
        pytest.raises(DataError, match=r"need 6 images a class. Received: class 'class1' of test has 5"),
        original_error(),
    ):
        list(dataset)


# === Single images ===


def test_image_batches_keep_the_order():
    order = [7, 3, 3, 29, 0]
    batches = list(image_batches(image_set(), order, image_size=4, batch_size=2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    np.testing.assert_array_equal(image_numbers(np.concatenate(batches)), order)
    assert batches[0].dtype == tf.float32


# === Cache ===


class CountingReader:
    def __init__(self):
        self.reads = []

    def __call__(self, index):
        self.reads.append(int(index))
        return np.full((2**10, 2**8, 1), index, np.uint8)  # a quarter of a megabyte


def test_cache_keeps_within_its_budget():
    reader = CountingReader()
    cache = ImageCache(reader, capacity_mb=0.75)
    for _ in range(3):
        for index in range(5):
            assert cache(np.int64(index))[0, 0, 0] == index
            assert cache.nbytes <= 0.75 * 2**20
    assert cache.nbytes == 0.75 * 2**20
    assert [reader.reads.count(i) for i in range(5)] == [1, 1, 1, 3, 3]


def test_cache_of_nothing_reads_every_time():
    reader = CountingReader()
    cache = ImageCache(reader, capacity_mb=0)
    cache(1), cache(1)
    assert reader.reads == [1, 1]
    assert cache.nbytes == 0


@pytest.mark.parametrize("augmentation", ["flip", "full"])
def test_second_pass_reads_no_file(augmentation):
    reads = []

    def read(index):
        reads.append(index)
        return flat_image(index)

    # One step at a time: two could each read an image that neither has kept yet.
    dataset = episodes(images=image_set(read=read), augmentation=augmentation, count=10, parallel_calls=1)
    list(dataset)
    assert sorted(reads) == list(range(30))
    list(dataset)
    assert len(reads) == 30


# === real photos ===


def test_benchmark_photos(benchmark_dir):
    images = open_source(f"folder:{benchmark_dir}/cub").split("novel")
    dataset = episodes(EpisodeConfig(5, 1, 3), images, image_size=84, augmentation="full", count=1)
    inputs, labels, _ = next(iter(dataset))
    assert inputs["support_images"].shape == (1, 5, 84, 84, 3)
    assert labels.shape == (1, 15)
    assert 0.3 < np.std(inputs["query_images"]) < 2.5


def test_pairs_are_two_streams_of_different_domains():
    episode, images = EpisodeConfig(3, 2, 3), mix([image_set(), image_set()])
    preparation = ImagePreparation(image_size=4, seed=5)
    pairs = list(episode_pairs(images, episode, preparation, count=6))
    assert_same([first for first, _ in pairs], episodes(episode, images))
    assert len(pairs) == 6
    for first, second in pairs:
        # Five classes a domain.
        assert set(first[2].numpy().ravel() // 5) != set(second[2].numpy().ravel() // 5)
    later = list(episode_pairs(images, episode, preparation, start=4, count=2))
    assert_same(pairs[4:], later)
