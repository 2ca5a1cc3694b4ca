"""The network that makes a vector of each photo, ready to be explained; nothing of it is trained here."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones.base import build_backbone
from egt_tf.data.image_set import OnProgress
from egt_tf.data.preprocessing import normalize
from egt_tf.errors import OVERFLOW, NotFiniteError, RunError
from egt_tf.explain.methods import get_method
from egt_tf.keras_api import compiled, keras

_BATCH = 16


class Embedding:
    """A backbone whose map is averaged over its positions, with batch normalisation folded if its explanation wants it.

    Args:
        spec: as `build_backbone` takes it.
        image_size: height and width of the photos in pixels.
        composite: how it is explained, as `COMPOSITES` takes it.

    Raises:
        ConfigError: an unknown name or argument, or weights that are not there.

    Example:
        >>> embedding = Embedding({"name": "conv4", "width": 4}, 32, "epsilon_plus")
        >>> embedding.features(np.zeros((3, 32, 32, 3), np.uint8)).shape
        (3, 4)
    """

    def __init__(self, spec: str | Mapping[str, Any], image_size: int, composite: str | Mapping[str, Any]):
        self.spec = {"name": spec} if isinstance(spec, str) else dict(spec)
        self.image_size = image_size
        self.composite = composite
        # Initial weights, where they are asked for, are the same in every process.
        maps = build_backbone(self.spec, image_size, seed=0)
        self.backbone = get_method(composite).prepared(pooled(maps))

    def features(self, pixels: np.ndarray, progress: OnProgress | None = None) -> np.ndarray:
        """The vector of each photo.

        Args:
            pixels: uint8 `(n, size, size, 3)`.
            progress: called with the number of photos done and of all.

        Returns:
            float32 `(n, c)`.

        Raises:
            NotFiniteError: a number is not finite.
        """
        found = [np.zeros((0, self.backbone.output_shape[-1]), np.float32)]
        for start in range(0, len(pixels), _BATCH):
            if progress is not None:
                progress(start, len(pixels))
            found.append(self._maps(pixels[start : start + _BATCH])[:, 0, 0].numpy())
        if progress is not None:
            progress(len(pixels), len(pixels))
        features = np.concatenate(found)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise NotFiniteError(
                f"the features of photos must be finite. Received: NaN or infinity for {np.sum(~finite)} of "
                f"{len(finite)} photos; {OVERFLOW}"
            )
        return features

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Takes the weights of an embedding of the same spec.

        Raises:
            RunError: another number of weights, or of other shapes.
        """
        shapes = [tuple(variable.shape) for variable in self.backbone.variables]
        received = [np.shape(weight) for weight in weights]
        if shapes != received:
            raise RunError(
                f"the weights must be those of {self.spec['name']!r}, {len(shapes)} arrays. "
                f"Received: {len(received)} arrays, of other shapes"
            )
        for variable, weight in zip(self.backbone.variables, weights, strict=True):
            variable.assign(weight)

    @functools.cached_property
    def _maps(self) -> Any:
        size = self.image_size
        return compiled(
            lambda pixels: self.backbone(normalize(pixels), training=False),
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8)],
        )


def pooled(backbone: keras.Model) -> keras.Model:
    """The backbone with the mean of its map over the positions, `(n, 1, 1, c)`, as its output.

    Example:
        >>> pooled(build_backbone("conv4", image_size=32)).output_shape
        (None, 1, 1, 64)
    """
    if tuple(backbone.output_shape[1:3]) == (1, 1):
        return backbone
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name="mean_of_positions")(backbone.output)
    return keras.Model(backbone.input, mean, name=backbone.name)
