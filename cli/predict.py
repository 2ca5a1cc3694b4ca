"""egt-tf predict"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egt_tf.errors import DataError, ExportError

from .bundled import bundled_model, describe_bundled
from .lines import none_of_these_line, prediction_line

if TYPE_CHECKING:
    from egt_tf.serving import ExportedModel

_COLUMNS = ("image", "class", "probability", "known", "known_score", "error")


@click.command(short_help="Classify images by an exported or a learned model.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported or a learned model, such as saved_models/first, or a version of it; the one that comes with "
    "egt-tf by default.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the answers to a file of comma-separated values too.",
)
def predict(images: tuple[Path, ...], model: Path | None, table: Path | None) -> None:
    """Classify images, and those in folders, by the classes stored in a model.

    A learned model also says which images show none of its classes.
    """
    from egt_tf.serving.exported_model import ExportedModel

    files = [file for image in images for file in _image_files(image)]
    # A file that is named and cannot be read ends the command before the model is loaded.
    for image in images:
        if not image.is_dir():
            image.open("rb").close()
    exported = ExportedModel(model or bundled_model())
    exported.check_classifier()
    if model is None:
        click.echo(f"using {describe_bundled(exported.path)} and its stored support set")
    rows, named = [], {*images}
    for file in files:
        row = _answer(exported, file)
        if row["error"] and file in named:
            raise ExportError(f"{file}: {row['error']}")
        click.echo(_line(file, row))
        rows.append(row)
    if table is not None:
        _write_table(table, rows)
        click.echo(f"written: {table}")


def _image_files(path: Path) -> Iterator[Path]:
    """A file as it is named; of a folder, the images at any depth."""
    from egt_tf.data.images import IMAGE_SUFFIXES

    if not path.is_dir():
        yield path
        return
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and not any(part.startswith(".") for part in file.parts)
    )
    if not found:
        raise DataError(f"a folder must hold images ({', '.join(IMAGE_SUFFIXES)}). Received: {path} without any")
    yield from found


def _answer(exported: ExportedModel, file: Path) -> Mapping[str, Any]:
    try:
        answer = exported.ask("serving_default", {"images": [file.read_bytes()]})
    except ExportError as error:
        return {"image": file, "error": str(error)}
    return {
        "image": file,
        "class": answer["top_class"][0].decode(),
        "probability": float(answer["probabilities"][0].max()),
        # Of models that were not learned from photographs, nothing is known about that.
        "known": bool(answer["known"][0]) if "known" in answer else "",
        "known_score": float(answer["known_score"][0]) if "known" in answer else "",
        "error": "",
    }


def _line(file: Path, row: Mapping[str, Any]) -> str:
    if row["error"]:
        return f"{file}: left out, {row['error']}"
    write = none_of_these_line if row["known"] is False else prediction_line
    return write(file, row["class"], row["probability"])


def _write_table(path: Path, rows: list[Mapping[str, Any]]) -> None:
    from egt_tf.files import atomic_write

    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, _COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
