"""egt-tf learn"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .progress import stage_progress

if TYPE_CHECKING:
    from egt_tf.learning import FewShotClassifier


@click.command(short_help="Learn classes from a few photos of each, without training.")
@click.argument("path", metavar="FOLDER|MODEL", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="The model's folder, which holds its versions; saved_models/NAME-OF-THE-FOLDER by default.",
)
@click.option("--without-photos", is_flag=True, help="Leave the photos out of the model, and explanations with them.")
@click.option(
    "--head",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="prototype, cosine or ridge; auto: the one that does best when each photo is left out in turn.",
)
@click.option("--embedding", metavar="NAME", help="A backbone with weights; efficientnet_lite0 by default.")
@click.option("--image-size", type=click.IntRange(1), metavar="N", help="Photos become N x N pixels; 224 by default.")
@click.option(
    "--add",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Add its classes, and its photos of known classes, to MODEL.",
)
@click.option("--remove", metavar="CLASS", help="Take a class out of MODEL.")
@click.option("--rename", metavar="OLD=NEW", help="Give a class of MODEL another name.")
def learn(
    path: Path,
    out: Path | None,
    without_photos: bool,
    head: str,
    embedding: str | None,
    image_size: int | None,
    add: Path | None,
    remove: str | None,
    rename: str | None,
) -> None:
    """Learn a classifier from FOLDER, which holds a folder of a few photos for each class.

    With --add, --remove or --rename, change MODEL, which was learned before; a new version of it is written.
    """
    if add is None and remove is None and rename is None:
        _learn(path, out, without_photos, head, embedding, image_size)
        return
    given = {"--out": out, "--embedding": embedding, "--image-size": image_size, "--head": head != "auto" or None}
    wrong = [name for name, value in given.items() if value is not None]
    if wrong or (add, remove, rename).count(None) != 2:
        raise click.UsageError(
            f"one of --add, --remove and --rename changes a model as it was learned. Received: {wrong[0]} beside it"
            if wrong
            else "give one of --add, --remove and --rename at a time"
        )
    _change(path, add, remove, rename, without_photos)


def _learn(
    folder: Path, out: Path | None, without_photos: bool, head: str, embedding: str | None, image_size: int | None
) -> None:
    from egt_tf.export import check_version
    from egt_tf.learning import FewShotClassifier
    from egt_tf.learning.report import learned_lines

    out = out or Path("saved_models") / folder.resolve().name
    check_version(out, None)
    classifier = FewShotClassifier(embedding, head, image_size)
    with stage_progress("photos") as show:
        classifier.fit(folder, progress=show)
    _echo([*classifier.notes, *learned_lines(classifier)])
    _write(classifier, out, not without_photos)


def _change(model: Path, add: Path | None, remove: str | None, rename: str | None, without_photos: bool) -> None:
    from egt_tf.learning import FewShotClassifier
    from egt_tf.learning.report import changed_lines, learned_lines
    from egt_tf.serving.contract import version_folder

    folder = version_folder(model)
    classifier = FewShotClassifier.load(folder)
    before = dict(zip(classifier.classes_.tolist(), classifier.memory.counts.tolist(), strict=True))
    if add is not None:
        with stage_progress("photos") as show:
            classifier.add(add, progress=show)
    elif remove is not None:
        classifier.remove(remove)
    elif rename is not None:
        old, equals, new = rename.partition("=")
        if not equals:
            raise click.UsageError(f"--rename takes OLD=NEW. Received: {rename!r}")
        classifier.rename(old, new)
    _echo([*classifier.notes, *changed_lines(before, classifier), *learned_lines(classifier)])
    _write(classifier, folder.resolve().parent, not without_photos)


def _echo(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _write(classifier: FewShotClassifier, out: Path, photos: bool) -> None:
    kept = photos and classifier.memory.pixels is not None
    path = classifier.save(out, photos)
    click.echo("the photos are inside, for explanations" if kept else "the photos are not inside")
    click.echo(f"written: {path}")
