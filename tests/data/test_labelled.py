from __future__ import annotations

import numpy as np
import pytest

from egt_tf.config import ImagePreparation
from egt_tf.data.image_set import ImageSet
from egt_tf.data.labelled import batches_per_epoch, evaluation_batches, hold_out, indices_and_labels, labelled_batches
from egt_tf.data.preprocessing import denormalize
from egt_tf.errors import ConfigError, DataError, original_error


def flat_image(index: int) -> np.ndarray:
    """Every pixel holds the image's number, so that it can be read off after any crop."""
    return np.full((8, 9, 3), index, np.uint8)


def image_set(sizes=(5, 4, 6), read=flat_image) -> ImageSet:
    bounds = np.cumsum([0, *sizes])
    return ImageSet(
        name="test",
        class_names=tuple(f"class{c}" for c in range(len(sizes))),
        members=tuple(map(np.arange, bounds, bounds[1:])),
        read=read,
        describe=str,
    )


def batches(images=None, **changes) -> list[tuple[list[int], list[int]]]:
    """For each batch the numbers of its images and their labels."""
    options = {"augmentation": "flip", "batch_size": 4, "seed": 3, "count": 2} | changes
    preparation = ImagePreparation(4, options.pop("augmentation"), seed=options.pop("seed"))
    return [
        (denormalize(x).numpy()[:, 0, 0, 0].tolist(), y.numpy().tolist())
        for x, y in labelled_batches(images or image_set(), preparation, **options)
    ]


def test_an_epoch_shows_every_image_once_with_its_class():
    drawn = batches(batch_size=5)
    assert len(drawn) == 2 * 3
    class_of = dict(zip(*indices_and_labels(image_set())))
    for epoch in (drawn[:3], drawn[3:]):
        numbers = [number for batch, _ in epoch for number in batch]
        assert sorted(numbers) == list(range(15))
        assert numbers != sorted(numbers)
        assert [label for _, labels in epoch for label in labels] == [class_of[number] for number in numbers]
    assert drawn[:3] != drawn[3:]


def test_what_makes_no_whole_batch_is_left_out():
    assert batches_per_epoch(image_set(), 4) == 3
    drawn = batches()
    assert [len(numbers) for numbers, _ in drawn] == [4] * 6


def test_a_stream_is_a_function_of_its_seed_and_goes_on_anywhere():
    assert batches(count=3) == batches(count=3) != batches(count=3, seed=4)
    assert batches(start=1, count=2) == batches(count=3)[3:]
    assert batches(start=1, done=2, count=2) == batches(count=3)[5:]
    augmented = [
        labelled_batches(
            image_set(read=lambda i: np.arange(8 * 9 * 3, dtype=np.uint8).reshape(8, 9, 3)),
            ImagePreparation(4, "full", seed=3),
            batch_size=4,
            start=start,
            count=3 - start,
        )
        for start in (0, 2)
    ]
    whole, rest = ([x.numpy() for x, _ in each] for each in augmented)
    np.testing.assert_array_equal(whole[6:], rest)


def test_held_out_images_are_of_every_class_and_not_trained_on():
    training, validation = hold_out(image_set(), 0.3, seed=1)
    assert [len(m) for m in validation.members] == [2, 1, 2]
    for both, one, other in zip(image_set().members, training.members, validation.members):
        assert sorted([*one, *other]) == both.tolist()
    again, other = hold_out(image_set(), 0.3, 1)[1], hold_out(image_set(), 0.3, 2)[1]
    assert (
        [m.tolist() for m in again.members]
        == [m.tolist() for m in validation.members]
        != [m.tolist() for m in other.members]
    )


@pytest.mark.parametrize(("share", "counts"), [(0.001, [1, 1, 1]), (0.999, [4, 3, 5])])
def test_one_image_of_each_class_is_on_either_side(share, counts):
    assert [len(m) for m in hold_out(image_set(), share, 1)[1].members] == counts


def test_a_class_of_one_image_cannot_be_divided():
    with pytest.raises(DataError, match=r"class 'class1' of test has 1; set pretrain.validation_share=0"):
        hold_out(image_set((3, 1)), 0.1, 1)


def test_fewer_images_than_a_batch():
    with pytest.raises(ConfigError, match="batch_size=16, test has 15"):
        batches(batch_size=16)


def test_an_unknown_augmentation():
    with pytest.raises(ConfigError, match="`augmentation` must be one of"):
        batches(augmentation="flop")


def test_evaluation_shows_all_in_order():
    drawn = [
        (denormalize(x).numpy()[:, 0, 0, 0].tolist(), y.numpy().tolist())
        for x, y in evaluation_batches(image_set(), image_size=4, batch_size=4)
    ]
    assert [n for numbers, _ in drawn for n in numbers] == list(range(15))
    assert [label for _, labels in drawn for label in labels] == [0] * 5 + [1] * 4 + [2] * 6


def broken_third(index: int) -> np.ndarray:
    if index % 3 == 0:
        raise DataError(f"cannot read image {index}")
    return flat_image(index)


def test_unreadable_images_are_an_error_or_left_out():
    images = image_set(read=broken_third)
    with pytest.raises(DataError, match="cannot read image"), original_error():
        batches(images)
    skipping = images.skipping_unreadable()
    shown = [n for numbers, _ in batches(skipping, batch_size=5, count=1) for n in numbers]
    assert sorted(shown) == [n for n in range(15) if n % 3]
    assert skipping.report_unreadable().startswith("left out 5 unreadable images")
    left = [y for _, y in evaluation_batches(images.skipping_unreadable(), image_size=4, batch_size=4)]
    assert sum(map(len, left)) == 10


def test_a_batch_without_a_readable_image_is_an_error():
    def broken(index):
        raise DataError("cannot read it")

    images = image_set(read=broken)
    with pytest.raises(DataError, match="one must be readable"), original_error():
        batches(images.skipping_unreadable())
