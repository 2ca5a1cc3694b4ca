from __future__ import annotations

import pytest

from egt_tf.errors import RunError
from egt_tf.report.records import Record, read_record

VALUES = {
    "text": "a",
    "flag": True,
    "count": 3,
    "share": 0.5,
    "none": None,
    "inner": {"a": 1.0, "b": None},
    "list": [{"a": 1}],
}


def test_values_of_the_right_kind():
    record = Record(VALUES, "a.json")
    assert (record.text("text"), record.flag("flag"), record.count("count")) == ("a", True, 3)
    assert (record.share("share"), record.number("count")) == (0.5, 3)
    assert (record.number_or_none("none"), record.share_or_none("missing")) == (None, None)
    assert record.numbers("inner") == {"a": 1.0, "b": None}
    assert [each.count("a") for each in record.records("list")] == [1]


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("text", 1),
        ("flag", 1),
        ("count", True),
        ("count", -1),
        ("count", 1.0),
        ("number", "1"),
        ("number", float("nan")),
        ("share", 1.5),
        ("share_or_none", -0.1),
        ("number_or_none", float("inf")),
        ("record", [1]),
        ("records", {"a": 1}),
        ("records", [1]),
        ("numbers", {"a": "1"}),
    ],
)
def test_values_of_other_kinds_are_named(method, value):
    with pytest.raises(RunError, match="key") as caught:
        getattr(Record({"key": value}, "a.json"), method)("key")
    assert "a.json" in str(caught.value)
    with pytest.raises(RunError, match=r"^a\.json must"):
        Record([], "a.json")


@pytest.mark.parametrize("text", ["{", "[1]", "\ud800", "[" * 100_000])
def test_files_that_hold_no_object(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RunError, match=r"a\.json must"):
        read_record(tmp_path / "a.json")
