"""Methods by name, and innvestigate's own among them."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest

from egt_tf.errors import ExplainError
from egt_tf.explain import innvestigate_methods, methods
from egt_tf.explain.methods import all_methods, get_method
from egt_tf.explain.query import explain_image
from egt_tf.figures.comparison import draw_comparison
from egt_tf.keras_api import LANE
from egt_tf.lrp import COMPOSITES
from tests.helpers.lanes import needs_innvestigate
from tests.helpers.quick import all_but_slow
from tests.helpers.random_images import random_image, random_support

SIZE = 32


@pytest.fixture(scope="module")
def support():
    return random_support(2, 2, SIZE)


@pytest.fixture(scope="module")
def image():
    return random_image(SIZE)


def test_every_method_has_a_name_and_a_line():
    found = all_methods()
    names = {method.name for method in found}
    assert len(names) == len(found) > 20
    assert {"fsc", "grad_cam"} <= names
    assert ("innvestigate:lrp.z" in names) == (LANE == "classic")
    for method in found:
        assert method.summary
        assert "\n" not in method.summary
        assert "`" not in method.summary


@pytest.mark.parametrize(
    "name",
    [
        *all_but_slow(COMPOSITES.names(), {"epsilon", "epsilon_alpha2_beta1_flat", "attn_lrp", "cp_lrp", "vit_gamma"}),
        "gradient",
        "input_times_gradient",
        "guided_backprop",
        "integrated_gradients",
        "smoothgrad",
        "grad_cam",
    ],
)
def test_every_method_of_ours_explains_an_episode(name, model, support, image):
    explanation = explain_image(model, support, image, method=name)
    assert explanation.method_name == name
    assert np.isfinite(explanation.query_relevance).all()
    assert np.any(explanation.query_relevance)
    assert np.isfinite(explanation.support_relevance).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grad_camm", "did you mean 'grad_cam'"),
        pytest.param("innvestigate:lrp.zz", "innvestigate:lrp.z", marks=needs_innvestigate),
        ("nonsense", "Known:"),
    ],
)
def test_unknown_methods_are_refused(name, message):
    with pytest.raises(ExplainError, match=message):
        get_method(name)


@pytest.mark.skipif(LANE == "classic", reason="innvestigate is there")
@pytest.mark.parametrize("name", ["innvestigate:lrp.z", "innvestigate:lrp.zz"])
def test_without_innvestigate_its_methods_say_what_they_need(name):
    with pytest.raises(
        ExplainError, match=r"need innvestigate and TensorFlow 2.14, on Python 3.10 or 3.11. Received: TensorFlow 2"
    ):
        get_method(name)


@pytest.mark.slow
@needs_innvestigate
def test_innvestigates_gradient_is_ours_at_the_read_out(model, support, image):
    theirs = explain_image(model, support, image, target="ant", method="innvestigate:gradient")
    assert theirs.query_relevance.shape == (2, SIZE, SIZE)
    assert np.any(theirs.query_relevance)
    # Ours goes through the statistics of the episode as well; theirs sees the backbone alone, as our read-out does.
    ours = explain_image(model, support, image, target="ant", method="gradient")
    np.testing.assert_allclose(
        theirs.query_relevance, ours.query_relevance, rtol=1e-3, atol=1e-4 * np.abs(ours.query_relevance).max()
    )


@pytest.mark.slow
@needs_innvestigate
def test_innvestigates_reason_is_handed_on(model, support, image):
    # It needs arguments that no name carries.
    with pytest.raises(ExplainError, match=r"innvestigate cannot run 'lrp.alpha_beta'.*It says"):
        explain_image(model, support, image, method="innvestigate:lrp.alpha_beta")


@needs_innvestigate
def test_a_process_that_dies_is_reported(model, support, image, monkeypatch):
    def dies(command, **options):
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nMemoryError: too much")

    monkeypatch.setattr(innvestigate_methods.subprocess, "run", dies)
    with pytest.raises(ExplainError, match="MemoryError: too much"):
        explain_image(model, support, image, method="innvestigate:lrp.z")


def test_methods_are_drawn_side_by_side(model, support, image, tmp_path):
    explanations = [explain_image(model, support, image, method=name) for name in ("fsc", "gradient", "grad_cam")]
    draw_comparison(explanations, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ExplainError, match="at least one"):
        draw_comparison([], tmp_path / "none.png")
    other = explain_image(model, support, image, target=support.class_names[explanations[0].runner_up])
    with pytest.raises(ExplainError, match="all of the same class"):
        draw_comparison([explanations[0], other], tmp_path / "mixed.png")
    with pytest.raises(ExplainError, match=r".png"):
        draw_comparison(explanations, tmp_path / "compare.jpg")


def test_several_classes_share_one_forward_pass_and_one_folding(model, support, image, monkeypatch):
    calls = []
    for name in ("record", "fold_batch_norm"):
        function = getattr(methods, name)
        monkeypatch.setattr(methods, name, lambda *args, n=name, f=function: calls.append(n) or f(*args))
    explanation = explain_image(model, support, image, target="all", method="epsilon_plus")
    assert calls == ["fold_batch_norm", "record"]
    assert len(explanation.explained) == 2
    one = explain_image(
        model, support, image, target=support.class_names[explanation.explained[1]], method="epsilon_plus"
    )
    np.testing.assert_allclose(one.query_relevance[0], explanation.query_relevance[1], rtol=1e-4, atol=1e-6)


def test_a_prepared_model_is_not_prepared_again(model):
    method = get_method("epsilon_plus")
    prepared = method.prepared(model)
    assert prepared is not model
    assert method.prepared(prepared) is prepared
    assert get_method("fsc").prepared(model) is model
