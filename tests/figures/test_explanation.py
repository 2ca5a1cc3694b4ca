from __future__ import annotations

import dataclasses
import errno
import json
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import EpisodeExplanation, to_json
from egt_tf.figures import agg, canvas, colormap
from egt_tf.figures import explanation as figure
from egt_tf.figures.explanation import draw_explanation, save_figure
from tests.figures.random_explanation import random_explanation as make


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few pixels are enough where no text is measured."""
    monkeypatch.setattr(canvas, "_DPI", 60)


@pytest.fixture
def drawn_maps(monkeypatch):
    """The maps that `draw_explanation` put over images, the colour bar left out."""
    maps, overlay = [], colormap.overlay

    def keep(image, relevance):
        maps.append(relevance)
        return overlay(image, relevance)

    monkeypatch.setattr(colormap, "overlay", keep)
    return lambda: [one for one in maps if one.shape[0] == one.shape[1]]


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.0, "<1 %"), (0.004, "<1 %"), (0.01, "1 %"), (0.624, "62 %"), (0.994, "99 %"), (0.996, ">99 %"), (1.0, ">99 %")],
)
def test_percent_claims_no_certainty(probability, words):
    assert figure.percent(probability) == words


# === The places on the figure ===


class Places(NamedTuple):
    """Where things lie on a figure, in pixels: arrays `(n, 4)` of left, bottom, right and top."""

    explanation: EpisodeExplanation
    whole: np.ndarray
    texts: np.ndarray
    images: np.ndarray
    tracks: np.ndarray
    tinted_rows: np.ndarray


# The broadest letter in one word, and words that take two lines beside the support images.
BROAD = ("{}", "{}_" + "W" * 80, "n015328{:02d}_house_finch")
WORDS = ("039.Bentley_Continental_Supersports_Conv_Convertible_2012_{}",)


@pytest.fixture(
    scope="module",
    params=[
        (2, 1, 1, BROAD),
        (2, 10, 2, WORDS),
        (3, 2, 3, BROAD),
        (3, 40, 1, WORDS),
        (5, 1, 2, WORDS),
        (5, 5, 5, BROAD),
        (7, 3, 1, WORDS),
        (8, 3, 8, BROAD),
        pytest.param((20, 1, 20, BROAD), marks=pytest.mark.slow),
        pytest.param((20, 10, 2, WORDS), marks=pytest.mark.slow),
    ],
    ids=lambda param: "{}-way {}-shot {} explained".format(*param),
)
def places(request):
    """The places on a figure of long names and percentages, which is drawn once, as sharp as for a user."""
    ways, shots, explained, patterns = request.param
    names = tuple(patterns[i % len(patterns)].format(i) for i in range(ways))
    sure = np.where(np.arange(ways) == 1, 0.996, 0.004 / ways)
    explanation = dataclasses.replace(
        make(ways, shots, explained, size=4, names=names),
        probabilities=sure,
        image_name="long_" * 40 + ".jpg",
        run_name="run/" * 40,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw_explanation(explanation)
        drawn.pixels()
    return places_on(drawn, explanation)


def places_on(drawn, explanation):
    axes = drawn.axes
    return Places(
        explanation,
        drawn.figure.bbox.extents,
        extents(text for text in axes.texts if text.get_text()),
        extents(axes.images),
        extents(patch for patch in axes.patches if to_hex(patch.get_facecolor()) == canvas.TRACK),
        extents(patch for patch in axes.patches if to_hex(patch.get_facecolor()) == canvas.TINT),
    )


def extents(artists):
    return np.array([artist.get_window_extent().extents for artist in artists])


def overlaps(some, others):
    """Whether each of some places shares more than half a pixel with each of the others: `(m, n)`."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])
    return (high - low > 0.5).all(axis=-1)


def inside(some, frame):
    """Whether each of some places lies inside a frame, or at most half a pixel out: `(m,)`."""
    return ((some[:, :2] >= frame[:2] - 0.5) & (some[:, 2:] <= frame[2:] + 0.5)).all(axis=-1)


def test_nothing_leaves_the_figure(places):
    for kind in (places.texts, places.images, places.tracks, places.tinted_rows):
        assert inside(kind, places.whole).all()


def test_no_text_overlaps_another_text_a_picture_or_a_bar(places):
    assert np.array_equal(overlaps(places.texts, places.texts), np.eye(len(places.texts)))
    assert not overlaps(places.texts, places.images).any()
    assert not overlaps(places.texts, places.tracks).any()


def test_no_picture_or_bar_overlaps_another(places):
    ways, shots = places.explanation.support_images.shape[:2]
    assert len(places.tracks) == min(ways, 20) + ways * shots
    pictures = np.concatenate([places.images, places.tracks])
    assert np.array_equal(overlaps(pictures, pictures), np.eye(len(pictures)))


def test_the_bars_of_probabilities_are_long_enough_to_compare(places):
    bars = places.tracks[: len(places.explanation.class_names)][:20]
    widths = bars[:, 2] - bars[:, 0]
    assert widths.min() > 0.05 * places.whole[2]


def test_a_support_row_holds_its_label_its_images_and_their_bars(places):
    shots = places.explanation.support_images.shape[1]
    [row] = places.tinted_rows
    for kind in (places.texts, places.images, places.tracks):
        assert np.array_equal(overlaps(kind, row[None])[:, 0], inside(kind, row))
    name_and_role = 2
    assert inside(places.texts, row).sum() >= name_and_role
    assert inside(places.images, row).sum() == 2 * shots
    assert inside(places.tracks, row).sum() == shots


# === What the figure shows ===


def test_every_picture_is_on_the_figure():
    drawn = draw_explanation(make(ways=5, shots=3, explained=4))
    query, colour_bar, support = 1 + 4, 1, 2 * 5 * 3
    assert len(drawn.axes.images) == query + colour_bar + support


def test_blank_support_images_are_not_drawn():
    drawn = draw_explanation(dataclasses.replace(make(ways=4, shots=3), support_counts=(3, 0, 1, 2)))
    assert len(drawn.axes.images) == 1 + 2 + 1 + 2 * 6
    words = [text.get_text() for text in drawn.axes.texts]
    assert sum("Kind of Bird 1" in text for text in words) >= 3


def test_the_figure_says_what_was_predicted_and_how_sure():
    drawn = draw_explanation(make())
    words = [text.get_text() for text in drawn.axes.texts]
    assert words[:2] == ["Kind of Bird 1", "67 %"]
    assert "runner-up: Kind of Bird 0, 27 %" in words
    assert any("against" in text and "for" in text for text in words)


def test_the_figure_says_that_a_tie_is_no_prediction():
    explanation = dataclasses.replace(make(), probabilities=np.full(5, 0.2))
    assert explanation.tied == (0, 1, 2, 3, 4)
    words = [text.get_text() for text in draw_explanation(explanation).axes.texts]
    assert words[:2] == ["tie of 5 classes", "20 %"]
    assert "no prediction: a tie of all 5 classes" in words
    assert [word for word in words if "predicted" in word or "runner-up" in word] == []
    assert words.count("tied, 20 %") == 2 + 5
    assert to_json(explanation)["tied"] == [0, 1, 2, 3, 4]


def test_the_figure_says_that_there_is_no_relevance():
    some = make()
    nothing = [np.zeros_like(each) for each in (some.query_relevance, some.support_relevance)]
    none = dataclasses.replace(some, query_relevance=nothing[0], support_relevance=nothing[1])
    # The class that is explained first has none, whatever the others have.
    others = dataclasses.replace(none, query_relevance=nothing[0] + [[[0.0]], [[1.0]]])
    for explanation, said in ((some, False), (none, True), (others, True)):
        words = [text.get_text() for text in draw_explanation(explanation).axes.texts]
        assert ("no relevance: no pixel counts" in words) is said


def test_predicted_and_runner_up_share_one_symmetric_scale(drawn_maps):
    explanation = make()
    half = np.stack([explanation.query_relevance[0], -0.5 * explanation.query_relevance[0]])
    draw_explanation(dataclasses.replace(explanation, query_relevance=half))
    first, second = drawn_maps()[:2]
    inside = np.abs(first) < 1
    np.testing.assert_allclose(second[inside], -0.5 * first[inside])
    assert np.abs(first).max() == 1.0


def test_support_maps_are_those_of_their_own_class(drawn_maps):
    explanation = make(ways=3, shots=2)
    first, second, third = explanation.ranking
    assert explanation.explained == (first, second)
    flat = np.zeros_like(explanation.support_relevance)
    flat[0, first, 0], flat[1, second, 1], flat[0, third, 0] = 1.0, -1.0, 1.0
    # What a class explained had for the other one is not drawn.
    flat[1, first], flat[0, second], flat[1, third] = -5.0, 5.0, -5.0
    draw_explanation(dataclasses.replace(explanation, support_relevance=flat))
    totals = [one.sum() for one in drawn_maps()[2:]]
    assert totals == pytest.approx([144, 0, 0, -144, 144, 0])


def test_zero_relevance_gives_a_neutral_figure(drawn_maps):
    explanation = make()
    zero = dataclasses.replace(
        explanation,
        query_relevance=np.zeros_like(explanation.query_relevance),
        support_relevance=np.zeros_like(explanation.support_relevance),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_explanation(zero)
    assert not np.any(drawn_maps())


def test_the_same_explanation_gives_the_same_bytes(tmp_path):
    draw_explanation(make()).save(tmp_path / "one.png")
    draw_explanation(make()).save(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_dollar_signs_are_not_mathematics():
    drawn = draw_explanation(make(ways=2, names=("$\\frac{$", "a$b")))
    assert drawn.axes.texts[0].get_text() == "a$b"


def test_only_the_first_twenty_classes_get_a_bar():
    drawn = draw_explanation(make(ways=22, shots=1, explained=1, size=4))
    words = [text.get_text() for text in drawn.axes.texts]
    assert "class probability, first 20 of 22" in words
    bar_and_support = 2
    assert words.count("Kind of Bird 19") == bar_and_support
    assert words.count("Kind of Bird 20") == 1


# === Files ===


def test_save_writes_four_files(tmp_path):
    explanation = make(ways=3, shots=2)
    paths = save_figure(explanation, tmp_path / "out" / "bird.png")
    assert [path.name for path in paths] == ["bird.png", "bird.npy", "bird.support.npy", "bird.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    with Image.open(paths[0]) as picture:
        assert picture.format == "PNG"
        picture.verify()
    np.testing.assert_allclose(np.load(paths[1]), explanation.query_relevance, rtol=1e-6)
    np.testing.assert_allclose(np.load(paths[2]), explanation.support_relevance, rtol=1e-6)
    assert json.loads(paths[3].read_text()) == to_json(explanation)


def test_a_folder_that_is_a_file_leaves_nothing(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError):
        save_figure(make(), tmp_path / "taken" / "bird.png")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_failed_drawing_leaves_the_old_picture(monkeypatch, tmp_path):
    path = tmp_path / "bird.png"
    path.write_bytes(b"old")

    def full_disk(self, file, **kwargs):
        file.write(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(agg.FigureCanvasAgg, "print_png", full_disk)
    with pytest.raises(OSError, match="No space"):
        draw_explanation(make()).save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bird.png"]


@pytest.mark.parametrize("name", ["bird.jpg", "bird"])
def test_another_suffix_than_png_is_refused(tmp_path, name):
    with pytest.raises(ExplainError, match=r".png"):
        save_figure(make(), tmp_path / name)
    assert not list(tmp_path.iterdir())
