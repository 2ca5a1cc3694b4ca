"""Draws what the challenger takes away: images, what they were recognised by, and each manipulation of it.

    egt-tf pretrain --config demo --set data.image_size=64 --set model.backbone.width=16 \\
        --set pretrain.epochs=20 --set training.learning_rate=0.003 --run RUN
    python benchmarks/challenger_figure.py RUN [--out docs/methods/challenger.png]

The images are drawn and of the base classes, the relevance is that of the true class by the pre-trained classifier. Of
each the most relevant fifth of the pixels is manipulated, which the defaults of `pretrain.challenger` are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from egt_tf.backbones import build_backbone
from egt_tf.config import MANIPULATION_NAMES, ChallengerConfig
from egt_tf.data.preprocessing import denormalize, normalize, resized_centre
from egt_tf.data.sources import open_source
from egt_tf.figures import colormap
from egt_tf.figures.canvas import GAP, HEADER, MARGIN, MUTED, WIDTH, Box, Canvas, short_names
from egt_tf.lrp import COMPOSITES
from egt_tf.runs import RunFolder
from egt_tf.training.backbone_classifier import BackboneClassifier
from egt_tf.training.challenged_model import challenged_images, input_relevance
from egt_tf.training.manipulation import Challenge
from egt_tf.weights import assign_weights, load_arrays

# Of the base classes of synthetic:shapes, far apart in their list.
CLASSES = (0, 24, 36)
NUMBER = 3
COLUMNS = ("image", "relevance", *MANIPULATION_NAMES)
CAPTIONS = {
    "attenuate": "to the mean colour",
    "noise": "of the image's mean and deviation",
    "blur": "the mean of the surroundings",
    "exchange": "the rival among these images",
}
TILE = (WIDTH - 2 * MARGIN - (len(COLUMNS) - 1) * GAP) / len(COLUMNS)


def load_classifier(run: RunFolder) -> tuple[BackboneClassifier, int]:
    """The classifier of a pre-training, and the side of its images."""
    config, arrays = run.config(), load_arrays(run.backbone_file)
    size = config.data.image_size
    backbone = build_backbone(config.model.backbone, size, 0)
    model = BackboneClassifier(backbone, len(arrays["classifier/scores/bias"]))
    assign_weights(model, arrays, str(run.backbone_file))
    return model, size


def rows_of(model: BackboneClassifier, size: int) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Class names, maps of relevance, and pictures uint8: the images and each manipulation of them."""
    images = open_source("synthetic:shapes").split("base")
    pictures = np.stack([resized_centre(images.read(int(images.members[c][NUMBER])), size).numpy() for c in CLASSES])
    x, labels = normalize(pictures), tf.constant(CLASSES)
    challenger = ChallengerConfig()
    scores, relevance = input_relevance(model, x, labels, COMPOSITES.get(challenger.composite))
    pictured = [pictures]
    for name in MANIPULATION_NAMES:
        challenge = Challenge(name, challenger.share, challenger.unit, challenger.strength)
        changed = challenged_images(x, labels, scores, relevance, challenge, tf.constant([1, 2]))
        pictured.append(np.stack([denormalize(each).numpy() for each in changed]))
    return [images.class_names[c] for c in CLASSES], relevance.numpy().sum(-1), pictured


def drawn(names: list[str], maps: np.ndarray, pictured: list[np.ndarray]) -> Canvas:
    """A row an image, a column a manipulation."""
    canvas = Canvas(WIDTH, HEADER + 0.3 + len(names) * (TILE + 0.3))
    canvas.text(MARGIN, 0.5, "What the challenger takes away", 16, bold=True)
    legend = "the most relevant fifth of the pixels; red: relevant for the true class, blue: against it"
    canvas.text(MARGIN, 0.74, legend, 9, color=MUTED)
    for row, name in enumerate(short_names(names, 26)):
        originals, *changed = (each[row] for each in pictured)
        shown = colormap.overlay(originals, colormap.scaled(maps[row], colormap.shared_scale(maps[row])))
        for column, picture in enumerate((originals, shown, *changed)):
            box = Box(MARGIN + column * (TILE + GAP), HEADER + 0.3 + row * (TILE + 0.3), TILE, TILE)
            canvas.image(picture, box)
            if row == 0:
                canvas.text(box.x, box.y - 0.28, COLUMNS[column], 9.5, bold=True)
                canvas.text(box.x, box.y - 0.12, CAPTIONS.get(COLUMNS[column], ""), 6.5, color=MUTED)
            if column == 0:
                canvas.text(box.x, box.y + TILE + 0.16, name, 7.5, color=MUTED)
    return canvas


def main() -> None:
    """Writes the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/methods/challenger.png"))
    arguments = parser.parse_args()
    model, size = load_classifier(RunFolder(arguments.run))
    drawn(*rows_of(model, size)).save(arguments.out)
    print(f"{arguments.out}  {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
