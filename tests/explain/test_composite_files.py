from __future__ import annotations

import json

import pytest

from egt_tf.errors import ExplainError
from egt_tf.explain.composite_files import read_composite, write_composite
from egt_tf.lrp.presets import COMPOSITES


@pytest.mark.parametrize("name", COMPOSITES.names())
def test_every_composite_comes_back(name, tmp_path):
    composite = COMPOSITES.get(name)
    write_composite(tmp_path / "a.json", composite, canonize=True, about={"gain": 0.5})
    method = read_composite(tmp_path / "a.json")
    assert (method.name, method.canonize, method.distributes) == ("a", True, True)
    assert json.loads((tmp_path / "a.json").read_text())["composite"] == json.loads(json.dumps(composite.to_json()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "must be a composite in JSON"),
        ("[]", "composite of format 1"),
        ('{"format": 2, "canonize": true}', "composite of format 1"),
        ('{"format": 1, "canonize": true}', "known rules and layer types"),
        (
            '{"format": 1, "canonize": true, "composite": {"name": "a", "entries": ["x"]}}',
            "known rules and layer types",
        ),
        ('{"format": 1, "canonize": true, "composite": {"name": "a", "entries": [{"rule": {"name": "zz"}}]}}', "'zz'"),
        (
            '{"format": 1, "canonize": true, "composite": {"name": "a", "entries": [{"rule": {"name": "z"}, '
            '"layer_type": "convoluton"}]}}',
            "convoluton",
        ),
    ],
)
def test_what_is_no_composite(content, says, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ExplainError, match=says):
        read_composite(tmp_path / "a.json")
