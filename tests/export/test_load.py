"""Load, and damaged images by the hundred: every request is answered or refused, and the next one is not changed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.data.images import decode_image
from egt_tf.errors import DataError, ExportError
from tests.helpers.image_files import png

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "serving.py"
ROOT = BENCHMARK.parents[1]


def benchmark(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, BENCHMARK, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)


@pytest.mark.slow
def test_bad_requests_do_no_harm_to_good_ones_under_load(folder):
    done = benchmark(folder, "--threads", 3, "--seconds", 2, "--bad", 0.3, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["errors"] == 0
    assert found["refused"] > 0
    assert found["requests"] > found["refused"]
    assert 0 < found["p50_ms"] <= found["p99_ms"]
    assert found["memory_end_mb"] > 0
    assert found["growth_mb"] == pytest.approx(found["memory_end_mb"] - found["memory_start_mb"], abs=0.2)


@pytest.mark.slow
def test_a_load_on_nothing_is_one_line(tmp_path):
    done = benchmark(tmp_path / "nowhere")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    # TensorFlow may have something to say of the machine before.
    assert "no such folder" in done.stderr.splitlines()[-1]


def damaged(file: bytes, rng) -> bytes:
    """A file cut short, with some bytes changed, or both."""
    changed = bytearray(file[: rng.integers(1, len(file) + 1)] if rng.random() < 0.4 else file)
    for _ in range(rng.integers(1, 6)):
        # Headers decide what is allocated: half of the damage is there.
        end = min(len(changed), 64) if rng.random() < 0.5 else len(changed)
        changed[rng.integers(end)] ^= rng.integers(1, 256)
    return bytes(changed)


@pytest.mark.parametrize("form", ["png", "jpeg"])
def test_damaged_images_are_answered_or_refused(model, query_files, form):
    file = query_files[0]
    if form == "jpeg":
        file = tf.io.encode_jpeg(tf.io.decode_png(file, 3)).numpy()
    rng, refused, answered = np.random.default_rng(11), 0, 0
    before = model.ask("serving_default", {"images": [file]})["probabilities"]
    for turn in range(150):
        try:
            answer = model.ask("serving_default", {"images": [file, damaged(file, rng)]})["probabilities"]
            np.testing.assert_allclose(answer[0], before[0], atol=1e-6)
            answered += 1
        except ExportError as error:
            assert isinstance(error.__cause__, tf.errors.InvalidArgumentError)
            refused += 1
        if turn % 30 == 0:
            np.testing.assert_array_equal(model.ask("serving_default", {"images": [file]})["probabilities"], before)
    assert refused > 30
    assert answered + refused == 150


def bomb(side: int = 20_000) -> bytes:
    """A PNG of one bit a pixel that is whole, small, and larger than what is allowed once decoded."""
    return png(side, side, 1, 0, bytes((side // 8 + 1) * side), level=9)


@pytest.mark.parametrize("signature", ["serving_default", "explain"])
def test_small_files_of_huge_images_are_refused_before_they_are_decoded(model, signature):
    file = bomb()
    assert len(file) < 100_000
    targets = {"targets": [0]} if signature == "explain" else {}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ExportError, match=r"at most 50 megapixels. Received height and width: 20000 20000"):
        model.ask(signature, {"images": [file], **targets})
    with pytest.raises(DataError, match="50 megapixels"):
        decode_image(file)
    # In KiB; decoded, it would be 400 MB as grey levels alone.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
