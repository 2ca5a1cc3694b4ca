"""Trainings that are killed, not asked to end: no handler runs, no file is closed."""

from __future__ import annotations

import json
import random
import time

import numpy as np
import pytest
import yaml

KILLS = 20


def without_seconds(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def newest(run):
    return max((file.name for file in (run / "checkpoints").glob("*.npz")), default="")


def wait_for_progress(one, run, patience: float = 60) -> None:
    """Returns when the process has written a checkpoint, or has ended."""
    before, end = newest(run), time.monotonic() + patience
    while newest(run) == before and one.poll() is None and time.monotonic() < end:
        time.sleep(0.005)


@pytest.fixture
def many_steps(tmp_path):
    """80 epochs of 20 steps, with a checkpoint after every third step."""
    path = tmp_path / "many.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"train": "synthetic:shapes", "image_size": 16, "augmentation": "full"},
                "episode": {"ways": 3, "shots": 1, "queries": 1},
                "model": {"backbone": {"name": "conv4", "width": 2}, "head": {"name": "relation"}},
                "training": {
                    "epochs": 80,
                    "episodes_per_epoch": 20,
                    "validation_episodes": 3,
                    "checkpoint_every": 3,
                    "schedule": {"name": "warmup_cosine", "warmup_epochs": 2},
                },
            }
        )
    )
    return path


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_numbers_of_one_left_alone(
    process, many_steps, tmp_path, equal_weights
):
    rng, killed, alone = random.Random(7), tmp_path / "killed", tmp_path / "alone"
    places = set()
    for number in range(KILLS):
        one = process("train", "--config", many_steps, "--run", killed, "--resume")
        if number % 4 == 0:
            # While it starts, reads its checkpoint or traces its step.
            time.sleep(rng.uniform(2, 12))
        else:
            # While it computes steps, validates and writes.
            wait_for_progress(one, killed)
            time.sleep(rng.uniform(0, 1))
        assert one.poll() is None, f"ended before kill {number + 1}: {one.communicate()}"
        one.kill()
        one.communicate()
        places.add(newest(killed))
    last = process("train", "--config", many_steps, "--run", killed, "--resume")
    _, stderr = last.communicate(timeout=600)
    assert (last.returncode, stderr) == (0, "")
    undisturbed = process("train", "--config", many_steps, "--run", alone)
    assert undisturbed.communicate(timeout=600)[1] == ""
    # It was killed at many places, most of them within an epoch.
    assert len(places) > KILLS / 2
    assert len([name for name in places if name and int(name[:-4]) % 20]) > KILLS / 4
    assert (killed / "best.npz").read_bytes() == (alone / "best.npz").read_bytes()
    assert without_seconds(killed) == without_seconds(alone)
    assert equal_weights(killed, alone)
    assert newest(killed) == newest(alone)
    assert not list(killed.rglob("*.part"))


@pytest.mark.slow
def test_a_pretraining_killed_five_times_ends_with_the_numbers_of_one_left_alone(process, many_steps, tmp_path, arrays):
    rng, killed, alone = random.Random(8), tmp_path / "killed", tmp_path / "alone"
    options = ["--set", "pretrain.epochs=40", "--set", "pretrain.batch_size=100"]
    first = process("pretrain", "--config", many_steps, *options, "--run", killed)
    for number in range(5):
        one = process("pretrain", "--run", killed, "--resume") if number else first
        wait_for_progress(one, killed)
        time.sleep(rng.uniform(0, 1))
        assert one.poll() is None, f"ended before kill {number + 1}: {one.communicate()}"
        one.kill()
        one.communicate()
    last = process("pretrain", "--run", killed, "--resume")
    _, stderr = last.communicate(timeout=600)
    assert (last.returncode, stderr) == (0, "")
    undisturbed = process("pretrain", "--config", many_steps, *options, "--run", alone)
    assert undisturbed.communicate(timeout=600)[1] == ""
    assert (killed / "backbone.npz").read_bytes() == (alone / "backbone.npz").read_bytes()
    assert without_seconds(killed) == without_seconds(alone)
    assert newest(killed) == newest(alone)
    state, expected = (arrays(run / "checkpoints" / newest(run)) for run in (killed, alone))
    assert all(np.array_equal(state[name], expected[name]) for name in expected if name != "progress")
    assert not list(killed.rglob("*.part"))
