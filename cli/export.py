"""egt-tf export"""

from __future__ import annotations

from pathlib import Path

import click

from .commands import Command
from .completion import RunPath
from .paths import check_inputs
from .progress import stage_progress


@click.command(
    cls=Command,
    short_help="Write a run as a SavedModel for TensorFlow Serving.",
    examples=(
        "egt-tf export runs/first",
        "egt-tf export runs/first --out saved_models/birds --version 2",
    ),
)
@click.argument("run", metavar="RUN", type=RunPath())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The model's folder, which holds its versions; saved_models/NAME-OF-THE-RUN by default.",
)
@click.option("--version", type=click.IntRange(1), metavar="N", help="The next free one by default.")
@click.option(
    "--support",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="One sub-folder of images a class; the run's stored support set by default.",
)
@click.option(
    "--calibrate",
    "source",
    metavar="SOURCE",
    help="Measure on episodes of its novel classes what answering "
    "queries one by one costs, and say so in the model card.",
)
@click.option("--episodes", type=click.IntRange(1), default=100, show_default=True, help="Of --calibrate.")
@click.option(
    "--portable",
    is_flag=True,
    help="For engines beside TensorFlow, such as OpenVINO: the one signature "
    "serving_default, of numbers only, which classifies and explains.",
)
@click.option(
    "--lite",
    is_flag=True,
    help="Write model.tflite, too: a LiteRT file for telephones, which classifies resized images.",
)
@click.option(
    "--sample-noise",
    is_flag=True,
    help="Of a stochastic student: draw its noise anew for every request; else it is a constant.",
)
@click.option(
    "--image-size",
    type=int,
    metavar="N",
    help="Export only if the model takes images of N x N pixels, the "
    "size it was trained at. Encoded images of any size are resized to it in the graph.",
)
@click.option(
    "--max-pixels",
    type=int,
    metavar="N",
    help="Refuse encoded images with more pixels, before they are decoded; 50000000 by default.",
)
@click.option(
    "--max-images",
    type=int,
    metavar="N",
    help="Refuse requests with more images, support images and queries together; 256 by default.",
)
def export(
    run: Path,
    out: Path | None,
    version: int | None,
    support: Path | None,
    source: str | None,
    episodes: int,
    portable: bool,
    lite: bool,
    sample_noise: bool,
    image_size: int | None,
    max_pixels: int | None,
    max_images: int | None,
) -> None:
    """Write a run as a SavedModel that TensorFlow Serving serves."""
    check_inputs(run, support=support)
    from egt_tf.export import RequestLimits, check_version, prepare_export
    from egt_tf.export.warm_up import available
    from egt_tf.runs import RunFolder
    from egt_tf.serving.contract import FLOATS, LITE

    if portable and lite:
        raise click.UsageError("--lite is written beside the ordinary signatures; leave out --portable")
    if sample_noise and (portable or lite):
        raise click.UsageError("--sample-noise takes random numbers, which --portable and --lite do not have")
    if portable and max_pixels is not None:
        raise click.UsageError("--max-pixels is for graphs that decode images; leave it out with --portable")
    given = {"max_pixels": max_pixels, "max_images": max_images}
    limits = RequestLimits(**{name: value for name, value in given.items() if value is not None})
    out = out or Path("saved_models") / run.resolve().name
    check_version(out, version)
    found = prepare_export(RunFolder(run), support, portable, image_size, limits, sample_noise)
    calibration = None
    if source is not None:
        with stage_progress("episodes") as show:
            calibration = found.calibrate(source, episodes, show)
        click.echo(f"one by one: {calibration.one_by_one}, together: {calibration.together}")
    path = found.write(out, version, calibration, lite)
    names = sorted(name for name in found.ready.signatures if not name.endswith(FLOATS))
    click.echo(
        f"signatures: {', '.join(names)}" + ("" if portable else f"; each also for decoded images, NAME{FLOATS}")
    )
    if found.support_name is None:
        click.echo("no support set: serving_default and explain are left out; give one by --support FOLDER")
    if not available():
        click.echo("no warm-up requests: they need tensorflow-serving-api (pip install 'egt-tf[serving]')")
    if lite:
        size = (path / LITE).stat().st_size
        click.echo(f"LiteRT: {LITE}, {size / 1e6:.1f} MB, answers as serving_default does")
    click.echo(f"written: {path}")
