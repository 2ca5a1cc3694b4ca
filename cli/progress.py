"""What a user sees while something long is running."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable

import click

# Seconds that the rate shown is of, so that it follows a machine that becomes busy.
WINDOW = 30.0


class ProgressLine:
    """One line on stderr that is written over while work goes on; silent where stderr is no terminal.

    Args:
        total: units of work.
        unit: what they are called, in the plural.
        later: seconds of what comes after these units, if they go on at the rate given (units a second); they are
            counted as time left.
    """

    def __init__(self, total: int, unit: str, later: Callable[[float], float] = lambda rate: 0.0):
        self.total, self.unit, self.later = total, unit, later
        self._shown = time.monotonic()
        self._points = deque([(self._shown, 0)])

    def update(self, done: int, note: str = "") -> None:
        """Shows that `done` units are done, at most four times a second."""
        now = time.monotonic()
        if done == 0:
            return
        rate = self._rate(now, done)
        if done < self.total and now - self._shown < 0.25:
            return
        self._shown = now
        left = duration((self.total - done) / rate + self.later(rate))
        _write_over(f"{done}/{self.total} {self.unit}  {rate:.1f}/s  {left} left  {note}")

    def _rate(self, now: float, done: int) -> float:
        self._points.append((now, done))
        # TensorFlow traces what it runs before the first units are done, which says nothing about the others.
        if len(self._points) > 2 and self._points[0][1] == 0:
            self._points.popleft()
        while len(self._points) > 2 and now - self._points[1][0] > WINDOW:
            self._points.popleft()
        began, before = self._points[0]
        return max(done - before, 1) / max(now - began, 1e-9)


def clear_line() -> None:
    """Removes a progress line, on which the next message would stick."""
    _write_over("")


def _write_over(line: str) -> None:
    if sys.stderr.isatty():
        # A longer line would wrap, and only its last row could be written over.
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r\x1b[K{line[:width]}", nl=False, err=True)


def stage_progress(unit: str) -> Callable[[int, int], None]:
    """A function of (done, total) that shows a progress line; the first call, with done=0, starts the clock."""
    lines: list[ProgressLine] = []

    def show(done: int, total: int) -> None:
        if not lines:
            lines.append(ProgressLine(total, unit))
        lines[0].update(done)

    return show


def duration(seconds: float) -> str:
    """ "48 s", "2 min 05 s" or "3 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def epoch_line(epoch: int, epochs: int, logs: dict[str, float], episodes: int, seconds: float) -> str:
    """What an epoch measured.

    Args:
        epoch: number of the epoch, from 1 on.
        epochs: of the whole training.
        logs: what was measured.
        episodes: of the epoch.
        seconds: that an epoch takes, with its validation.
    """
    left = f"  {duration((epochs - epoch) * seconds)} left" if epoch < epochs else ""
    return (
        f"epoch {epoch:{len(str(epochs))}d}/{epochs}  loss {logs['loss']:.4f} (plain {logs['plain_loss']:.4f}, "
        f"guided {logs['guided_loss']:.4f})  accuracy {100 * logs['accuracy']:.1f} %  validation "
        f"{100 * logs['val_accuracy']:.1f} % +- {100 * logs['val_interval']:.1f}  "
        f"{episodes / logs['seconds']:.1f} episodes/s{left}"
    )


def pretraining_line(epoch: int, epochs: int, logs: dict[str, float], images: int, seconds: float) -> str:
    """As `epoch_line`, for an epoch of a pre-training on `images` images."""
    left = f"  {duration((epochs - epoch) * seconds)} left" if epoch < epochs else ""
    return (
        f"epoch {epoch:{len(str(epochs))}d}/{epochs}  loss {logs['loss']:.4f}  "
        f"accuracy {100 * logs['accuracy']:.1f} %  validation {100 * logs['val_accuracy']:.1f} %  "
        f"{images / logs['seconds']:.1f} images/s{left}"
    )


def echo_over(line: str) -> None:
    """Prints a line between two updates of the progress line."""
    clear_line()
    click.echo(line)


def training_progress(
    epochs: int,
    steps: int | None,
    per_step: int,
    echo: Callable[[str], None],
    unit: str = "episodes",
    line: Callable[..., str] = epoch_line,
):
    """A Keras callback with a progress line inside an epoch and a line of results after it.

    Args:
        epochs: of the whole training.
        steps: of an epoch; None takes what Keras says.
        per_step: units of a step.
        echo: prints the lines of results.
        unit: what is counted, in the plural.
        line: makes the line of results, as `epoch_line`.
    """
    from tensorflow import keras

    class TrainingProgress(keras.callbacks.Callback):
        """Shows the units of an epoch, the time left for all epochs, and behind it what the epoch measured."""

        def on_train_begin(self, logs=None):
            self._began, self._epochs_done = time.monotonic(), 0
            self._steps = self.params["steps"] if steps is None else steps
            _write_over("building the training step, which may take a minute")

        def on_epoch_begin(self, epoch, logs=None):
            self.line = ProgressLine(
                self._steps * per_step,
                f"{unit} of epoch {epoch + 1}/{epochs}",
                lambda rate: (epochs - epoch - 1) * self._seconds_per_epoch(rate),
            )

        def _seconds_per_epoch(self, rate):
            """With the validation, once an epoch is done."""
            if self._epochs_done:
                return (self._last_epoch_ended - self._began) / self._epochs_done
            return self._steps * per_step / rate

        def on_train_batch_end(self, batch, logs=None):
            # The last update stays while the model is validated.
            then = "  validating" if batch + 1 == self._steps else ""
            note = f"loss {logs['loss']:.3f}  accuracy {100 * logs['accuracy']:.0f} %{then}"
            self.line.update((batch + 1) * per_step, note)

        def on_epoch_end(self, epoch, logs=None):
            clear_line()
            self._epochs_done += 1
            self._last_epoch_ended = time.monotonic()
            seconds = (self._last_epoch_ended - self._began) / self._epochs_done
            echo(line(epoch + 1, epochs, logs, self._steps * per_step, seconds))

    return TrainingProgress()
