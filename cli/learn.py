"""egt-tf learn"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from .commands import Command
from .paths import check_inputs
from .progress import stage_progress
from .types import ClassName

if TYPE_CHECKING:
    from egt_tf.learning import FewShotClassifier


@click.command(
    cls=Command,
    short_help="Make a classifier from a few photos of each class.",
    examples=(
        "egt-tf learn photos",
        "egt-tf learn --add more saved_models/photos",
        "egt-tf learn --rename ant=wasp saved_models/photos",
    ),
)
@click.argument("path", metavar="FOLDER|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The model's folder, which holds its versions; saved_models/NAME-OF-THE-FOLDER by default.",
)
@click.option(
    "--without-photos", is_flag=True, help="Keep features only: explanations cannot show what was learnt from."
)
@click.option("--lite", is_flag=True, help="Write a LiteRT (TFLite) file for telephones, too.")
@click.option(
    "--head",
    metavar="NAME",
    help="prototype, cosine or ridge; by default auto, the one that gets most photos right by leave-one-out.",
)
@click.option(
    "--embedding",
    metavar="NAME",
    help="A backbone, or one with arguments as '{name: efficientnet_lite0, weights: none}'; a pre-trained one by default.",
)
@click.option("--image-size", type=click.IntRange(1), metavar="N", help="Height and width that photos are brought to.")
@click.option(
    "--add",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Learn further photos, of new classes or of those that MODEL knows, and write its next version.",
)
@click.option(
    "--remove", type=ClassName(), metavar="CLASS", help="Forget a class of MODEL, and write its next version."
)
@click.option(
    "--rename",
    type=ClassName(),
    metavar="OLD=NEW",
    help="Give a class of MODEL another name, and write its next version.",
)
def learn(
    path: Path,
    out: Path | None,
    without_photos: bool,
    lite: bool,
    head: str | None,
    embedding: str | None,
    image_size: int | None,
    add: Path | None,
    remove: str | None,
    rename: str | None,
) -> None:
    """Learn a classifier from FOLDER, one sub-folder of photos a class, or change what MODEL has learnt.

    Nothing is trained: a pre-trained network makes a vector of each photo, and a head compares vectors.
    """
    changes = [change for change in (add, remove, rename) if change is not None]
    if not changes:
        arguments = _given(head=head, embedding=_embedding(embedding), image_size=image_size)
        _learn_folder(path, out, arguments, photos=not without_photos, lite=lite)
        return
    if len(changes) > 1:
        raise click.UsageError("--add, --remove and --rename write a version each; give one of them at a time")
    if _given(head=head, embedding=embedding, image_size=image_size) or out is not None:
        raise click.UsageError(
            "--head, --embedding, --image-size and --out are for learning a folder; a change keeps those of MODEL and is "
            "its next version"
        )
    _change_model(path, add, remove, rename, photos=not without_photos, lite=lite)


def _learn_folder(folder: Path, out: Path | None, arguments: dict[str, Any], photos: bool, lite: bool) -> None:
    check_inputs(support=folder)
    from egt_tf.export import check_version
    from egt_tf.learning import FewShotClassifier

    out = out or Path("saved_models") / folder.resolve().name
    check_version(out, None)
    with stage_progress("photos") as show:
        classifier = FewShotClassifier(**arguments).fit(folder, progress=show)
    _say(classifier)
    _write(classifier, out, photos, lite)


def _change_model(
    model: Path, add: Path | None, remove: str | None, rename: str | None, photos: bool, lite: bool
) -> None:
    check_inputs(model=model, support=add)
    from egt_tf.errors import DataError
    from egt_tf.learning import FewShotClassifier
    from egt_tf.learning.report import changed_lines
    from egt_tf.serving.contract import version_folder

    version = version_folder(model)
    # MODEL may be a version; the next one is beside it.
    out = model if version != model else (model.parent if model.name else model.resolve().parent)
    classifier = FewShotClassifier.load(version)
    before = dict(zip(classifier.classes_, classifier.counts_, strict=True))
    if add is not None:
        with stage_progress("photos") as show:
            classifier.add(add, progress=show)
    elif remove is not None:
        classifier.remove(remove)
    elif rename is not None:
        old, equals, new = rename.partition("=")
        if not equals:
            raise DataError(f"--rename must be OLD=NEW. Received: {rename!r}")
        classifier.rename(old, new)
    after = dict(zip(classifier.classes_, classifier.counts_, strict=True))
    for line in changed_lines(before, after):
        click.echo(line)
    _say(classifier)
    _write(classifier, out, photos, lite)


def _say(classifier: FewShotClassifier) -> None:
    from egt_tf.learning.report import learning_lines

    for line in learning_lines(classifier):
        click.echo(line)


def _write(classifier: FewShotClassifier, out: Path, photos: bool, lite: bool) -> None:
    path = classifier.save(out, photos=photos, lite=lite)
    inside = (
        "with the photos, for explanations" if photos and classifier.has_photos else "without photos, features only"
    )
    click.echo(f"written: {path} ({inside})")


def _embedding(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, (str, dict)):
        raise click.UsageError(
            f"--embedding must be a name, or a mapping with a name and arguments. Received: {text!r}"
        )
    return value


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
