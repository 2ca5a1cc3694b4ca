"""egt-tf convert"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from egt_tf.weight_files import check_present

from .commands import Command


@click.command(
    cls=Command,
    short_help="Turn a published PyTorch checkpoint into a run.",
    examples=(
        "egt-tf convert best_model.tar --to runs/published",
        "egt-tf convert backbone.safetensors --to runs/backbone",
    ),
)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "--to", "run", required=True, type=click.Path(path_type=Path), metavar="RUN", help="The run folder to write."
)
@click.option("--head", metavar="NAME", help="relation, graph or cross_attention; found out by default.")
@click.option(
    "--backbone", metavar="NAME", help="conv4, conv4np, resnet10, resnet18 or resnet12; found out by default."
)
@click.option("--image-size", type=click.IntRange(1), help="Pixels; 84 for Conv4 and ResNet-12, else 224 by default.")
@click.option("--ways", type=click.IntRange(2), help="Classes an episode; as the arrays say, else 5 by default.")
@click.option("--shots", type=click.IntRange(1), help="Support images a class; 5 by default.")
def convert(
    checkpoint: Path,
    run: Path,
    head: str | None,
    backbone: str | None,
    image_size: int | None,
    ways: int | None,
    shots: int | None,
) -> None:
    """Turn a checkpoint of the published PyTorch code into a run.

    CHECKPOINT is a file of torch.save (.tar, .pth), a .safetensors file or an .npz archive of its arrays. PyTorch is not
    needed, and no code in the file is run.
    """
    # Before TensorFlow is imported.
    check_present(checkpoint)
    from egt_tf.published.convert import Choices, convert_checkpoint
    from egt_tf.runs import RunFolder

    found = convert_checkpoint(checkpoint, RunFolder(run), Choices(head, backbone, image_size, ways, shots))
    model = found.config.model
    click.echo(
        f"{checkpoint}: {model.backbone['name']} at {found.config.data.image_size} px with the head "
        f"{model.head['name']}"
    )
    if found.unused:
        click.echo(f"not used: {', '.join(found.unused)}")
    if not found.trained_head:
        click.echo("no head in the checkpoint: that of the run has its initial weights, its scores mean nothing yet")
    click.echo(f"run folder: {run}  evaluate it by: {shlex.join(['egt-tf', 'evaluate', str(run)])} --data SOURCE")
