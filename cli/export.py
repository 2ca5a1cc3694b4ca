"""egt-tf export"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER",
              help="The model's folder, which holds its versions; saved_models/NAME-OF-THE-RUN by default.")
@click.option("--version", type=click.IntRange(1), metavar="N", help="The next free one by default.")
@click.option("--support", "support_folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="One sub-folder of images a class; the run's stored support set by default.")
def export(run: Path, out: Path | None, version: int | None, support_folder: Path | None) -> None:
    """Write a run as a SavedModel that TensorFlow Serving serves."""
    from egt_tf.data.support import load_support
    from egt_tf.export.saved_model import served, write_version
    from egt_tf.runs import RunFolder

    run_folder = RunFolder(run)
    config = run_folder.config()
    model = run_folder.load_model()
    if support_folder is None and run_folder.support_folder.is_dir():
        support_folder = run_folder.support_folder
    support = None if support_folder is None else load_support(support_folder, model.image_size)
    ready = served(model, support, config.guidance.composite)
    path = write_version(ready, out or Path("saved_models") / run.resolve().name, version)
    click.echo(f"signatures: {', '.join(sorted(name for name in ready.signatures if not name.endswith('_floats')))}; "
               "each also for decoded images, NAME_floats")
    if support is None:
        click.echo("no support set: serving_default and explain are left out; give one by --support FOLDER")
    click.echo(f"written: {path}")
