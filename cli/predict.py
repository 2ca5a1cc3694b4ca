"""egt-tf predict"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.errors import EgtError, NotFiniteError

from .bundled import bundled_model, describe_bundled
from .commands import Command
from .completion import RunPath
from .lines import prediction_line, say_left_out, warn_of_unlike
from .paths import check_images, check_inputs

if TYPE_CHECKING:
    from egt_tf.explain import Explainer
    from egt_tf.serving.classification import Classification


@click.command(
    cls=Command,
    short_help="Classify images by an exported model or a run.",
    examples=(
        "egt-tf predict new.jpg --model saved_models/photos",
        "egt-tf predict holiday/ --model saved_models/photos --csv answers.csv",
    ),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE|FOLDER...", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported model, such as saved_models/first, or a version of it; the one that comes with egt-tf "
    "by default.",
)
@click.option("--run", type=RunPath(), metavar="RUN", help="A run folder in place of a model.")
@click.option(
    "--support",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="One sub-folder of images a class; the stored support set by default.",
)
@click.option(
    "--csv",
    "table",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a table too: image, class (or none of these, or tie), nearest class, probability.",
)
def predict(
    images: tuple[Path, ...], model: Path | None, run: Path | None, support: Path | None, table: Path | None
) -> None:
    """Classify images, and all those in folders, by the support set of an exported model or of a run, or by another.

    A model of `egt-tf learn` says where an image shows none of its classes. In a folder, images that cannot be read are
    named and left out.
    """
    from egt_tf.data.walking import image_files

    if run is not None and model is not None:
        raise click.UsageError("--run and --model are two ways to say what classifies; give one of them")
    files = image_files(images)
    check_images(image for image in images if not image.is_dir())
    check_inputs(run, model, support)
    from egt_tf.data.support import load_image
    from egt_tf.serving.classification import write_csv

    classify, explainer = _classifier(model, run, support)
    found = []
    for file in files:
        try:
            answer = classify(file)
        except (EgtError, OSError) as error:
            # Of the model, not of the image.
            if file in images or isinstance(error, NotFiniteError):
                raise
            click.echo(f"{file}: cannot be read, left out")
            continue
        found.append(answer)
        click.echo(prediction_line(file, answer.class_name, answer.probability, answer.known, answer.tie))
    if explainer is not None and not any(answer.known is not None for answer in found):
        named = [answer.image for answer in found]
        warn_of_unlike(named, [load_image(image, explainer.image_size) for image in named], explainer.support)
    if table is not None:
        write_csv(found, table)
        click.echo(f"written: {table}")


def _classifier(
    model: Path | None, run: Path | None, support: Path | None
) -> tuple[Callable[[Path], Classification], Explainer | None]:
    """What classifies a file, and the model as an explainer if it is one; says what is used where it was not named."""
    from egt_tf.explain import RunExplainer, chosen_support
    from egt_tf.runs import RunFolder
    from egt_tf.serving import ExportedExplainer
    from egt_tf.serving.classification import classify_by_support, classify_file
    from egt_tf.serving.exported_model import ExportedModel

    if run is None:
        exported = ExportedModel(model or bundled_model())
        if model is None:
            stored = "its stored support set" if support is None else f"the support set {support}"
            click.echo(f"using {describe_bundled(exported.path)} and {stored}")
        if support is None:
            exported.check_classifier()
            with contextlib.suppress(EgtError):
                return functools.partial(classify_file, exported), ExportedExplainer(exported)
            return functools.partial(classify_file, exported), None
    explainer: Explainer = ExportedExplainer(exported) if run is None else RunExplainer(RunFolder(run))
    chosen = chosen_support(explainer, support)
    say_left_out(chosen.left_out, chosen.shots)
    return functools.partial(classify_by_support, explainer, chosen), explainer
