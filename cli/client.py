"""egt-tf client"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.errors import RequestRefusedError
from egt_tf.ties import tie_text

from .commands import Command
from .lines import picture_names, prediction_line, say_left_out

if TYPE_CHECKING:
    from egt_tf.serving.client import Prediction


@click.command(
    cls=Command,
    short_help="Ask a model behind TensorFlow Serving about images.",
    examples=(
        "egt-tf client new.png --model first",
        "egt-tf client new.png --model first --url http://server:8501 --explain",
    ),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option(
    "--url",
    default="http://localhost:8501",
    show_default=True,
    metavar="http://HOST:PORT",
    help="The REST address of TensorFlow Serving.",
)
@click.option("--model", "name", required=True, metavar="NAME", help="What the server calls the model.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="The server's newest by default.")
@click.option(
    "--support",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Choose among these classes, one sub-folder of images each, in place of the model's stored ones.",
)
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="Write IMAGE-overlay.png, too: what spoke for the answer in red, what against it in blue.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, with all probabilities.")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the server.",
)
def client(
    images: tuple[Path, ...],
    url: str,
    name: str,
    version: int | None,
    support: Path | None,
    explained: bool,
    as_json: bool,
    timeout: float,
) -> None:
    """Classify images by a model that TensorFlow Serving serves; other formats than JPEG are sent as PNG."""
    from egt_tf.data.images import as_jpeg_or_png
    from egt_tf.files import atomic_write
    from egt_tf.serving import ExplainedPrediction, ModelServer, RemoteClassifier, read_support_files

    support_set = None if support is None else read_support_files(support)
    files = [as_jpeg_or_png(image.read_bytes(), str(image)) for image in images]
    classifier = RemoteClassifier(ModelServer(url, name, version, timeout), support_set)
    if support_set is not None and not as_json:
        click.echo(
            f"using the support set {support}: {len(support_set.class_names)} classes, {support_set.shots} images each"
        )
        say_left_out(support_set.left_out, support_set.shots)
    for image, file, picture in zip(images, files, picture_names(images, "overlay"), strict=True):
        try:
            answer = classifier.explain(file) if explained else classifier.classify(file)
        except RequestRefusedError as error:
            raise RequestRefusedError(f"{image}: {error}") from error
        if isinstance(answer, ExplainedPrediction):
            with atomic_write(picture) as stream:
                stream.write(answer.overlay)
        click.echo((_record if as_json else _line)(image, answer, picture if explained else None))


def _line(image: Path, answer: Prediction, picture: Path | None) -> str:
    best, tied = answer.predicted, [answer.class_names[index] for index in answer.tied]
    tie = tie_text(tied, len(answer.class_names)) if len(tied) > 1 else None
    line = prediction_line(image, answer.class_names[best], answer.probabilities[best], tie=tie)
    return line if picture is None else f"{line}  overlay: {picture}"


def _record(image: Path, answer: Prediction, picture: Path | None) -> str:
    record = {
        "image": str(image),
        "class": answer.class_names[answer.predicted],
        "tied": [answer.class_names[index] for index in answer.tied],
        "probabilities": dict(zip(answer.class_names, answer.probabilities, strict=True)),
    }
    return json.dumps(record if picture is None else {**record, "overlay": str(picture)})
