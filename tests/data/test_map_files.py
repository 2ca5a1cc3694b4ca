from __future__ import annotations

import numpy as np
import pytest

from egt_tf.data.map_files import DTYPE, read_maps, written_maps
from egt_tf.errors import DataError

SHAPE = (3, 2, 2, 2, 4)
INDICES = np.array([1, 5, 6])


def write(path, values, fingerprint="abc", readable=(True, False, True)):
    with written_maps(path, fingerprint, SHAPE) as writer:
        for part in np.array_split(values, 2):
            writer.add(part.tobytes())
        writer.finish(np.array(readable))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(DTYPE)


def test_what_was_written_is_read(tmp_path, values):
    write(tmp_path / "a.maps", values)
    maps = read_maps(tmp_path / "a.maps", "abc", INDICES, SHAPE)
    np.testing.assert_array_equal(maps.values, values)
    assert maps.readable.tolist() == [True, False, True]
    np.testing.assert_array_equal(maps.take(np.array([6, 1, 6]), np.array([1, 0, 0])), values[[2, 0, 2], [1, 0, 0]])
    maps.check(6)
    with pytest.raises(DataError, match="image 5 must be readable"):
        maps.check(5)


def test_another_file_is_refused(tmp_path, values):
    write(tmp_path / "a.maps", values)
    with pytest.raises(DataError, match="of other images"):
        read_maps(tmp_path / "a.maps", "abd", INDICES, SHAPE)
    with pytest.raises(DataError, match="of other images"):
        read_maps(tmp_path / "a.maps", "abc", INDICES, (3, 2, 2, 4, 2))


@pytest.mark.parametrize("position", [520, 515 + 96 * 2, -70, -66, -1])
def test_each_damaged_byte_is_found(tmp_path, values, position):
    path = tmp_path / "a.maps"
    write(path, values)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        read_maps(path, "abc", INDICES, SHAPE)


def test_a_truncated_file_is_refused(tmp_path, values):
    path = tmp_path / "a.maps"
    write(path, values)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="length"):
        read_maps(path, "abc", INDICES, SHAPE)


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path, values):
    with pytest.raises(KeyboardInterrupt), written_maps(tmp_path / "a.maps", "abc", SHAPE) as writer:
        writer.add(values[:1].tobytes())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
