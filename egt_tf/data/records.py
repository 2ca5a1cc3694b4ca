"""Random access to the examples of a prepared TensorFlow Datasets set, without keeping its images in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from egt_tf.errors import DataError

_LENGTH_BYTES, _CHECKSUM_BYTES = 8, 4  # a TFRecord is its length, a checksum, the data, a checksum
_DAMAGE = (OSError, ValueError, IndexError)


@dataclass(frozen=True, eq=False)
class Records:
    """Where the labelled examples of a set lie in its files.

    Attributes:
        name: what messages call the set.
        files: the TFRecord files.
        places: file, byte and length of every example, int64 `(n, 3)`.
        labels: int64 `(n,)`.
        class_names: one a label.
        image_key: the feature that holds the image.
        splits: the name of each example's split.
        kept: the other features asked for, each a list of n texts or integers.
    """

    name: str
    files: tuple[str, ...]
    places: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    image_key: str
    splits: tuple[str, ...]
    kept: dict[str, list]

    def image(self, index: int) -> bytes:
        """The encoded image of an example.

        Raises:
            DataError: the file is gone, or was changed after it was indexed.
        """
        number, start, length = self.places[int(index)].tolist()
        try:
            with open(self.files[number], "rb") as file:
                file.seek(start)
                return _feature(_example(file.read(length)), self.image_key).bytes_list.value[0]
        except _DAMAGE as error:
            raise DataError(f"cannot read example {index} of {self.name} in {self.files[number]}: {error}") from error


def read_records(name: str, builder: Any, splits: Sequence[str] | None = None, keep: Sequence[str] = ()) -> Records:
    """Goes through the files of a prepared set once and notes where every labelled example is.

    Args:
        name: what messages call the set.
        builder: of a prepared set of images and labels; which features these are, its supervised keys say, else they
            are called 'image' and 'label'.
        splits: which ones; all by default. Examples with the label -1, which stands for none, are left out.
        keep: further features, each one text or one integer an example.

    Raises:
        DataError: other features, another file format than TFRecord, no example with a label, or damaged or missing
            files.
    """
    image_key, label_key = _keys(name, builder.info)
    _check_format(name, builder)
    files: list[str] = []
    places: list[tuple[int, int, int]] = []
    labels: list[int] = []
    split_of: list[str] = []
    kept: dict[str, list] = {key: [] for key in keep}
    used = sorted(builder.info.splits) if splits is None else splits
    for split in used:
        for file in map(os.fspath, builder.info.splits[split].filepaths):
            files.append(file)
            for start, data in _records_of(name, file):
                example = _example(data)
                label = _feature(example, label_key).int64_list.value[0]
                if label >= 0:
                    places.append((len(files) - 1, start, len(data)))
                    labels.append(label)
                    split_of.append(split)
                    for key in keep:
                        kept[key].append(_value(_feature(example, key)))
    if not labels:
        raise DataError(f"{name} must have images with labels. Received: none, in the splits {', '.join(used)}")
    return Records(
        name,
        tuple(files),
        np.array(places, np.int64).reshape(-1, 3),
        np.array(labels, np.int64),
        tuple(builder.info.features[label_key].names),
        image_key,
        tuple(split_of),
        kept,
    )


def _keys(name: str, info: Any) -> tuple[str, str]:
    """The features that hold the image and its label."""
    import tensorflow_datasets as tfds

    supervised = [key for key in (info.supervised_keys or ())[:2] if isinstance(key, str)]
    for keys in (supervised, ["image", "label"]):
        classes = [type(info.features[key]) if key in info.features else None for key in keys]
        if classes == [tfds.features.Image, tfds.features.ClassLabel]:
            number = info.features[keys[0]].np_dtype
            # Others are written as if their bytes were pixels, which they are not.
            if number not in (np.uint8, np.uint16):
                raise DataError(f"the images of {name} must be of 8 or 16 bits. Received: {np.dtype(number)}")
            return keys[0], keys[1]
    raise DataError(
        f"{name} must have the features 'image' (Image) and 'label' (ClassLabel). Received: {', '.join(info.features)}"
    )


def _check_format(name: str, builder: Any) -> None:
    found = builder.info.file_format
    if found is not None and found.value != "tfrecord":
        raise DataError(f"{name} must be prepared as tfrecord files. Received: {found.value} in {builder.data_dir}")


def _records_of(name: str, file: str) -> Iterator[tuple[int, bytes]]:
    """Position and data of each record, the checksums verified."""
    import tensorflow as tf

    start = 0
    try:
        for data in tf.data.TFRecordDataset(file).as_numpy_iterator():
            start += _LENGTH_BYTES + _CHECKSUM_BYTES
            yield start, data
            start += len(data) + _CHECKSUM_BYTES
    except tf.errors.OpError as error:
        raise DataError(f"cannot read {name} in {os.path.dirname(file)}: {str(error).splitlines()[0]}") from error


def _example(data: bytes) -> Any:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(data)
    except DecodeError as error:
        raise ValueError("it holds no tf.train.Example") from error


def _feature(example: Any, key: str) -> Any:
    return example.features.feature[key]


def _value(feature: Any) -> str | int:
    if feature.HasField("int64_list"):
        return int(feature.int64_list.value[0])
    return feature.bytes_list.value[0].decode("utf-8", "replace")
