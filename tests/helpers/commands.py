"""How commands are run in this process, and folders of images for them."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from egt_tf.data import synthetic
from egt_tf_cli.main import cli


def invoke(*arguments):
    """Runs `egt-tf` in this process; an exception that is no message for the user fails the test."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def draw_classes(folder: Path, classes: int = 12, images: int = 6, size: int = 24) -> Path:
    """A folder of drawn images, one sub-folder a class."""
    for index in range(classes):
        (folder / f"class{index:02d}").mkdir(parents=True)
        for instance in range(images):
            pixels = synthetic.draw("shapes", index, instance, size=size)[0]
            Image.fromarray(pixels).save(folder / f"class{index:02d}" / f"{instance}.png")
    return folder
