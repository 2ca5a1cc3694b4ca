from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.check import source_statistics
from egt_tf.data.sources import open_source
from egt_tf.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    """Class c has c + 1 images of one colour, c + 1 pixels high and 2 wide."""
    for c in range(4):
        for i in range(c + 1):
            path = tmp_path / "things" / f"class{c}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((c + 1, 2, 3), (51 * c, 255, 0), np.uint8)).save(path)
    return tmp_path / "things"


def entries(*arguments):
    found = source_statistics(open_source(arguments[0]), *arguments[1:])
    assert json.loads(json.dumps(found)) == found
    return {entry["split"]: entry for entry in found["splits"]}


def test_by_hand(folder):
    found = entries(f"folder:{folder}")
    base = found["base"]
    assert (base["classes"], base["images"], base["images_per_class"]) == (2, 4, [1, 2, 3])
    assert base["height"] == [1, 3, 3]
    assert base["width"] == [2, 2, 2]
    # 1 image of 2 black-red pixels, 3 images of 6 pixels with red 102.
    assert base["channel_mean"] == pytest.approx([18 * 0.4 / 20, 1, 0], abs=1e-6)
    assert base["channel_std"] == pytest.approx([np.std([0] * 2 + [0.4] * 18), 0, 0], abs=1e-6)
    assert (found["novel"]["classes"], found["novel"]["images"], found["all"]["images"]) == (1, 4, 10)


def test_a_part_is_measured_and_everything_counted(folder):
    found = entries(f"folder:{folder}", 1)
    assert (found["all"]["images"], found["all"]["measured"]) == (10, 4)
    assert found["all"]["height"] == [1, 2.5, 4]


def test_unreadable_images_are_counted_and_left_out(folder):
    (folder / "class3" / "0.png").write_bytes(b"")
    found = entries(f"folder:{folder}")
    assert (found["novel"]["unreadable"], found["novel"]["measured"], found["base"]["unreadable"]) == (1, 3, 0)


def test_an_empty_split_has_nothing_to_measure(folder):
    (folder / "splits.json").write_text(json.dumps({"base": ["class0"]}))
    val = entries(f"folder:{folder}")["val"]
    assert (val["classes"], val["images"], val["images_per_class"], val["channel_mean"]) == (0, 0, None, None)


def test_wrong_number(folder):
    with pytest.raises(ConfigError, match="images_per_class"):
        source_statistics(open_source(f"folder:{folder}"), 0)


def test_real_photographs(benchmark_dir):
    found = entries(f"folder:{benchmark_dir}/cub", 3)
    assert found["all"]["height"] == found["all"]["width"] == [84, 84, 84]
    assert all(0.3 < mean < 0.6 for mean in found["all"]["channel_mean"])
