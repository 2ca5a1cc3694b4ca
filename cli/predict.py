"""egt-tf predict"""

from __future__ import annotations

from pathlib import Path

import click

from egt_tf.errors import EgtError

from .bundled import bundled_model, describe_bundled
from .lines import prediction_line
from .paths import check_images, check_inputs


@click.command(short_help="Classify images by an exported model.")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported model, such as saved_models/first, or a version of it; the one that comes with egt-tf "
    "by default.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a table too: image, class (or none of these, or tie), nearest class, probability.",
)
def predict(images: tuple[Path, ...], model: Path | None, table: Path | None) -> None:
    """Classify images, and all those in folders, by the support set stored in an exported model.

    A model of `egt-tf learn` says where an image shows none of its classes. In a folder, images that cannot be read are
    named and left out.
    """
    from egt_tf.data.walking import image_files

    files = image_files(images)
    check_images(image for image in images if not image.is_dir())
    check_inputs(model=model)
    from egt_tf.serving.classification import classify_file, write_csv
    from egt_tf.serving.exported_model import ExportedModel

    exported = ExportedModel(model or bundled_model())
    exported.check_classifier()
    if model is None:
        click.echo(f"using {describe_bundled(exported.path)} and its stored support set")
    found = []
    for file in files:
        try:
            answer = classify_file(exported, file)
        except (EgtError, OSError):
            if file in images:
                raise
            click.echo(f"{file}: cannot be read, left out")
            continue
        found.append(answer)
        click.echo(prediction_line(file, answer.class_name, answer.probability, answer.known, answer.tie))
    if table is not None:
        write_csv(found, table)
        click.echo(f"written: {table}")
