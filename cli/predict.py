"""egt-tf predict"""

from __future__ import annotations

from pathlib import Path

import click

from egt_tf.errors import ExportError

from .bundled import bundled_model, describe_bundled
from .lines import prediction_line


@click.command(short_help="Classify images by an exported model.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported model, such as saved_models/first, or a version of it; the one that comes with egt-tf "
    "by default.",
)
def predict(images: tuple[Path, ...], model: Path | None) -> None:
    """Classify images by the support set stored in an exported model."""
    from egt_tf.data.images import as_jpeg_or_png
    from egt_tf.serving.exported_model import ExportedModel

    files = [as_jpeg_or_png(image.read_bytes(), str(image)) for image in images]
    exported = ExportedModel(model or bundled_model())
    exported.check_classifier()
    if model is None:
        click.echo(f"using {describe_bundled(exported.path)} and its stored support set")
    for image, file in zip(images, files, strict=True):
        try:
            answer = exported.ask("serving_default", {"images": [file]})
        except ExportError as error:
            raise ExportError(f"{image}: {error}") from error
        click.echo(prediction_line(image, answer["top_class"][0].decode(), answer["probabilities"][0].max()))
