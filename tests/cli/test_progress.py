from __future__ import annotations

import io
import sys

import pytest

from egt_tf_cli.progress import ProgressLine, clear_line, duration, epoch_line, stage_progress


def as_terminal(monkeypatch):
    """Makes stderr a terminal of 40 columns whose clock goes one second a look."""
    stream = io.StringIO()
    stream.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "40")
    clock = iter(range(1000))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    return stream


def test_the_line_is_written_over_and_never_wraps(monkeypatch):
    terminal = as_terminal(monkeypatch)
    line = ProgressLine(10, "episodes")
    line.update(5, "a note that is much longer than the terminal is wide")
    line.update(10)
    first, second = terminal.getvalue().split("\r\x1b[K")[1:]
    assert first.startswith("5/10 episodes  5.0/s  1 s left") and len(first) == 39
    assert second.startswith("10/10 episodes  5.0/s  0 s left")
    assert "\n" not in terminal.getvalue()


def test_the_line_can_be_removed(monkeypatch):
    terminal = as_terminal(monkeypatch)
    clear_line()
    assert terminal.getvalue() == "\r\x1b[K"


def test_a_stage_starts_its_clock_with_the_first_call(monkeypatch):
    terminal = as_terminal(monkeypatch)
    show = stage_progress("images")
    show(0, 64)
    assert terminal.getvalue() == ""
    show(32, 64)
    assert "32/64 images  16.0/s  2 s left" in terminal.getvalue()


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    ProgressLine(2, "episodes").update(2)
    clear_line()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("seconds, text", [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"),
                                           (3599.6, "1 h 00 min"), (11460, "3 h 11 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_an_epoch():
    logs = {"loss": 0.25, "plain_loss": 0.125, "guided_loss": 0.125, "accuracy": 0.5, "val_accuracy": 0.4,
            "val_interval": 0.011, "seconds": 5.0}
    line = epoch_line(3, 15, logs, 100, 10.0)
    assert line == ("epoch  3/15  loss 0.2500 (plain 0.1250, guided 0.1250)  accuracy 50.0 %  validation 40.0 % +- 1.1  "
                    "20.0 episodes/s  2 min 00 s left")
    assert epoch_line(15, 15, logs, 100, 10.0).endswith("20.0 episodes/s")
