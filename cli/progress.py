"""What a user sees while something long is running."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import click


class ProgressLine:
    """One line on stderr that is written over while work goes on; silent where stderr is no terminal.

    Args:
        total: units of work.
        unit: what they are called, in the plural.
    """

    def __init__(self, total: int, unit: str):
        self.total, self.unit = total, unit
        self._began = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()

    def update(self, done: int, note: str = "") -> None:
        """Shows that `done` units are done, at most four times a second."""
        now = time.monotonic()
        if not self._live or (done < self.total and now - self._shown < 0.25):
            return
        self._shown = now
        rate = done / max(now - self._began, 1e-9)
        left = duration((self.total - done) / rate) if done else "?"
        line = f"{done}/{self.total} {self.unit}  {rate:.1f}/s  {left} left  {note}"
        click.echo(f"\r\x1b[K{line}", nl=False, err=True)

    def clear(self) -> None:
        """Removes the line."""
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)


def duration(seconds: float) -> str:
    """"48 s", "2 min 05 s" or "3 h 10 min"."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def training_progress(epochs: int, steps: int, episodes_per_step: int, echo: Callable[[str], None]):
    """A Keras callback with a progress line inside an epoch and a line of results after it."""
    from tensorflow import keras

    class TrainingProgress(keras.callbacks.Callback):
        """Shows the episodes of an epoch and, behind it, what it measured."""

        def on_epoch_begin(self, epoch, logs=None):
            self.line = ProgressLine(steps * episodes_per_step, f"episodes of epoch {epoch + 1}/{epochs}")

        def on_train_batch_end(self, batch, logs=None):
            note = f"loss {logs['loss']:.4f}  accuracy {100 * logs['accuracy']:.1f} %"
            self.line.update((batch + 1) * episodes_per_step, note)

        def on_epoch_end(self, epoch, logs=None):
            self.line.clear()
            rate = steps * episodes_per_step / logs["seconds"]
            left = (epochs - epoch - 1) * logs["seconds"]
            echo(f"epoch {epoch + 1:3d}/{epochs}  loss {logs['loss']:.4f} (plain {logs['plain_loss']:.4f}, guided "
                 f"{logs['guided_loss']:.4f})  accuracy {100 * logs['accuracy']:.1f} %  validation "
                 f"{100 * logs['val_accuracy']:.1f} % +- {100 * logs['val_interval']:.1f}  {rate:.1f} episodes/s  "
                 f"{duration(left)} left")

    return TrainingProgress()
