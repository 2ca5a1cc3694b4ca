"""What a training measures, as TensorBoard reads it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from egt_tf.errors import RunError
from egt_tf.keras_api import keras


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes what every epoch measured for TensorBoard, at once, so that a killed run has it too.

    Args:
        folder: for the event files.

    Raises:
        RunError: the folder cannot be written.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        with self._errors():
            # TensorFlow would make it too, but its errors are harder to read.
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = tf.summary.create_file_writer(str(self.folder))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        with self._errors(), self._writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tf.summary.scalar(name, value)
            self._writer.flush()

    def show_picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Writes a picture, uint8 `(height, width, 3)`, beside the numbers of an epoch (from 1 on), at once.

        Through the same writer: TensorBoard, watching a folder, leaves a file for good when a newer one appears.
        """
        with self._errors(), self._writer.as_default(step=epoch):
            tf.summary.image(name, pixels[None])
            self._writer.flush()

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        with self._errors():
            self._writer.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message.splitlines()[0]
            raise RunError(f"the files for TensorBoard in {self.folder} cannot be written: {reason}") from error
