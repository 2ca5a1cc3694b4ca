"""What an exported model bears: requests a second, waiting times, memory, and what bad requests do.

    python benchmarks/serving.py EXPORT [--threads 4] [--seconds 20] [--bad 0.1] [--json]

Several threads ask `serving_default` and `explain`, in this process and without a server. A share of the requests are
bytes that are no image: each must fail with INVALID_ARGUMENT, and each good one must get the answer that it got before
the load. Any other outcome is an error, and the exit code is then 1. Memory is what the process holds after a warm-up,
and at the end.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from PIL import Image

from egt_tf.data.synthetic import draw
from egt_tf.errors import EgtError, ExportError
from egt_tf.serving.exported_model import ExportedModel

SIGNATURES = ("serving_default", "explain")
IMAGES, WARM_UP = 4, 20
# Threads share the processor's cores, and sums are split as there is room: the last digits may differ.
TOLERANCE = 1e-5

Request = tuple[str, dict, dict]


@dataclasses.dataclass
class Tally:
    """What the threads found; appending to a list is safe among threads."""

    seconds: list[float] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)
    errors: list[str] = dataclasses.field(default_factory=list)


def drawn_image(index: int) -> bytes:
    """A PNG file."""
    file = io.BytesIO()
    Image.fromarray(draw("shapes", index, 0, size=84)[0]).save(file, "PNG")
    return file.getvalue()


def requests(model: ExportedModel) -> list[Request]:
    """Signature, inputs and answer of requests for each of the signatures."""
    made = []
    for index in range(IMAGES):
        for name in SIGNATURES:
            inputs = {"images": [drawn_image(index)], **({"targets": [-1]} if name == "explain" else {})}
            made.append((name, inputs, model.ask(name, inputs)))
    return made


def same(answer: dict, expected: dict) -> bool:
    """Whether numbers agree to a share of the largest, and names exactly; pictures are drawn from the numbers."""
    return all(
        np.allclose(answer[key], value, rtol=0, atol=TOLERANCE * np.abs(value).max())
        if value.dtype.kind == "f"
        else key == "overlay_bytes" or np.array_equal(answer[key], value)
        for key, value in expected.items()
    )


def ask(model: ExportedModel, request: Request, bad: bool, junk: bytes, tally: Tally) -> None:
    """Asks once and writes down what came of it."""
    name, inputs, expected = request
    try:
        began = time.perf_counter()
        answer = model.ask(name, {**inputs, "images": [junk]} if bad else inputs)
        tally.seconds.append(time.perf_counter() - began)
        if bad:
            tally.errors.append("bytes that are no image were answered")
        elif not same(answer, expected):
            tally.errors.append(f"another answer of {name}")
    except ExportError as error:
        refused = bad and isinstance(error.__cause__, tf.errors.InvalidArgumentError)
        (tally.refused if refused else tally.errors).append(str(error))


def load(model: ExportedModel, asked: list[Request], threads: int, bad: float, goes_on: Callable[[int], bool]) -> Tally:
    """Asks from several threads as long as `goes_on(requests of the thread)`."""
    tally = Tally()

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        done = 0
        try:
            while goes_on(done):
                ask(model, asked[rng.integers(len(asked))], rng.random() < bad, rng.bytes(200), tally)
                done += 1
        # Whatever ends a thread is a finding.
        except Exception as error:
            tally.errors.append(f"{type(error).__name__}: {error}")

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return tally


def resident_bytes() -> int:
    """Memory that this process holds, from Linux's own account."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(model: ExportedModel, threads: int, seconds: float, bad: float) -> dict[str, float]:
    """The figures by name."""
    asked = requests(model)
    load(model, asked, threads, bad, lambda done: done < WARM_UP)
    before, began = resident_bytes(), time.perf_counter()
    tally = load(model, asked, threads, bad, lambda done: time.perf_counter() - began < seconds)
    lasted, after = time.perf_counter() - began, resident_bytes()
    p50, p99 = np.percentile(tally.seconds, [50, 99]) if tally.seconds else (float("nan"),) * 2
    for error in sorted(set(tally.errors))[:5]:
        print(f"error: {error}", file=sys.stderr)
    return {
        "threads": threads,
        "seconds": round(lasted, 2),
        "requests": len(tally.seconds) + len(tally.refused),
        "requests_per_second": round((len(tally.seconds) + len(tally.refused)) / lasted, 1),
        "p50_ms": round(1000 * p50, 2),
        "p99_ms": round(1000 * p99, 2),
        "memory_start_mb": round(before / 1e6, 1),
        "memory_end_mb": round(after / 1e6, 1),
        "growth_mb": round((after - before) / 1e6, 1),
        "growth_percent": round(100 * (after - before) / before, 2),
        "refused": len(tally.refused),
        "errors": len(tally.errors),
    }


def main() -> int:
    """Prints the figures; 1 if there was an error, 2 if the model cannot be loaded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bad", type=float, default=0.0, metavar="SHARE", help="of requests whose bytes are no image")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.threads < 1 or not arguments.seconds > 0 or not 0 <= arguments.bad < 1:
        parser.error("--threads must be >= 1, --seconds > 0 and --bad in [0, 1)")
    try:
        found = measure(ExportedModel(arguments.export), arguments.threads, arguments.seconds, arguments.bad)
    except EgtError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found) if arguments.json else "\n".join(f"{key:20s} {value}" for key, value in found.items()))
    return 1 if found["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
