"""Runs the notebooks of docs/tutorials again and writes them with what they show now.

python benchmarks/notebooks.py [NAME...]     # `make notebooks` runs all; pip install '.[notebooks]'

A notebook is written whole or not at all, and without what differs from run to run and from machine to machine: times,
versions, paths.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from egt_tf.files import write_text

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "tutorials"
LARGEST = 300_000  # bytes
TIMEOUT = 600  # seconds a cell
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in `folder`, where it leaves its files.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
        ValueError: see `checked`.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=TIMEOUT, resources=resources, record_timing=False, coalesce_streams=True)
    client.execute()
    return checked(tidy(notebook), folder)


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what says when and by which versions it was run."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
    return notebook


def checked(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The notebook as it may be kept.

    Raises:
        ValueError: it says where it was run, a cell warned, or it is too large.
    """
    text = nbformat.writes(notebook)
    found = [str(place) for place in (ROOT, folder, Path.home()) if str(place) in text]
    warned = [output.text for cell in notebook.cells for output in cell.get("outputs", ()) if _warns(output)]
    if found or warned or len(text) > LARGEST:
        raise ValueError(
            f"a notebook must have no path of this machine, no warning and at most {LARGEST} bytes. "
            f"Received: paths {found}, warnings {warned}, {len(text)} bytes"
        )
    return notebook


def _warns(output: nbformat.NotebookNode) -> bool:
    return output.output_type == "stream" and output.name == "stderr"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="without .ipynb; all by default")
    names = parser.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        write_text(path, nbformat.writes(notebook) + "\n")
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
