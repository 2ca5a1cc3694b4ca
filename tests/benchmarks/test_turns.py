"""Processes that take turns, with a worker that sleeps, and the table that is made of their seconds."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.turns import Worker
from benchmarks.zennit_cost import parsed_case, rows

ROOT = Path(__file__).resolve().parents[2]
SLEEPER = """
import time
from benchmarks.turns import serve

class SlowToEnter:
    def __enter__(self):
        time.sleep(0.2)

    def __exit__(self, *error):
        pass

print("what a library says while it starts")
serve({"long": (None, lambda: time.sleep(0.1)), "entered": (SlowToEnter(), lambda: None)})
"""


def worker(code: str) -> Worker:
    return Worker([sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_turn_is_timed_without_what_is_entered_for_it():
    with worker(SLEEPER) as one, worker(SLEEPER) as other:
        for each in (one, other):
            each.wait_until_ready()
        for each in (one, other, one):
            assert each.seconds("long") >= 0.1
            assert each.seconds("entered") < 0.1


def test_a_worker_that_fails_is_an_error():
    with worker("raise SystemExit(3)") as one, pytest.raises(RuntimeError, match="ended with 3"):
        one.wait_until_ready()


def test_ratios_are_taken_round_by_round():
    ours = np.array([[1.0, 2.0, 1.0], [3.0, 6.0, 3.0], [5.0, 10.0, 5.0]])
    forward, plus, box = rows(("vgg16", 224, 1), {"ours": ours, "zennit": ours * [[1.0], [2.0], [4.0]]})
    assert forward.endswith("| 1.00 (1.00-1.00) | 1.0 | 1.0 |")
    assert plus.endswith("| 2.00 (2.00-2.00) | 3.0 | 6.0 |")
    assert box.startswith("| vgg16 | 224 | 1 | epsilon_gamma_box | 5.000 | 20.000 | 4.00")


def test_cases_are_three_things():
    assert parsed_case("resnet10:84:16") == ("resnet10", 84, 16)
    for wrong in ("resnet10", "resnet10:84:many", "alexnet:84:1"):
        with pytest.raises(ValueError):
            parsed_case(wrong)
