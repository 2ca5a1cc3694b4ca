"""The notebooks of docs/tutorials hold what they showed when they were run, and can be run again."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
LARGEST = 300_000
# So many pictures does each show.
PICTURES = {"photographs": 1, "guided_training": 4, "explain_keras": 2}


def _code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def _outputs(cells: list[dict]) -> list[dict]:
    return [output for cell in cells for output in cell["outputs"]]


def test_every_notebook_is_known():
    assert {path.stem for path in NOTEBOOKS} == set(PICTURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_it_was_run_from_top_to_bottom(path):
    text, cells = path.read_text("utf-8"), _code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = _outputs(cells)
    assert [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) == PICTURES[path.stem]
    assert len(text) < LARGEST
    # Neither when nor where nor by which versions.
    notebook = json.loads(text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["language_info"] == {"name": "python"}
    assert [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]] == []
    said = json.dumps([(output.get("text"), output.get("data", {}).get("text/plain")) for output in outputs])
    assert [place for place in ("/home/", "/root/", "/tmp/", "/work/", " at 0x") if place in said] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_output_is_short(path):
    lines = [len("".join(output.get("text", ())).splitlines()) for output in _outputs(_code_cells(path))]
    assert max(lines) <= 25


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_to_pages(path):
    notebook = json.loads(path.read_text("utf-8"))
    said = "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)#]+)", said)
    assert links
    assert [link for link in links if not (path.parent / link).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_can_be_run_again(path, tmp_path, monkeypatch):
    # The level that the tests have TensorFlow log at is none of a reader's.
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    for module in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(module, reason="pip install '.[notebooks]'")
    specification = importlib.util.spec_from_file_location("notebooks", ROOT / "benchmarks" / "notebooks.py")
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    again = script.executed(path, tmp_path)
    kinds = [[output["output_type"] for output in cell["outputs"]] for cell in _code_cells(path)]
    assert [
        [output.output_type for output in cell.outputs] for cell in again.cells if cell.cell_type == "code"
    ] == kinds
