"""The part of the page that shows stored queries with what spoke for and against their classes."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from egt_tf.document import HtmlBlock, Paragraph
from egt_tf.figures.colormap import overlay
from egt_tf.figures.explanation import display_maps, percent
from egt_tf.report.blocks import Bars, Card, Damaged, Groups, Note, Section, Tile, Tiles
from egt_tf.report.commands import explain_command
from egt_tf.report.facts import Example, Examples, Part, RunFacts, RunKind

# Of support images of a class, and of classes in the list of probabilities, so many are shown.
_MOST_SHOTS, _MOST_CLASSES = 5, 5
# Support images are shown small; larger ones would only make the page heavy.
_SUPPORT_SIDE = 112
_QUALITY = 90


def examples_section(facts: RunFacts) -> Section:
    """Explained queries."""
    return Section("examples", "Explained examples", tuple(_blocks(facts)))


def _blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.EXAMPLES))
    if facts.examples is not None:
        yield from _example_blocks(facts.examples)
    elif not facts.damaged(Part.EXAMPLES):
        yield _missing(facts)


def _missing(facts: RunFacts) -> Note:
    if facts.kind is RunKind.PRETRAINED:
        return Note("A pre-trained backbone is no classifier yet: there is nothing to explain.")
    return Note(
        "No stored query is explained here: none was asked for, or the run has no queries of a stored support set. Explain "
        "any image with",
        explain_command(facts),
    )


def _example_blocks(examples: Examples) -> Iterator[HtmlBlock]:
    yield Paragraph(
        f"{examples.right} of the {examples.asked} queries stored with the run are answered rightly by its stored support "
        f"set; {len(examples.shown)} are explained, wrong ones first, by the method {examples.method}. Red pixels spoke "
        "for the class, blue ones against it; the maps of one query have the same scale."
    )
    for number, example in enumerate(examples.shown, start=1):
        yield _card(number, example)


def _card(number: int, example: Example) -> Card:
    explanation = example.explanation
    said = explanation.class_names[explanation.predicted]
    title = f"{number}. Right: {said}" if example.is_right else f"{number}. Wrong: {said} in place of {example.truth}"
    shown = sorted(
        zip(explanation.explained, display_maps(explanation.query_relevance), strict=True),
        key=lambda pair: pair[0] != explanation.predicted,
    )
    query = Tile(_jpeg(explanation.query_image), f"the query, a {example.truth}", f"query: {explanation.image_name}")
    overlays = [
        Tile(
            _jpeg(overlay(explanation.query_image, each)),
            f"relevance of the query's pixels for the class {explanation.class_names[index]}",
            f"for {explanation.class_names[index]} ({_role(example, index)})",
        )
        for index, each in shown
    ]
    groups = Groups(list(_support(example)))
    return Card(title, (*_doubts(example), Tiles((query, *overlays, _bars(example))), groups))


def _doubts(example: Example) -> list[HtmlBlock]:
    doubts = example.explanation.doubts
    return [Note(f"{'; '.join(doubts)}.")] if doubts else []


def _role(example: Example, index: int) -> str:
    """How a class came out: "predicted, 62 %"."""
    explanation = example.explanation
    roles = {explanation.runner_up: "runner-up", explanation.class_names.index(example.truth): "the true class"}
    roles[explanation.predicted] = "predicted"
    return f"{roles.get(index, 'explained')}, {percent(explanation.probabilities[index])}"


def _bars(example: Example) -> Bars:
    explanation = example.explanation
    shown = explanation.ranking[:_MOST_CLASSES]
    rows = [
        (_named(example, index), float(explanation.probabilities[index]), percent(explanation.probabilities[index]))
        for index in shown
    ]
    ways = len(explanation.class_names)
    return Bars("Probabilities" if len(shown) == ways else f"Probabilities, the first {len(shown)} of {ways}", rows)


def _named(example: Example, index: int) -> str:
    name = example.explanation.class_names[index]
    return f"{name} (true)" if name == example.truth else name


def _support(example: Example) -> Iterator[tuple[HtmlBlock, ...]]:
    """The support images of the classes explained, the predicted one first, with their relevance for their own class."""
    explanation = example.explanation
    rows = sorted(enumerate(explanation.explained), key=lambda pair: pair[1] != explanation.predicted)
    maps = display_maps(np.stack([explanation.support_relevance[row, index] for row, index in rows]))
    for place, (_, index) in enumerate(rows):
        count = min(_MOST_SHOTS, explanation.support_sizes[index])
        if not count:
            continue
        name = explanation.class_names[index]
        tiles = Tiles(
            [
                Tile(
                    _jpeg(overlay(explanation.support_images[index, shot], maps[place, shot]), _SUPPORT_SIDE),
                    f"support image {shot + 1} of {name} with its relevance",
                    "",
                )
                for shot in range(count)
            ],
            small=True,
        )
        yield Paragraph(f"Support images of {name}, with their relevance for it:"), tiles


def _jpeg(pixels: np.ndarray, most: int | None = None) -> bytes:
    """A JPEG file with full colours, since red and blue are what counts; smaller than `most` pixels a side."""
    image, content = Image.fromarray(pixels), io.BytesIO()
    if most is not None:
        image.thumbnail((most, most))
    image.save(content, "JPEG", quality=_QUALITY, subsampling=0)
    return content.getvalue()
