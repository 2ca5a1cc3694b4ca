from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def outputs(stem, folder="."):
    """The figure, the two arrays and the numbers that explaining leaves."""
    with Image.open(f"{folder}/{stem}.png") as figure:
        figure.load()
        size = figure.size
    query, support = (np.load(f"{folder}/{stem}{suffix}") for suffix in (".npy", ".support.npy"))
    return size, query, support, json.loads(open(f"{folder}/{stem}.json").read())


def test_the_newest_run_and_its_support_set_are_used_and_named(egt, run, query, tmp_path, trained):
    import shutil

    older = shutil.copytree(trained, tmp_path / "runs" / "zz-older")
    os.utime(older / "best.npz", (1, 1))
    result = egt("explain", query)
    assert (result.exit_code, result.stderr) == (0, "")
    first, second = result.stdout.splitlines()
    assert re.fullmatch(
        r"using the newest run runs/tiny \(2 of 2 epochs, validation \d+\.\d % \+- \d+\.\d, 33 % by chance; --run RUN takes "
        r"another\) and its stored support set: 3 classes, 2 images each",
        first,
    )
    assert second.startswith(f"{query}: ")
    assert second.endswith(f"figure: {query.stem}-explained.png")


def test_what_is_written(egt, query):
    egt("explain", query)
    size, relevance, support, numbers = outputs(f"{query.stem}-explained")
    assert min(size) > 500
    assert relevance.shape == (2, 32, 32)
    assert support.shape == (2, 3, 2, 32, 32)
    assert np.isfinite(relevance).all()
    assert np.abs(relevance).max() > 0
    assert np.abs(support).max() > 0
    assert (numbers["image"], numbers["run"]) == (query.name, "tiny")
    assert np.sum(numbers["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert numbers["explained"] == [numbers["predicted"]["index"], numbers["runner_up"]["index"]]
    assert numbers["predicted"]["probability"] == max(numbers["probabilities"])
    assert np.allclose(numbers["query_relevance_sums"], relevance.sum((1, 2)), rtol=1e-3, atol=1e-6)
    assert len(os.listdir()) == 5  # the four and runs/


@pytest.fixture
def silent(run, arrays):
    """The run with a head whose last layer has no weights but its bias: every score is the same."""
    weights = arrays(run / "best.npz")
    weights["score/fc2/kernel"] = np.zeros_like(weights["score/fc2/kernel"])
    np.savez(run / "best.npz", **weights)
    return run


def test_a_tie_is_no_prediction(egt, silent, query):
    """The first class of the alphabet was named, with 33.3 %."""
    result = egt("explain", query)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1] == (
        f"{query}: a tie of all 3 classes (33.3 % each), no prediction; no relevance: no pixel counts  "
        f"figure: {query.stem}-explained.png"
    )
    assert outputs(f"{query.stem}-explained")[3]["tied"] == [0, 1, 2]


def test_ties_are_counted_where_accuracy_is_measured(egt, silent):
    result = egt("evaluate", silent, "--episodes", 2, "--queries", 2, "--out", "found.json")
    assert "100.0 % of the queries are ties: several classes have the same highest score" in result.stdout
    assert json.loads(Path("found.json").read_text())["tied"] == 1.0


def test_the_run_folder_stays_as_it_was(egt, run, query, snapshot):
    before = snapshot(run)
    assert egt("explain", query, "--run", "runs/tiny", "--target", "all").exit_code == 0
    assert snapshot(run) == before


@pytest.mark.slow
def test_several_images(egt, run):
    images = sorted((run / "queries").iterdir())[:2]
    result = egt("explain", *images)
    assert result.exit_code == 0
    for image in images:
        assert f"{image}: " in result.stdout
        assert outputs(f"{image.stem}-explained")[3]["image"] == image.name


@pytest.mark.slow
def test_images_of_one_name_get_different_figures(egt, run):
    first, second = sorted((run / "support").glob("*/01.png"))[:2]
    result = egt("explain", first, second)
    assert result.exit_code == 0
    assert "01-explained.png" in result.stdout
    assert "01-explained-2.png" in result.stdout
    one, other = outputs("01-explained")[1], outputs("01-explained-2")[1]
    assert not np.array_equal(one, other)


@pytest.mark.slow
def test_no_picture_is_replaced_unless_it_is_named(egt, query):
    """A second explanation, and a comparison, replaced the first without a word."""
    stem = query.stem
    for method in ("fsc", "epsilon"):
        assert egt("explain", query, "--method", method).exit_code == 0
    assert egt("explain", query, "--compare", "fsc,gradient").exit_code == 0
    assert outputs(f"{stem}-explained")[3]["method"] == "fsc"
    assert outputs(f"{stem}-explained-2")[3]["method"] == "epsilon"
    assert os.path.exists(f"{stem}-compared.png")
    for method in ("fsc", "epsilon"):
        assert egt("explain", query, "--method", method, "--out", "named.png").exit_code == 0
    assert outputs("named")[3]["method"] == "epsilon"


@pytest.mark.slow
def test_a_folder_for_the_figures(egt, run):
    images = sorted((run / "queries").iterdir())[:2]
    result = egt("explain", *images, "--out", "figures")
    assert result.exit_code == 0, result.output
    assert {outputs(f"{image.stem}-explained", "figures")[3]["image"] for image in images} == {i.name for i in images}
    assert not [name for name in os.listdir() if "explained" in name]


@pytest.mark.slow
def test_an_unfinished_run_is_not_the_default(egt, run, query):
    """It is used when it is named, or where only a run can do what is asked."""
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 2", "epochs: 20"))
    result = egt("explain", query)
    assert result.exit_code == 0
    assert "no run in runs/ is finished; --run runs/tiny takes the newest" in result.stdout
    assert "using the run runs/tiny and" in egt("explain", query, "--run", "runs/tiny").stdout
    assert "using the newest run runs/tiny (2 of 20 epochs, " in egt("explain", query, "--method", "fsc").stdout


@pytest.mark.slow
def test_targets(egt, run, query):
    classes = sorted(path.name for path in (run / "support").iterdir())
    for target in classes:
        assert egt("explain", query, "--target", target, "--out", f"{target}.png").exit_code == 0
        numbers = outputs(target)[3]
        assert numbers["class_names"][numbers["explained"][0]] == target
        assert len(numbers["explained"]) == 2
    assert egt("explain", query, "--target", "all", "--out", "every/class.png").exit_code == 0
    _, relevance, support, numbers = outputs("class", "every")
    assert sorted(numbers["explained"]) == [0, 1, 2]
    assert relevance.shape[0] == support.shape[0] == 3


@pytest.mark.slow
def test_a_class_that_is_called_all(egt, run, query):
    first = sorted((run / "support").iterdir())[0]
    first.rename(first.with_name("all"))
    assert egt("explain", query, "--target", "all", "--out", "one.png").exit_code == 0
    numbers = outputs("one")[3]
    assert numbers["class_names"][numbers["explained"][0]] == "all"
    assert len(numbers["explained"]) == 2


def test_own_support_images_of_every_kind(egt, run, query, tmp_path):
    folder, rng = tmp_path / "own", np.random.default_rng(1)

    def picture(name, *shape):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)

    picture("grey/1.png", 20, 40)
    picture("grey/2.jpg", 50, 33)
    picture("alpha/1.png", 64, 64, 4)
    picture("alpha/2.png", 17, 90, 4)
    picture("alpha/3.png", 31, 31, 2)
    picture("colour/1.JPEG", 48, 30, 3)
    picture("colour/2.gif", 48, 30)
    picture("colour/3.bmp", 30, 48, 3)
    picture("wide query.jpeg", 30, 200, 3)
    result = egt("explain", folder / "wide query.jpeg", "--support", folder)
    assert result.exit_code == 0, result.output
    assert "--run RUN takes another) and the support set" in result.stdout
    assert "3 classes, 2 images each" in result.stdout
    assert "2 support images are not used" in result.stdout
    _, relevance, support, numbers = outputs("wide query-explained")
    assert numbers["class_names"] == ["alpha", "colour", "grey"]
    assert relevance.shape == (2, 32, 32)
    assert support.shape == (2, 3, 2, 32, 32)


@pytest.mark.slow
def test_the_same_image_gives_the_same_explanation(egt, query):
    egt("explain", query, "--out", "one.png")
    egt("explain", query, "--out", "two.png")
    for suffix in (".npy", ".support.npy"):
        assert np.array_equal(np.load(f"one{suffix}"), np.load(f"two{suffix}"))


@pytest.mark.slow
def test_a_method_and_several_side_by_side(egt, run, query):
    listed = [line.split()[0] for line in egt("explain", "--list-methods").stdout.splitlines()]
    assert {"fsc", "gradient"} <= set(listed)
    assert listed[0] == "epsilon_plus"
    assert len(listed) == len(set(listed)) > 20
    assert egt("explain", query, "--method", "gradient", "--out", "one.png").exit_code == 0
    assert outputs("one")[3]["method"] == "gradient"
    assert egt("explain", query, "--compare", "fsc,gradient", "--out", "both.png").exit_code == 0
    with Image.open("both.png") as figure:
        figure.load()


@pytest.mark.slow
def test_a_method_with_an_argument(egt, run, query):
    for noise in ("0.1", "2.0"):
        line = ("explain", query, "--method", "smooth_taylor", "--set", f"sigma={noise}", "--set", "samples=3")
        assert egt(*line, "--out", f"{noise}.png").exit_code == 0
    assert not np.allclose(np.load("0.1.npy"), np.load("2.0.npy"))


# === Bad input ===


def test_arguments_that_a_method_has_not(fails, run, query):
    line = ("explain", query, "--method", "smooth_taylor", "--set")
    fails(*line, "sgima=1", says=["smooth_taylor has no argument 'sgima'", "did you mean 'sigma'"])
    fails(*line, "sigma=0", says=["`sigma` must be a number > 0. Received: sigma=0"])
    fails(*line, "seed=abc", says=["`seed` must be an integer"])
    fails("explain", query, "--method", "integrated_gradients", "--set", "steps=x", says=["`steps` must be an integer"])
    fails("explain", query, "--method", "smoothgrad", "--set", "noise=0", says=["`noise` must be a number > 0"])


def test_an_unknown_method_suggests_the_nearest(fails, run, query):
    fails("explain", query, "--method", "gradeint", says=["gradeint", "gradient"])
    fails("explain", query, "--compare", "fsc,gradeint", says=["gradeint", "gradient"])


def test_a_method_without_any_run_says_what_to_type(fails, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "image.png")
    fails(
        "explain",
        "image.png",
        "--method",
        "fsc",
        says=["no trained run", "egt-tf train --config demo --run runs/demo", "--run"],
    )


def test_a_run_that_does_not_exist(fails, run, query):
    fails("explain", query, "--run", "runs/none", says=["runs/none", "no such folder"])


def test_images_that_cannot_be_read(fails, run, query, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "half.png").write_bytes(query.read_bytes()[:200])
    (tmp_path / "folder.png").mkdir()
    for name, reason in [
        ("missing.png", "No such file"),
        ("text.png", "not a PNG"),
        ("half.png", "truncated"),
        ("folder.png", "directory"),
    ]:
        # The readable image beside it is not explained either.
        fails("explain", query, name, says=[f"cannot read image {name}", reason])


def test_an_unknown_target_suggests_the_nearest(fails, run, query):
    name = sorted(path.name for path in (run / "support").iterdir())[0]
    fails("explain", query, "--target", name[:-1], says=[f"'{name[:-1]}'", f"did you mean '{name}'?"])


def test_support_folders_that_are_none(fails, run, query, tmp_path):
    fails("explain", query, "--support", "none", says=["cannot read the folder none"])
    (tmp_path / "one" / "class").mkdir(parents=True)
    fails("explain", query, "--support", "one", says=["one", "at least 2 classes"])
    (tmp_path / "one" / "other").mkdir()
    fails("explain", query, "--support", "one", says=["class 'class'", "has none"])
    for name in ("class", "other"):
        (tmp_path / "one" / name / "1.png").write_text("no image")
    fails("explain", query, "--support", "one", says=["one/class/1.png", "not a PNG"])


def test_a_run_without_a_support_set(fails, run, query):
    import shutil

    image = query.rename(query.parents[3] / "image.png")
    shutil.rmtree(run / "support")
    fails("explain", image, says=["runs/tiny", "no stored support set", "--support FOLDER"])


def test_where_the_figure_cannot_go(fails, egt, run, query, tmp_path):
    (tmp_path / "file").write_text("")
    fails("explain", query, "--out", "file/figure.png", says=["file"])
    content = query.read_bytes()
    for arguments, words in [
        ((query, "--out", "figure.jpg"), "--out must end in .png, or be a folder. Received: figure.jpg"),
        ((query, "--out", query), "--out must not be the image itself"),
        ((query, query, "--out", "a.png"), "--out must be a folder for several images. Received: a.png for 2 images"),
    ]:
        result = egt("explain", *arguments)
        assert result.exit_code == 2
        assert words in result.stderr
    assert query.read_bytes() == content


def test_damaged_weights(fails, run, query):
    (run / "best.npz").write_bytes((run / "best.npz").read_bytes()[:-200])
    fails("explain", query, says=["runs/tiny/best.npz", "damaged"])
