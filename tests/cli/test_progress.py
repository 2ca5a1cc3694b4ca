from __future__ import annotations

import io
import sys

import pytest

from egt_tf_cli.progress import ProgressLine, clear_line, duration, epoch_line, stage_progress, training_progress

# What is known after an epoch of five seconds.
LOGS = {
    "loss": 0.25,
    "plain_loss": 0.125,
    "guided_loss": 0.125,
    "accuracy": 0.5,
    "val_accuracy": 0.4,
    "val_interval": 0.011,
    "seconds": 5.0,
}


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
    assert first.startswith("5/10 episodes  5.0/s  1 s left")
    assert len(first) == 39
    assert second.startswith("10/10 episodes  5.0/s  0 s left")
    assert "\n" not in terminal.getvalue()


def test_the_rate_is_that_of_late_and_not_that_of_the_first_units(monkeypatch):
    terminal = as_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    clock = iter([0, 100, 101, 102, 152])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    line = ProgressLine(100, "episodes")
    rates = []
    for done in (10, 20, 30, 40):
        line.update(done)
        rates.append(terminal.getvalue().rsplit("\r\x1b[K", 1)[1].split("  ")[1:3])
    # 100 s for the first ten, then 10 a second, then slower.
    assert rates == [
        ["0.1/s", "15 min 00 s left"],
        ["10.0/s", "8 s left"],
        ["10.0/s", "7 s left"],
        ["0.2/s", "5 min 00 s left"],
    ]


def test_what_comes_later_counts_as_time_left(monkeypatch):
    terminal = as_terminal(monkeypatch)
    ProgressLine(10, "episodes", lambda rate: 100 / rate).update(5)
    assert "5/10 episodes  5.0/s  21 s left" in terminal.getvalue()


def test_a_training_shows_the_time_left_for_all_epochs(monkeypatch):
    terminal = as_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")
    seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    lines = []
    callback = training_progress(3, 2, "episodes", lines.append)
    callback.set_params({"steps": 10})

    def shown():
        return terminal.getvalue().rsplit("\r\x1b[K", 1)[1]

    callback.on_train_begin()
    assert shown().startswith("building the training step")
    callback.on_epoch_begin(0)
    seconds[0] = 30.0
    callback.on_train_batch_end(0, LOGS)
    seconds[0] = 31.0
    callback.on_train_batch_end(1, LOGS)
    # Two episodes a second; 16 of this epoch and 40 of the others.
    assert shown() == "4/20 episodes of epoch 1/3  2.0/s  28 s left  loss 0.250  accuracy 50 %"
    seconds[0] = 39.0
    callback.on_train_batch_end(9, LOGS)
    assert shown().endswith("validating")
    seconds[0] = 60.0
    callback.on_epoch_end(0, LOGS)
    assert lines[0].endswith("2 min 00 s left")
    callback.on_epoch_begin(1)
    seconds[0] = 62.0
    callback.on_train_batch_end(0, LOGS)
    # One a second, then a whole epoch, which takes a minute with its validation.
    assert "2/20 episodes of epoch 2/3  1.0/s  1 min 18 s left" in shown()


def test_a_training_into_a_file_says_each_minute_how_far_it_is(monkeypatch):
    """It said nothing before the first epoch was over."""
    seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    lines = []
    callback = training_progress(3, 2, "episodes", lines.append, chance=0.2)
    callback.set_params({"steps": 100})
    callback.on_train_begin()
    assert lines == ["training: 3 epochs of 200 episodes; a line after each epoch, and after each minute in it"]
    callback.on_epoch_begin(0)
    for batch in range(15):
        seconds[0] += 10.0
        callback.on_train_batch_end(batch, LOGS)
    assert lines[1:] == [f"epoch 1/3: {done} of 200 episodes  loss 0.250  accuracy 50 %" for done in (12, 24)]
    callback.on_epoch_end(0, LOGS)
    assert "validation 40.0 % +- 1.1 (20 % by chance)  " in lines[3]


def test_the_line_can_be_removed(monkeypatch):
    terminal = as_terminal(monkeypatch)
    clear_line()
    assert terminal.getvalue() == "\r\x1b[K"


def test_a_stage_starts_its_clock_with_the_first_call(monkeypatch):
    terminal = as_terminal(monkeypatch)
    with stage_progress("images") as show:
        show(0, 64)
        assert terminal.getvalue() == ""
        show(32, 64)
        assert "32/64 images  16.0/s  2 s left" in terminal.getvalue()


def test_the_line_of_a_stage_is_gone_after_it(monkeypatch):
    terminal = as_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), stage_progress("images") as show:
        show(0, 64)
        show(32, 64)
        raise KeyboardInterrupt
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    ProgressLine(2, "episodes").update(2)
    clear_line()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (11460, "3 h 11 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_an_epoch():
    line = epoch_line(3, 15, LOGS, 100, "episodes", 10.0)
    assert line == (
        "epoch  3/15  loss 0.2500 (plain 0.1250, guided 0.1250)  accuracy 50.0 %  validation 40.0 % +- 1.1  "
        "20.0 episodes/s  2 min 00 s left"
    )
    assert epoch_line(15, 15, LOGS, 100, "episodes", 10.0).endswith("20.0 episodes/s")


def test_the_line_of_an_epoch_of_a_pretraining():
    logs = {"loss": 0.25, "accuracy": 0.5, "val_loss": 0.3, "val_accuracy": 0.4, "seconds": 5.0}
    assert epoch_line(3, 3, logs, 100, "images", 10.0) == (
        "epoch 3/3  loss 0.2500  accuracy 50.0 %  validation 40.0 %  20.0 images/s"
    )
