"""egt-tf data"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from egt_tf.data.splits import SPLIT_CHOICES

from .commands import Command
from .completion import SourceName, complete_domain
from .lines import table
from .progress import stage_progress

SPLITS = click.Choice(SPLIT_CHOICES)


@click.group(short_help="Check, show, measure, list and prepare images.")
def data() -> None:
    """See which images there are, prepare named domains, and check, show, measure and list images."""


@data.command(
    "list",
    cls=Command,
    examples=(
        "egt-tf data list",
        "egt-tf data list | grep domain",
    ),
)
def list_sources() -> None:
    """List the sources.

    Of the named domains, it says whether they are prepared.
    """
    from egt_tf.data.domains import DOMAINS, data_dir, is_prepared, prepared_folder
    from egt_tf.data.synthetic import CLASS_NAMES, DRAWN_DOMAINS, IMAGES_PER_CLASS

    schemes = (
        ("folder:DIR", "one sub-folder a class", ""),
        ("filelist:FILE.json", "label_names, image_names, image_labels", ""),
        (
            "tfds:NAME[:CONFIG][:VERSION]",
            "any image classification set of TensorFlow Datasets",
            f"prepared in {data_dir()}",
        ),
    )
    named = [
        (
            f"domain:{one.name}",
            one.title,
            f"prepared in {prepared_folder(one)}"
            if is_prepared(one)
            else f"not prepared: egt-tf data prepare {one.name}",
        )
        for one in DOMAINS.values()
    ]
    drawn = [
        (f"synthetic:{name}", f"{len(CLASS_NAMES)} classes, {IMAGES_PER_CLASS} images each", "drawn when needed")
        for name in DRAWN_DOMAINS
    ]
    click.echo(table(("source", "what", "state"), [*schemes, *named, *drawn]))


@data.command(
    cls=Command,
    examples=(
        "egt-tf data prepare cub",
        "egt-tf data prepare cars --from downloads",
    ),
)
@click.argument("name", shell_complete=complete_domain)
@click.option(
    "--from",
    "manual_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder of files fetched by hand; downloads/manual of the data folder by default.",
)
def prepare(name: str, manual_dir: Path | None) -> None:
    """Prepare and verify a named domain.

    What can be downloaded is. Then every image is decoded, classes are counted, and pictures in two splits are found.

    The data folder is TFDS_DATA_DIR, else ~/tensorflow_datasets. After an interruption, the same command goes on from
    the last finished download.
    """
    from egt_tf.data.domains.prepare import prepare_domain
    from egt_tf.errors import DataError

    with stage_progress("images verified") as show:
        found = prepare_domain(name, manual_dir, show)
    rows = [(one.split, one.classes, one.images, f"{one.fewest}..{one.most}") for one in found.counts]
    click.echo(table(("split", "classes", "images", "a class"), rows))
    click.echo(f"{'prepared' if found.made else 'was prepared'}: {found.folder}  use it as: domain:{name}")
    if found.problems:
        raise DataError(
            f"domain:{name} can be used but is not as it should be: {'; '.join(found.problems)}; "
            f"images are listed by: egt-tf data check domain:{name}"
        )


@data.command(
    cls=Command,
    examples=(
        "egt-tf data check folder:photos",
        "egt-tf data check folder:photos --ways 3 --shots 1 --queries 5",
    ),
)
@click.argument("source", type=SourceName())
@click.option(
    "--ways",
    type=click.IntRange(2),
    default=5,
    show_default=True,
    help="Classes an episode; a split should have as many.",
)
@click.option("--shots", type=click.IntRange(1), default=5, show_default=True, help="Support images of a class ...")
@click.option(
    "--queries",
    type=click.IntRange(1),
    default=16,
    show_default=True,
    help="... and queries: a class should have as many images as both together.",
)
def check(source: str, ways: int, shots: int, queries: int) -> None:
    """Find corrupt, duplicate and odd images.

    Every image is decoded. Listed are those that cannot be read, pictures that are in two splits or in two classes,
    splits with too few classes and classes with too few images for the episodes of a training, and as notes what is odd
    but read all the same. The exit code is 2 if anything but notes is found, else 0.
    """
    from egt_tf.config import EpisodeConfig
    from egt_tf.data.check import check_source
    from egt_tf.data.sources import open_source
    from egt_tf.errors import DataError

    with stage_progress("images") as show:
        found = check_source(open_source(source), EpisodeConfig(ways, shots, queries), show)
    for heading, remarks in (
        ("unreadable", found.unreadable),
        ("in two splits", found.duplicates),
        ("in two classes", found.contradictions),
        ("too few", found.few),
        ("note", found.notes),
    ):
        for remark in remarks:
            click.echo(f"{heading}: {remark}")
    click.echo(
        f"{found.name}: {found.classes} classes, {found.images} images, {len(found.unreadable)} unreadable, "
        f"{len(found.duplicates)} in two splits, {len(found.contradictions)} in two classes, "
        f"{len(found.few)} splits or classes with too few, "
        f"{len(found.notes)} notes"
    )
    if found.wrong:
        hint = f"; to train on it all the same: {found.remedy}" if found.few and found.remedy else ""
        raise DataError(f"{found.name} is not as it should be: see the list above{hint}")


@data.command(
    cls=Command,
    examples=(
        "egt-tf data show folder:photos --out photos.png",
        "egt-tf data show synthetic:sketch --out sketches.png --classes 4",
    ),
)
@click.argument("source", type=SourceName())
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The PNG file to write.")
@click.option("--split", default="all", show_default=True, type=SPLITS)
@click.option("--classes", type=click.IntRange(1), default=8, show_default=True)
@click.option("--images", type=click.IntRange(1), default=6, show_default=True, help="Of each class.")
@click.option("--tile", type=click.IntRange(32), default=96, show_default=True, help="Pixels an image.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Which classes and images.")
def show(source: str, out: Path, split: str, classes: int, images: int, tile: int, seed: int) -> None:
    """Draw some images on one sheet."""
    from egt_tf.data.sheet import contact_sheet
    from egt_tf.data.sources import open_source
    from egt_tf.files import atomic_write

    image_set = open_source(source).split(split)
    sheet = contact_sheet(image_set, classes, images, tile, seed)
    with atomic_write(out) as file:
        sheet.save(file, "PNG")
    click.echo(f"{image_set.name}: {min(classes, len(image_set.members))} of {len(image_set.members)} classes")
    click.echo(f"written: {out}")


@data.command(
    cls=Command,
    examples=(
        "egt-tf data stats folder:photos",
        "egt-tf data stats domain:cub --images 20 --json",
    ),
)
@click.argument("source", type=SourceName())
@click.option("--images", type=click.IntRange(1), help="Of each class, to be measured; all by default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(source: str, images: int | None, as_json: bool) -> None:
    """Count and measure the images.

    Classes and images of each split, sizes, means and deviations of the colours.
    """
    from egt_tf.data.check import source_statistics
    from egt_tf.data.sources import open_source

    with stage_progress("images") as show:
        found = source_statistics(open_source(source), images, show)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    header = ("split", "classes", "images", "a class", "height", "width", "mean (R G B)", "deviation", "unreadable")
    rows = [
        (
            entry["split"],
            entry["classes"],
            entry["images"],
            _spread(entry["images_per_class"]),
            _spread(entry["height"]),
            _spread(entry["width"]),
            _colours(entry["channel_mean"]),
            _colours(entry["channel_std"]),
            entry["unreadable"],
        )
        for entry in found["splits"]
    ]
    click.echo(found["source"])
    click.echo(table(header, rows))


@data.command(
    "export-filelist",
    cls=Command,
    examples=(
        "egt-tf data export-filelist folder:photos --out lists",
        "egt-tf data export-filelist synthetic:shapes --out lists --copy-images",
    ),
)
@click.argument("source", type=SourceName())
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="A new or an empty folder.")
@click.option("--copy-images", is_flag=True, help="Write the images too; needed where they have no files.")
def export_filelist(source: str, out: Path, copy_images: bool) -> None:
    """Write base.json, val.json, novel.json.

    They are what the published cross-domain code reads.
    """
    from egt_tf.data.filelists import export_filelists
    from egt_tf.data.sources import open_source

    with stage_progress("images") as show:
        counts = export_filelists(open_source(source), out, copy_images=copy_images, progress=show)
    for split, count in counts.items():
        click.echo(f"written: {out / split}.json  {count} images")


def _spread(values: Sequence[float] | None) -> str:
    if values is None:
        return "-"
    least, median, most = (f"{value:g}" for value in values)
    return least if least == most else f"{least}..{most}, median {median}"


def _colours(values: Sequence[float] | None) -> str:
    return "-" if values is None else " ".join(f"{value:.3f}" for value in values)
