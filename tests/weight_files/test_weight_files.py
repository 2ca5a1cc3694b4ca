from __future__ import annotations

import random
import time
from collections import OrderedDict

import numpy as np
import pytest

from egt_tf.errors import RunError
from egt_tf.weight_files import read_weights
from tests.helpers.weight_files import bfloat16, safetensors_file, torch_file

STATE = OrderedDict(
    {
        "feature.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
        "feature.bias": np.ones(3, np.float16),
        "steps": np.array(5),
    }
)
CONTENTS = {
    "archive": torch_file({"epoch": 3, "state": {**STATE, "head": bfloat16(np.ones(2))}}, archive=True),
    "legacy": torch_file({"epoch": 3, "state": {**STATE, "head": bfloat16(np.ones(2))}}, archive=False),
    "safetensors": safetensors_file({**STATE, "head": np.ones(2, np.float32)}),
}
SUFFIX = {"archive": ".pth", "legacy": ".pth", "safetensors": ".safetensors"}


@pytest.mark.parametrize("kind", CONTENTS)
def test_a_state_dict(tmp_path, kind):
    path = tmp_path / f"a{SUFFIX[kind]}"
    path.write_bytes(CONTENTS[kind])
    got = read_weights(path)
    assert list(got) == [*STATE, "head"]
    for name, array in STATE.items():
        np.testing.assert_array_equal(got[name], array)
    assert got["feature.bias"].dtype == got["head"].dtype == np.float32


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "legacy"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"epoch": 3, "state": state},
        lambda state: {"state_dict": state, "acc": 0.5, "epoch": 3},
        lambda state: {"model_state": state, "aux_classifier_state": {}, "model_optim_state": {}},
        lambda state: {"model": state, "epoch": 3},
    ],
)
def test_where_a_state_dict_may_be(tmp_path, wrap, archive):
    (tmp_path / "a.tar").write_bytes(torch_file(wrap(STATE), archive))
    got = read_weights(tmp_path / "a.tar")
    assert list(got) == list(STATE)


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ([1, 2], "list"),
        (3.5, "float"),
        ({"epoch": 3, "lr": 0.1}, "a dictionary of epoch, lr"),
        ({"state": [1]}, "a dictionary of state"),
        ({"state": {"a": 1}}, "a dictionary of state"),
        ({"e\x1b\n": 3}, r"a dictionary of e\?\?"),
        ({}, "a dictionary of nothing"),
    ],
)
def test_files_without_a_state_dict(tmp_path, content, received):
    (tmp_path / "a.tar").write_bytes(torch_file(content))
    rule = "a.tar must hold a state dict, by itself or under state, state_dict, model_state, model. Received: "
    with pytest.raises(RunError, match=f"{rule}{received}$"):
        read_weights(tmp_path / "a.tar")


# === files that are changed at random ===


def mutated(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A content with bytes changed, cut off, doubled, left out, or replaced by those of another one."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, length = rng.randrange(len(content)), rng.choice((1, 2, 4, 8, 40))
        way = rng.randrange(6)
        if way == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            changed[at : at + length] = rng.randbytes(length)
        elif way == 2:
            changed[at : at + length] = b"\xff" * length
        elif way == 3:
            del changed[at : at + length]
        elif way == 4:
            start = rng.randrange(len(other))
            changed[at : at + length] = other[start : start + rng.randrange(100)]
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


@pytest.mark.parametrize("kind", CONTENTS)
def test_changed_files_give_arrays_or_one_error(tmp_path, kind):
    """No other exception, nothing large, nothing slow; 2,000 files in all."""
    rng = random.Random(f"{kind} 1")
    path, refused, slowest = tmp_path / f"a{SUFFIX[kind]}", 0, 0.0
    for _ in range(667):
        path.write_bytes(mutated(CONTENTS[kind], rng.choice(list(CONTENTS.values())), rng))
        start = time.process_time()
        try:
            arrays = read_weights(path)
        except RunError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(type(array) is np.ndarray and array.size < 1000 for array in arrays.values())
        slowest = max(slowest, time.process_time() - start)
    assert 100 < refused < 667
    assert slowest < 1
