"""Processes that take turns: each waits for a line, does once what it names, and answers with the seconds that it took.

So that two frameworks are timed one after the other on the same machine, whose speed drifts for both alike.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

READY = "ready"
# What is entered before a turn and left after it, without being timed, and what is timed.
Turn = tuple[contextlib.AbstractContextManager | None, Callable[[], object]]


def timed(turn: Turn) -> float:
    """Seconds of one call."""
    context, function = turn
    with context if context is not None else contextlib.nullcontext():
        began = time.perf_counter()
        function()
        return time.perf_counter() - began


def serve(turns: Mapping[str, Turn], lines: IO[str] = sys.stdin) -> None:
    """Does each twice beforehand, then what each line names, until there are no more."""
    for turn in turns.values():
        timed(turn)
        timed(turn)
    print(READY, flush=True)
    for line in lines:
        print(timed(turns[line.strip()]), flush=True)


class Worker:
    """A process that runs `serve`."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(environment)
        )

    def wait_until_ready(self) -> None:
        """Returns when it has done everything once.

        Raises:
            RuntimeError: it ended before that.
        """
        while (line := self._process.stdout.readline()).strip() != READY:
            if not line:
                raise RuntimeError(f"{self._process.args[1]} ended with {self._process.wait()}")

    def seconds(self, name: str) -> float:
        """Seconds of one turn."""
        print(name, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        # It ends with its input.
        self._process.communicate()
