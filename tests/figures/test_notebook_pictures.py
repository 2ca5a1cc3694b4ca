"""What a notebook shows of results."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import egt_tf
from egt_tf.errors import ExplainError
from egt_tf.figures import draw_comparison, draw_maps
from egt_tf.figures.explanation import draw_explanation

from .random_explanation import random_explanation


class Printer:
    """As IPython hands it to `_repr_pretty_`."""

    def __init__(self, value):
        self.said = ""
        value._repr_pretty_(self, False)

    def text(self, words):
        self.said += words


def picture(value) -> Image.Image:
    return Image.open(io.BytesIO(value._repr_png_()))


def test_an_explanation_shows_its_figure():
    explanation = random_explanation()
    shown, whole = picture(explanation), draw_explanation(explanation).pixels()
    assert shown.width == 820
    assert abs(shown.height / shown.width - whole.shape[0] / whole.shape[1]) < 0.01
    # The same picture, but for its size and colours.
    small = np.asarray(Image.fromarray(whole).resize(shown.size), float)
    assert np.abs(np.asarray(shown.convert("RGB"), float) - small).mean() < 6


def test_an_explanation_says_itself_in_one_line():
    assert Printer(random_explanation()).said == "bird.jpg: 001.Kind_of_Bird_1, 67 %"


def test_showing_does_not_wait_for_the_figures_to_be_imported():
    code = (
        "import sys, numpy as np, egt_tf\n"
        "images, relevance = np.zeros((2, 1, 8, 8, 3), np.uint8), np.zeros((1, 2, 1, 8, 8))\n"
        "explanation = egt_tf.EpisodeExplanation(\n"
        "    images[0, 0], ('ant', 'bee'), np.array([0.3, 0.7]), (1,), relevance[0, :1, 0], images, relevance\n"
        ")\n"
        "assert 'egt_tf.figures' not in sys.modules and 'matplotlib' not in sys.modules\n"
        "assert explanation._repr_png_().startswith(b'\\x89PNG')\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_comparison_is_shown_and_need_not_be_written(tmp_path):
    explanations = [random_explanation(seed=seed) for seed in (0, 1)]
    canvas = draw_comparison(explanations)
    assert picture(canvas).width == 820
    draw_comparison(explanations, tmp_path / "both.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "both.png").convert("RGB")), canvas.pixels())


def test_maps_of_any_model_are_drawn_in_rows():
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    relevance = np.random.default_rng(0).normal(size=(2, 16, 16, 3))
    one = draw_maps(images[:1], {"a": relevance[:1]}, ["first"]).pixels()
    two = draw_maps(images, {"a": relevance, "b": relevance.sum(axis=-1)}, ["first", "second"]).pixels()
    assert two.shape[0] > one.shape[0]
    # The same map twice: with channels, and summed over them.
    # Tiles of 2.3 inches, 0.22 apart, of 160 pixels an inch.
    left, right = (two[110:400, start : start + 360] for start in (64 + 403, 64 + 2 * 403))
    assert np.abs(left.astype(int) - right).mean() < 1
    assert np.ptp(left) > 0


@pytest.mark.parametrize(
    ("maps", "names", "says"),
    [
        ({"a": np.zeros((2, 8, 8))}, None, "shape"),
        ({"a": np.zeros((1, 8, 8, 3))}, ["x", "y"], "name"),
        ({"a": np.full((1, 8, 8), np.nan)}, None, "finite"),
    ],
    ids=["shape", "names", "finite"],
)
def test_maps_that_do_not_fit_are_refused(maps, names, says):
    with pytest.raises(ExplainError, match=says):
        draw_maps(np.zeros((1, 8, 8, 3), np.uint8), maps, names)


def test_results_say_themselves_without_their_arrays():
    from egt_tf.evaluation.accuracy import Accuracy
    from egt_tf.training.state import TrainingState

    assert Printer(Accuracy(np.array([0.5, 0.7, 0.6]))).said == "60.00 % +- 9.24, 3 episodes"
    state = TrainingState(metrics=[{"epoch": 1}, {"epoch": 2}], best_accuracy=0.5)
    assert Printer(state).said == "2 epochs, best validation accuracy 50.00 %"
    assert Printer(TrainingState()).said == "0 epochs"


def test_a_classifier_says_what_it_learnt():
    classifier = egt_tf.FewShotClassifier({"name": "conv4", "width": 4}, image_size=16)
    assert Printer(classifier).said.startswith("<egt_tf.learning.classifier.FewShotClassifier")
    photos = [np.full((16, 16, 3), level, np.uint8) for level in (10, 20, 30, 220, 230, 240)]
    said = Printer(classifier.fit(photos, ["dark"] * 3 + ["light"] * 3)).said
    assert said.startswith("learnt: 2 classes, 3 photos each, 6 in all\nleave-one-out")
