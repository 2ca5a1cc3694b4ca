"""Writes docs/photographs.png: twenty explanations of the sample photographs, to be looked at.

    python benchmarks/photograph_sheet.py [--out docs/photographs.png] [--method epsilon_plus] [--start margin]

The queries of `saved_models/samples/photo-queries` by all photographs of `saved_models/samples/photos`, and photographs
of these, each by the others. Each cell has the query, its relevance for the predicted class, and the photograph of that
class which spoke most for it, with its relevance; below, the prediction and its strongest rival, in red where wrong.
Queries whose licence would hold for the sheet too are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.data.support import SupportSet, load_image, load_support
from egt_tf.episodic_model import EpisodicModel
from egt_tf.explain import get_method
from egt_tf.export import OneByOne
from egt_tf.figures import colormap
from egt_tf.figures.explanation import display_maps, percent
from egt_tf.files import atomic_write
from egt_tf.heads import HEADS
from egt_tf.lrp import COMPOSITES, get_start

SAMPLES = Path(__file__).resolve().parents[1] / "saved_models" / "samples"
SHARE_ALIKE = ("bird-01.jpg", "bird-02.jpg")
COUNT, COLUMNS = 20, 4
TILE, GAP, CAPTION = 112, 10, 18
INK, WRONG = (30, 30, 40), (190, 20, 20)
PALETTE = 255


@dataclasses.dataclass(frozen=True)
class Question:
    """A query, what it is called, its class if it has one, and the classes it is asked by."""

    image: np.ndarray
    name: str
    truth: str
    support: SupportSet


def questions(size: int) -> list[Question]:
    """The queries that come with the package, then photographs of the support set, in turn from each class."""
    support = load_support(SAMPLES / "photos", size)
    paths = [path for path in sorted((SAMPLES / "photo-queries").glob("*.jpg")) if path.name not in SHARE_ALIKE]
    found = [Question(load_image(path, size), path.stem, path.stem.rsplit("-", 1)[0], support) for path in paths]
    for shot in range(support.shots):
        # Sets hold equally many photographs of each class: the others go without theirs of the same number.
        others = dataclasses.replace(support, images=np.delete(support.images, shot, axis=1))
        for images, name in zip(support.images, support.class_names, strict=True):
            found.append(Question(images[shot], f"{name}/{shot + 1:02d}", name, others))
    return found[:COUNT]


def tiles(answers: OneByOne, question: Question, support: tf.Tensor, labels: tf.Tensor) -> tuple[list, np.ndarray]:
    """The query, its map, the photograph of the class that spoke most for it, with its map; and the probabilities."""
    image = question.image[None]
    found = answers.relevance(support, labels, image, tf.constant([-1], tf.int64))
    of_class = int(found.targets[0])
    sums = tf.reduce_sum(found.support_features[0], axis=(1, 2, 3)) * labels[:, of_class]
    best = int(tf.argmax(sums))
    photograph = question.support.images.reshape(-1, *image.shape[1:])[best]
    (of_photograph,) = answers.support_relevance(photograph[None], found.support_features[:, best : best + 1]).numpy()
    maps = [display_maps(each) for each in (found.images.numpy(), of_photograph)]
    pictures = [
        tile
        for picture, (relevance,) in zip((question.image, photograph), maps, strict=True)
        for tile in (picture, colormap.overlay(picture, relevance))
    ]
    return pictures, answers.probabilities(found.scores)[0].numpy()


def cell(question: Question, pictures: list[np.ndarray], probabilities: np.ndarray) -> Image.Image:
    """The tiles of one question above its caption."""
    picture = Image.new("RGB", (4 * TILE, TILE + CAPTION), "white")
    for place, tile in enumerate(pictures):
        picture.paste(Image.fromarray(tile).resize((TILE, TILE), Image.Resampling.LANCZOS), (place * TILE, 0))
    second, first = np.argsort(probabilities)[-2:]
    names = question.support.class_names
    found = f"{names[first]} {percent(probabilities[first])}, not {names[second]}"
    colour = INK if names[first] == question.truth else WRONG
    ImageDraw.Draw(picture).text((2, TILE + 2), f"{question.name}:  {found}", colour, ImageFont.load_default(12))
    return picture


def cells_of(answers: OneByOne, asked: list[Question]) -> Iterator[Image.Image]:
    """A cell for each question; the features of each photograph are computed once."""
    features: dict[bytes, np.ndarray] = {}
    for question in asked:
        photographs = question.support.images.reshape(-1, *question.image.shape)
        for each in photographs:
            if each.tobytes() not in features:
                features[each.tobytes()] = answers.features(each[None]).numpy()[0]
        support = tf.stack([features[each.tobytes()] for each in photographs])
        labels = tf.repeat(tf.eye(question.support.ways), question.support.shots, axis=0)
        yield cell(question, *tiles(answers, question, support, labels))


def sheet(cells: list[Image.Image]) -> Image.Image:
    """All cells, row by row."""
    width, height = cells[0].size
    rows = -(-len(cells) // COLUMNS)
    picture = Image.new("RGB", (COLUMNS * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white")
    for number, each in enumerate(cells):
        row, column = divmod(number, COLUMNS)
        picture.paste(each, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return picture


def main() -> None:
    """Writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/photographs.png"))
    parser.add_argument("--method", default="epsilon_plus")
    parser.add_argument("--start", default="margin")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--head", default="cosine")
    arguments = parser.parse_args()
    backbone = BACKBONES.get(
        {"name": "efficientnet_lite0", "output": "pooled", "power": 0.5}, image_size=arguments.size
    )
    head = HEADS.get({"name": arguments.head}, feature_shape=backbone.output_shape[1:])
    model = get_method(arguments.method).prepared(EpisodicModel(backbone, head))
    answers = OneByOne(model, COMPOSITES.get(arguments.method), get_start(arguments.start))
    cells = list(cells_of(answers, questions(arguments.size)))
    buffer = io.BytesIO()
    sheet(cells).quantize(PALETTE).save(buffer, "PNG", optimize=True)
    with atomic_write(arguments.out) as file:
        file.write(buffer.getvalue())
    print(f"{arguments.out}  {arguments.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
