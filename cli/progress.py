"""What a user sees while something long is running."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from egt_tf.wording import epoch_text

if TYPE_CHECKING:
    from egt_tf.keras_api import keras

# Seconds that the rate shown is of, so that it follows a machine that becomes busy.
WINDOW = 30.0
# Seconds between two lines of an epoch where nothing can be written over, as in a file.
QUIET = 60.0


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
        write_over(f"{done}/{self.total} {self.unit}  {rate:.1f}/s  {left} left  {note}")

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
    write_over("")


def write_over(line: str) -> None:
    """Shows a line on stderr in the place of the last one, if stderr is a terminal."""
    if sys.stderr.isatty():
        # A longer line would wrap, and only its last row could be written over.
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r\x1b[K{line[:width]}", nl=False, err=True)


@contextlib.contextmanager
def stage_progress(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Within the block, a progress line, which is removed at its end.

    The block gets a function of (done, total); the first call, with done=0, starts the clock.
    """
    lines: list[ProgressLine] = []

    def show(done: int, total: int) -> None:
        if not lines:
            lines.append(ProgressLine(total, unit))
        lines[0].update(done)

    try:
        yield show
    finally:
        clear_line()


def duration(seconds: float) -> str:
    """ "48 s", "2 min 05 s" or "3 h 10 min"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def epoch_line(
    epoch: int,
    epochs: int,
    logs: Mapping[str, float],
    count: int,
    unit: str,
    seconds: float,
    chance: float | None = None,
) -> str:
    """What an epoch measured, and how fast.

    Args:
        epoch: number of the epoch, from 1 on.
        epochs: of the whole training.
        logs: what was measured; a pre-training has no guided loss and no interval.
        count: episodes or images of the epoch.
        unit: which of them, in the plural.
        seconds: that an epoch takes, with its validation.
        chance: the accuracy of guessing, in [0, 1]; None where it is not known.
    """
    left = f"  {duration((epochs - epoch) * seconds)} left" if epoch < epochs else ""
    return f"{epoch_text(epoch, epochs, logs, chance)}  {count / logs['seconds']:.1f} {unit}/s{left}"


def echo_over(line: str) -> None:
    """Prints a line between two updates of the progress line."""
    clear_line()
    click.echo(line)


def training_progress(
    epochs: int, per_step: int, unit: str, echo: Callable[[str], None], chance: float | None = None
) -> keras.callbacks.Callback:
    """A Keras callback with a progress line inside an epoch and a line of results after it.

    Where stderr is no terminal, the epoch says by a line a minute how far it is.

    Args:
        epochs: of the whole training.
        per_step: units of a step.
        unit: what is counted, in the plural.
        echo: prints the lines of results.
        chance: see `epoch_line`.
    """
    from egt_tf.keras_api import keras

    class TrainingProgress(keras.callbacks.Callback):
        """Shows the units of an epoch, the time left for all epochs, and behind it what the epoch measured."""

        def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
            self._began, self._epochs_done = time.monotonic(), 0
            self._steps = self.params["steps"]
            self._said = self._began
            if not sys.stderr.isatty():
                each = self._steps * per_step
                echo(
                    f"training: {epochs} epochs of {each} {unit}; a line after each epoch, and after each minute in it"
                )
            write_over("building the training step, which may take a minute")

        def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
            def later(rate: float) -> float:
                """The other epochs; with their validation, once one is done."""
                done = self._epochs_done
                each = (self._last_epoch_ended - self._began) / done if done else self._steps * per_step / rate
                return (epochs - epoch - 1) * each

            self._epoch = epoch
            self.line = ProgressLine(self._steps * per_step, f"{unit} of epoch {epoch + 1}/{epochs}", later)

        def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
            # The last update stays while the model is validated.
            then = "  validating" if batch + 1 == self._steps else ""
            note = f"loss {logs['loss']:.3f}  accuracy {100 * logs['accuracy']:.0f} %{then}"
            done = (batch + 1) * per_step
            self.line.update(done, note)
            if not sys.stderr.isatty() and time.monotonic() - self._said >= QUIET:
                self._said = time.monotonic()
                echo(f"epoch {self._epoch + 1}/{epochs}: {done} of {self._steps * per_step} {unit}  {note}")

        def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
            clear_line()
            self._epochs_done += 1
            self._last_epoch_ended = time.monotonic()
            seconds = (self._last_epoch_ended - self._began) / self._epochs_done
            self._said = self._last_epoch_ended
            echo(epoch_line(epoch + 1, epochs, logs, self._steps * per_step, unit, seconds, chance))

    return TrainingProgress()
