from __future__ import annotations

from pathlib import Path

import pytest

from egt_tf.errors import RunError
from egt_tf.report.examples import _Answer, chosen, explained_examples
from egt_tf.runs import RunFolder


def answers(pattern: str) -> list[_Answer]:
    """Right and wrong ones: "rrw"."""
    return [_Answer(Path(f"{n}.png"), "ant", "ant" if kind == "r" else "bee") for n, kind in enumerate(pattern)]


@pytest.mark.parametrize(
    ("pattern", "count", "names"),
    [
        ("rrrr", 2, "01"),
        ("rwrw", 2, "10"),
        ("rwrw", 3, "130"),
        ("wwww", 3, "012"),
        ("rwww", 4, "1230"),
        ("wrrr", 9, "0123"),
        ("rrrw", 1, "3"),
    ],
)
def test_wrong_ones_first_and_as_many_as_asked_for(pattern, count, names):
    assert "".join(answer.path.stem for answer in chosen(answers(pattern), count)) == names


def test_no_examples_are_no_request(tmp_path):
    with pytest.raises(RunError, match="`count` must be >= 1"):
        explained_examples(RunFolder(tmp_path), 0)
