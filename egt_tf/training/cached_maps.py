"""The maps of a frozen embedding, computed once for every view of every image, and training on them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.neck import behind_embedding, embedding_of
from egt_tf.config import ImagePreparation, RunConfig, find_augmentation
from egt_tf.data.image_set import ImageSet, UnreadableImages
from egt_tf.data.labelled import indices_and_labels
from egt_tf.data.loading import Loader
from egt_tf.data.map_files import DTYPE, Maps, read_maps, written_maps
from egt_tf.data.views import Views
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, original_error
from egt_tf.keras_api import compiled, keras
from egt_tf.lrp.value_ranges import outputs_nonnegative

DEFAULT_VIEWS = 4
# Seconds between two lines of progress.
_REPORT_EVERY = 10.0
_MAPS_PER_BATCH = 64

Report = Callable[[str], None]


def number_of_views(config: RunConfig) -> int:
    """How many views of each training image there are maps of.

    Raises:
        ConfigError: `data.views` is more than the augmentation has.

    Example:
        >>> number_of_views(RunConfig())
        2
    """
    distinct = find_augmentation(config.data.augmentation).distinct
    views = config.data.views
    if views is not None and distinct is not None and views > distinct:
        raise ConfigError(
            f"`data.views` must be at most {distinct} with data.augmentation={config.data.augmentation}, which has no "
            f"more. Received: {views}"
        )
    return views if views is not None else min(DEFAULT_VIEWS, distinct or DEFAULT_VIEWS)


def classifier_of_maps(model: EpisodicModel) -> EpisodicModel:
    """What the model does behind its embedding: its "images" are maps; it shares neck and head with the model.

    Args:
        model: with a frozen embedding.

    Example:
        >>> spec = {"name": "conv4", "width": 4, "trainable": False, "neck": 6}
        >>> model = EpisodicModel.build_from(spec, "prototype", image_size=32, seed=0)
        >>> classifier_of_maps(model).backbone.input_shape
        (None, 2, 2, 4)
    """
    (nonnegative,) = outputs_nonnegative(embedding_of(model.backbone), [False])
    return EpisodicModel(behind_embedding(model.backbone, nonnegative), model.head)


def map_loader(maps: Maps) -> Loader:
    """Gives maps in the place of images; which view of an image, its random numbers say.

    Args:
        maps: of all images that are drawn.
    """
    shape = maps.values.shape[2:]

    def load(indices: tf.Tensor, seeds: tf.Tensor, mirrored: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(lambda i, s: maps.take(i, s[:, 0] % maps.views), [indices, seeds], tf.float16)
        return tf.cast(tf.ensure_shape(found, [*indices.shape, *shape]), tf.float32)

    return load


def map_batches(maps: Maps, indices: np.ndarray) -> Iterator[tf.Tensor]:
    """The first views' maps of images, float32 `(batch, h, w, channels)`, in the order of the indices."""
    for begin in range(0, len(indices), _MAPS_PER_BATCH):
        chosen = indices[begin : begin + _MAPS_PER_BATCH]
        yield tf.constant(maps.take(chosen, np.zeros(len(chosen), np.int64)), tf.float32)


def with_known_maps(images: ImageSet, maps: Maps) -> ImageSet:
    """The images; whether one of them can be read is known from the maps."""
    if images.unreadable is None:
        return images
    return dataclasses.replace(images, unreadable=UnreadableImages(_check_of(maps)))


def _check_of(maps: Maps) -> Callable[[int], np.ndarray]:
    def read(index: int) -> np.ndarray:
        maps.check(index)
        return np.zeros(0)

    return read


class MapCache:
    """Computes the maps of image sets, or finds them in files.

    Args:
        folder: keeps the maps; None keeps them in memory.
        limit_mb: MiB of the maps of one image set in memory; files have no limit.
        report: gets lines for the user.
    """

    def __init__(self, folder: str | None, limit_mb: float, report: Report = lambda line: None):
        self.folder, self.limit_mb, self.report = None if folder is None else Path(folder), limit_mb, report

    def check_size(self, backbone: keras.Model, images: ImageSet, views: int) -> None:
        """Checks that the maps of an image set fit into memory, if they are kept there.

        Raises:
            ConfigError: they do not.
        """
        size = int(np.prod(_shape(backbone, images, views))) * DTYPE.itemsize / 2**20
        if self.folder is None and size > self.limit_mb:
            raise ConfigError(
                f"the maps of {images.name} must fit into data.cache_mb={self.limit_mb}. Received: {size:.0f} MiB "
                f"({views} views of {_count(images)} images); raise it, or name a folder for them in data.feature_cache"
            )

    def maps(
        self,
        backbone: keras.Model,
        spec: Mapping[str, Any],
        images: ImageSet,
        preparation: ImagePreparation,
        views: int,
    ) -> Maps:
        """The maps of all images of a set.

        Args:
            backbone: whose embedding is run as in inference.
            spec: the backbone as the configuration names it.
            images: the images; where it skips unreadable ones, there are no maps of these.
            preparation: size, augmentation and seed of the views.
            views: of each image.

        Raises:
            ConfigError: a map has a value that half precision cannot hold.
            DataError: an image cannot be read.
        """
        shape, indices = _shape(backbone, images, views), _sorted_indices(images)
        compute = _Computation(embedding_of(backbone), Views(images, preparation, views), indices, self.report)
        self.check_size(backbone, images, views)
        if self.folder is None:
            self.report(_began(images, views, "in memory"))
            return _in_memory(compute, shape)
        fingerprint = fingerprint_of(embedding_of(backbone), spec, images, preparation, views)
        path = self.folder / f"{fingerprint[:24]}.maps"
        try:
            maps = read_maps(path, fingerprint, indices, shape)
            self.report(f"the maps of {len(indices)} images of {images.name} are those of {path}")
            return maps
        except DataError as error:
            self.report(_began(images, views, f"into {path}; {self._why(path, error)}"))
        with written_maps(path, fingerprint, shape) as writer:
            writer.finish(compute(writer.add))
        return read_maps(path, fingerprint, indices, shape)

    def _why(self, path: Path, error: DataError) -> str:
        if path.exists():
            return f"the file there is not used: {error}"
        others = len(list(path.parent.glob("*.maps")))
        return f"{others} files there are of other images or backbones" if others else "there are none yet"


class _Computation:
    """Runs an embedding on views of images and hands the maps on as bytes."""

    def __init__(self, embedding: keras.Model, views: Views, indices: np.ndarray, report: Report):
        self.views, self.indices, self.report = views, indices, report
        signature = [tf.TensorSpec([None, *embedding.input_shape[1:]], tf.float32)]
        self._embed = compiled(lambda batch: embedding(batch, training=False), input_signature=signature)

    def __call__(self, write: Callable[[bytes], object]) -> np.ndarray:
        """Which of the images are readable."""
        done, shown = 0, time.monotonic()
        with original_error():
            for batch in self.views.batches(self.indices):
                write(self._maps(batch).tobytes())
                done += len(batch)
                if time.monotonic() - shown > _REPORT_EVERY:
                    shown = time.monotonic()
                    self.report(f"maps of {done} of {len(self.indices)} images are done")
        return ~np.isin(self.indices, sorted(self.views.unreadable))

    def _maps(self, batch: tf.Tensor) -> np.ndarray:
        found = self._embed(tf.reshape(batch, [-1, *batch.shape[2:]])).numpy()
        if not np.abs(found).max() <= np.finfo(np.float16).max:
            raise ConfigError(
                "the maps of a frozen backbone must be finite and at most 65504, as they are kept in half precision. "
                f"Received: {np.abs(found).max()}; take another output of the backbone"
            )
        return found.astype(DTYPE)


def fingerprint_of(
    embedding: keras.Model, spec: Mapping[str, Any], images: ImageSet, preparation: ImagePreparation, views: int
) -> str:
    """What the maps of images depend on, as 64 hexadecimal digits.

    The contents of the images, the embedding's weights and layers, the size, the augmentation and the views; the seed
    where the augmentation draws by it.

    Args:
        embedding: the frozen model.
        spec: the backbone as the configuration names it.
        images, preparation, views: see `MapCache.maps`.
    """
    augmented = find_augmentation(preparation.augmentation)
    known = {
        "backbone": {key: value for key, value in spec.items() if key not in ("neck", "trainable", "weights")},
        "layers": [(type(layer).__name__, str(layer.output_shape), _settings(layer)) for layer in _layers(embedding)],
        "image_size": preparation.image_size,
        "augmentation": preparation.augmentation,
        "views": views,
        "seed": preparation.seed if augmented.crops or augmented.flips else None,
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
    for weight in embedding.weights:
        digest.update(f"{weight.shape}".encode() + weight.numpy().tobytes())
    for index in _sorted_indices(images):
        digest.update(hashlib.sha256(_content(images, int(index))).digest())
    return digest.hexdigest()


def _content(images: ImageSet, index: int) -> bytes:
    try:
        return images.read(index).tobytes() if images.encoded is None else images.encoded(index)
    except (DataError, OSError):
        # Found again when it is to be read.
        return b""


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _layers(layer) if isinstance(layer, keras.Model) else (layer,)


def _settings(layer: keras.layers.Layer) -> dict[str, Any]:
    """What a layer is made with, without its name and its initial weights."""
    return {
        key: value
        for key, value in layer.get_config().items()
        if key not in ("name", "trainable") and not key.endswith(("initializer", "regularizer"))
    }


def _in_memory(compute: _Computation, shape: tuple[int, ...]) -> Maps:
    values = np.empty(shape, DTYPE)
    flat, end = values.reshape(-1).view(np.uint8), 0

    def write(content: bytes) -> None:
        nonlocal end
        flat[end : end + len(content)] = np.frombuffer(content, np.uint8)
        end += len(content)

    readable = compute(write)
    return Maps(compute.indices, values, readable)


def _shape(backbone: keras.Model, images: ImageSet, views: int) -> tuple[int, ...]:
    return (_count(images), views, *embedding_of(backbone).output_shape[1:])


def _count(images: ImageSet) -> int:
    return len(_sorted_indices(images))


def _sorted_indices(images: ImageSet) -> np.ndarray:
    return np.unique(indices_and_labels(images)[0])


def _began(images: ImageSet, views: int, where: str) -> str:
    each = "1 view" if views == 1 else f"{views} views"
    return f"computing the maps of {_count(images)} images of {images.name}, {each} of each, {where}"
