from __future__ import annotations

import json

import pytest

from egt_tf.data.splits import check_disjoint, published_split_rule, read_splits
from egt_tf.errors import DataError

NAMES = ("ant", "bee", "cat", "dog", "elk")


def write(tmp_path, value):
    path = tmp_path / "splits.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_published_rule_by_hand():
    assert published_split_rule(9) == {"base": (0, 2, 4, 6, 8), "val": (1, 5), "novel": (3, 7)}


@pytest.mark.parametrize(("n_classes", "counts"), [(196, (98, 49, 49)), (200, (100, 50, 50)), (100, (50, 25, 25))])
def test_published_rule_covers_every_class_once(n_classes, counts):
    splits = published_split_rule(n_classes)
    assert tuple(len(splits[s]) for s in ("base", "val", "novel")) == counts
    assert sorted(sum(splits.values(), ())) == list(range(n_classes))


def test_reads_names_in_class_order(tmp_path):
    path = write(tmp_path, {"base": ["dog", "ant"], "novel": ["cat"]})
    assert read_splits(path, NAMES) == {"base": (0, 3), "val": (), "novel": (2,)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"base": ["ant"], "novel": ["bee", "ant"]}, "Received: class 'ant' is in base and in novel of"),
        ({"base": ["ant", "ant"]}, "Received: class 'ant' is in base and in base of"),
        ({"base": ["ant", "yak"]}, "must name classes of the data. Received: 'yak'"),
        ({"train": ["ant"]}, "must be base, val and novel. Received: 'train'"),
        ({"base": "ant"}, "'base' of"),
        ({"base": [1, 2]}, "must be a list of class names. Received: [1, 2]"),
        (["ant"], "must hold a JSON object. Received: list"),
        ("{", "is not valid JSON"),
    ],
)
def test_refuses(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read_splits(path, NAMES)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_or_binary_file(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_splits(tmp_path / "splits.json", NAMES)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not valid JSON"):
        read_splits(tmp_path / "binary.json", NAMES)


def test_disjoint_names_pass():
    check_disjoint({"base": ["ant"], "val": [], "novel": ["bee"]}, "here")
