from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from egt_tf.errors import ExplainError
from egt_tf.explain import figure, heatmap

CARS = "039.Bentley_Continental_Supersports_Conv_Convertible_2012"


def make(ways=5, shots=5, explained=2, size=12, names=None, seed=0):
    """Random images with random relevance; class 1 is the most probable, class 0 the second."""
    rng = np.random.default_rng(seed)
    probabilities = np.full(ways, 0.1 / ways)
    probabilities[:2] += [0.25, 0.65]
    return figure.EpisodeExplanation(
        query_image=rng.integers(0, 256, (size, size, 3), dtype=np.uint8),
        class_names=names or tuple(f"{i:03d}.Kind_of_Bird_{i}" for i in range(ways)),
        probabilities=probabilities,
        explained=(1, 0, *range(2, ways))[:explained],
        query_relevance=rng.normal(size=(explained, size, size)),
        support_images=rng.integers(0, 256, (ways, shots, size, size, 3), dtype=np.uint8),
        support_relevance=rng.normal(size=(explained, ways, shots, size, size)),
        image_name="bird.jpg", run_name="cub-5way", method_name="fsc")


@pytest.fixture(autouse=True)
def coarse(request, monkeypatch):
    """Few pixels are enough, except where text is measured."""
    if "overlaps" not in request.node.name:
        monkeypatch.setattr(figure, "_DPI", 60)


@pytest.fixture
def sheets(monkeypatch):
    """The pages that `draw` made, to look at what is on them."""
    made = []

    class Kept(figure._Sheet):
        def __init__(self, height):
            super().__init__(height)
            made.append(self)

    monkeypatch.setattr(figure, "_Sheet", Kept)
    return made


@pytest.fixture
def drawn_maps(monkeypatch):
    """The maps that `draw` put over images, the colour bar left out."""
    maps, overlay = [], heatmap.overlay

    def keep(image, relevance, sigma=0.0):
        maps.append(relevance)
        return overlay(image, relevance, sigma)

    monkeypatch.setattr(heatmap, "overlay", keep)
    return lambda: [one for one in maps if one.shape[0] == one.shape[1]]


# === The data class ===

def test_ranking_predicted_and_runner_up():
    explanation = make(ways=4)
    assert explanation.ranking == (1, 0, 2, 3)
    assert (explanation.predicted, explanation.runner_up) == (1, 0)


@pytest.mark.parametrize("field, value, message", [
    ("class_names", ("one",), "at least two"),
    ("probabilities", np.ones(4) / 4, "probabilities"),
    ("probabilities", np.array([0.5, 0.5, 0.5, 0.5, -0.1]), "in \\[0, 1\\]"),
    ("probabilities", np.full(5, np.nan), "in \\[0, 1\\]"),
    ("explained", (), "at least one"),
    ("explained", (1, 1), "different"),
    ("explained", (1, 5), "0..4"),
    ("explained", (1,), "query_relevance"),
    ("query_image", np.zeros((12, 12, 3)), "uint8"),
    ("query_image", np.zeros((12, 11, 3), np.uint8), "query_relevance"),
    ("support_images", np.zeros((4, 5, 12, 12, 3), np.uint8), "5 classes"),
    ("support_images", np.zeros((5, 0, 12, 12, 3), np.uint8), "support_images"),
    ("support_relevance", np.zeros((2, 5, 4, 12, 12)), "support_relevance"),
    ("query_relevance", np.full((2, 12, 12), np.inf), "finite"),
    ("support_relevance", np.full((2, 5, 5, 12, 12), np.nan), "finite"),
])
def test_what_does_not_fit_together_is_refused(field, value, message):
    with pytest.raises(ExplainError, match=message):
        dataclasses.replace(make(), **{field: value})


# === Names ===

@pytest.mark.parametrize("name, readable", [
    ("n01532829_house_finch", "house finch"),
    ("013.Bobolink", "Bobolink"),
    ("039.Audi_A5__Coupe_2012", "Audi A5 Coupe 2012"),
    ("2012", "2012"),
    ("007.", "007."),
    ("3d_shape", "3d shape"),
    ("", ""),
])
def test_readable_name(name, readable):
    assert figure.readable_name(name) == readable


def test_short_names_leave_out_the_middle():
    assert figure.short_names([CARS], 25) == ("Bentley Continental… 2012",)


@pytest.mark.parametrize("names", [
    ("001.cat", "002.cat"),
    ("a_b", "a b"),
    ("Aston_Martin_V8_Vantage_Convertible_2012", "Aston_Martin_V8_Vantage_Coupe_2012"),
    tuple("x" * 30 + str(i) + "y" * 30 for i in range(20)),
])
@pytest.mark.parametrize("limit", [8, 12, 20])
def test_short_names_stay_short_and_different(names, limit):
    short = figure.short_names(names, limit)
    assert len(set(short)) == len(names)
    assert max(map(len, short)) <= limit


@pytest.mark.parametrize("probability, words", [
    (0.0, "<1 %"), (0.004, "<1 %"), (0.01, "1 %"), (0.624, "62 %"), (0.994, "99 %"), (0.996, ">99 %"),
    (1.0, ">99 %")])
def test_percent_claims_no_certainty(probability, words):
    assert figure._percent(probability) == words


# === The page ===

LONG_NAMES = ("{}", "n015328{:02d}_house_finch", CARS + "_{}", "{}_" + "W" * 80)


@pytest.mark.parametrize("ways, shots, explained", [
    (2, 1, 1), (2, 10, 2), (3, 2, 3), (5, 1, 2), (5, 5, 5), (7, 3, 1), (8, 3, 8), (20, 1, 20), (20, 10, 2)])
def test_no_text_overlaps_anything_or_leaves_the_page(sheets, tmp_path, ways, shots, explained):
    names = tuple(LONG_NAMES[(i + 3) % 4].format(i) for i in range(ways))
    explanation = dataclasses.replace(make(ways, shots, explained, size=4, names=names),
                                      image_name="long_" * 40 + ".jpg", run_name="run/" * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw(explanation, tmp_path / "page.png")
    axes = sheets[0].axes
    texts = [text.get_window_extent() for text in axes.texts if text.get_text()]
    images = [image.get_window_extent() for image in axes.images]
    page = sheets[0].figure.bbox
    assert all(box.x0 >= 0 and box.x1 <= page.x1 for box in texts + images)
    assert all(box.y0 >= 0 and box.y1 <= page.y1 for box in texts + images)
    for i, box in enumerate(texts):
        others = [other.padded(-0.5) for other in texts[i + 1:] + images]
        assert box.count_overlaps(others) == 0, axes.texts[i]
    for i, box in enumerate(images):
        assert box.count_overlaps([other.padded(-0.5) for other in images[i + 1:]]) == 0


def test_every_picture_is_on_the_page(sheets, tmp_path):
    figure.draw(make(ways=5, shots=3, explained=4), tmp_path / "page.png")
    query, colour_bar, support = 1 + 4, 1, 2 * 5 * 3
    assert len(sheets[0].axes.images) == query + colour_bar + support


def test_the_page_says_what_was_predicted_and_how_sure(sheets, tmp_path):
    figure.draw(make(), tmp_path / "page.png")
    words = [text.get_text() for text in sheets[0].axes.texts]
    assert words[:2] == ["Kind of Bird 1", "67 %"]
    assert "runner-up: Kind of Bird 0, 27 %" in words
    assert any("against" in text and "for" in text for text in words)


def test_predicted_and_runner_up_share_one_symmetric_scale(drawn_maps, tmp_path):
    explanation = make()
    half = np.stack([explanation.query_relevance[0], -0.5 * explanation.query_relevance[0]])
    figure.draw(dataclasses.replace(explanation, query_relevance=half), tmp_path / "page.png")
    first, second = drawn_maps()[:2]
    inside = np.abs(first) < 1
    np.testing.assert_allclose(second[inside], -0.5 * first[inside])
    assert np.abs(first).max() == 1.0


def test_support_maps_are_those_of_the_first_explained_class(drawn_maps, tmp_path):
    explanation = make(ways=3, shots=2)
    flat = np.zeros_like(explanation.support_relevance)
    flat[0, 2, 1] = 1.0
    flat[1] = -5.0
    figure.draw(dataclasses.replace(explanation, support_relevance=flat), tmp_path / "page.png")
    totals = [one.sum() for one in drawn_maps()[2:]]
    assert totals == pytest.approx([0, 0, 0, 0, 0, 144])


def test_zero_relevance_gives_a_neutral_page(drawn_maps, tmp_path):
    explanation = make()
    zero = dataclasses.replace(explanation, query_relevance=np.zeros_like(explanation.query_relevance),
                               support_relevance=np.zeros_like(explanation.support_relevance))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.draw(zero, tmp_path / "page.png")
    assert not np.any(drawn_maps())


def test_the_same_explanation_gives_the_same_bytes(tmp_path):
    figure.draw(make(), tmp_path / "one.png")
    figure.draw(make(), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_dollar_signs_are_not_mathematics(sheets, tmp_path):
    figure.draw(make(ways=2, names=("$\\frac{$", "a$b")), tmp_path / "page.png")
    assert sheets[0].axes.texts[0].get_text() == "a$b"


def test_oblong_images_keep_their_proportions(sheets, tmp_path):
    explanation = make(ways=2, shots=1)
    wide = dataclasses.replace(explanation, query_image=np.zeros((6, 18, 3), np.uint8),
                               query_relevance=np.zeros((2, 6, 18)))
    figure.draw(wide, tmp_path / "page.png")
    x0, x1, y0, y1 = sheets[0].axes.images[0].get_extent()
    assert (x1 - x0) / (y0 - y1) == pytest.approx(3.0)


def test_a_page_too_tall_for_the_renderer_is_drawn_coarser(monkeypatch, tmp_path):
    monkeypatch.setattr(figure, "_MOST_PIXELS", 300)
    figure.draw(make(ways=22, shots=5, explained=1, size=4), tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as page:
        assert 290 <= page.height <= 300


def test_only_the_first_twenty_classes_get_a_bar(sheets, tmp_path):
    figure.draw(make(ways=22, shots=1, explained=1, size=4), tmp_path / "page.png")
    words = [text.get_text() for text in sheets[0].axes.texts]
    assert "class probability, first 20 of 22" in words
    bar_and_support = 2
    assert words.count("Kind of Bird 19") == bar_and_support
    assert words.count("Kind of Bird 20") == 1


# === Files ===

def test_save_writes_four_files(tmp_path):
    explanation = make(ways=3, shots=2)
    paths = figure.save(explanation, tmp_path / "out" / "bird.png")
    assert [path.name for path in paths] == ["bird.png", "bird.npy", "bird.support.npy", "bird.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in paths)
    with Image.open(paths[0]) as page:
        assert page.format == "PNG"
        page.verify()
    np.testing.assert_allclose(np.load(paths[1]), explanation.query_relevance, rtol=1e-6)
    np.testing.assert_allclose(np.load(paths[2]), explanation.support_relevance, rtol=1e-6)
    assert json.loads(paths[3].read_text()) == figure.to_json(explanation)


def test_to_json_holds_the_numbers():
    explanation = make(ways=3, shots=2)
    content = figure.to_json(explanation)
    assert content["image"] == "bird.jpg" and content["run"] == "cub-5way" and content["method"] == "fsc"
    assert content["class_names"] == list(explanation.class_names)
    assert content["probabilities"] == explanation.probabilities.tolist()
    assert content["predicted"] == {"index": 1, "name": "001.Kind_of_Bird_1",
                                    "probability": explanation.probabilities[1]}
    assert content["runner_up"]["index"] == 0
    assert content["explained"] == [1, 0]
    assert content["query_relevance_sums"][1] == pytest.approx(explanation.query_relevance[1].sum())
    assert np.shape(content["support_relevance_sums"]) == (2, 3, 2)
    one = explanation.support_relevance[0, 2, 1].sum()
    assert content["support_relevance_sums"][0][2][1] == pytest.approx(one)


def test_a_folder_that_is_a_file_leaves_nothing(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError):
        figure.save(make(), tmp_path / "taken" / "bird.png")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_failed_drawing_leaves_the_old_picture(monkeypatch, tmp_path):
    path = tmp_path / "bird.png"
    path.write_bytes(b"old")

    def full_disk(self, file, **kwargs):
        file.write(b"half a picture")
        raise OSError("No space left on device")

    monkeypatch.setattr(figure.FigureCanvasAgg, "print_png", full_disk)
    with pytest.raises(OSError, match="No space"):
        figure.draw(make(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["bird.png"]


@pytest.mark.parametrize("name", ["bird.jpg", "bird"])
def test_another_suffix_than_png_is_refused(tmp_path, name):
    with pytest.raises(ExplainError, match=".png"):
        figure.save(make(), tmp_path / name)
    assert not list(tmp_path.iterdir())
