"""`egt-tf export` and `egt-tf predict`: what they write and print, and how they fail."""

from __future__ import annotations

import importlib.util
import json
import shutil

import click
import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.data.images import MAX_PIXELS
from egt_tf.data.support import load_image, load_support
from egt_tf.errors import ExportError
from egt_tf.export.lite import LiteModel
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.requests import MAX_IMAGES
from egt_tf.export.run import prepare_export
from egt_tf.runs import RunFolder
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.weights import assign_weights, save_arrays
from egt_tf_cli.export import export


def test_a_run_becomes_a_version_with_its_card(egt, run, tmp_path, query):
    record = {
        "source": "synthetic:fog",
        "split": "novel",
        "ways": 3,
        "shots": 2,
        "queries": 15,
        "episodes": 7,
        "inference": "inductive",
        "accuracy": 0.4321,
        "interval": 0.0123,
    }
    (run / "evaluations").mkdir()
    (run / "evaluations" / "fog.json").write_text(json.dumps(record))
    result = egt("export", run, "--calibrate", "synthetic:texture", "--episodes", 3, "--lite")
    assert result.exit_code == 0, result.output
    version = tmp_path / "saved_models" / "tiny" / "1"
    assert f"written: {version.relative_to(tmp_path)}" in result.output
    assert "serving_default" in result.output
    assert [entry.name for entry in version.parent.iterdir()] == ["1"]
    card = (version / "README.md").read_text()
    for words in (
        "# tiny",
        "`synthetic:shapes`",
        "43.21 % +- 1.23",
        "`synthetic:fog`",
        "`relation`",
        "`conv4`",
        "`fsc`",
        "`images` string (?,)",
        "same 3 episodes of `synthetic:texture`",
        "BSD-2-Clause",
    ):
        assert words in card
    assert "LiteRT: model.tflite, 0." in result.output
    classes = [p.name for p in sorted((run / "support").iterdir())]
    assert (version / "labels.txt").read_text().splitlines() == classes
    assert LiteModel((version / "model.tflite").read_bytes()).ask(np.zeros((32, 32, 3)))["probabilities"].shape == (3,)
    assert (version / "assets" / "class_names.txt").read_text().splitlines() == classes


@pytest.mark.slow
def test_predict_names_the_class_that_the_run_would(egt, exported, trained, query):
    queries = sorted((trained / "queries").glob("*.png"))[:2]
    result = egt("predict", *queries, "--model", exported)
    assert result.exit_code == 0, result.output
    run = RunFolder(trained)
    model, support = run.load_model(), load_support(run.support_folder, 32)
    answers = OneByOne(model, None)
    features = answers.features(support.images.reshape(-1, 32, 32, 3))
    labels = np.repeat(np.eye(support.ways, dtype=np.float32), support.shots, axis=0)
    for line, file in zip(result.output.splitlines(), queries, strict=True):
        scores = answers.scores(features, labels, answers.features(load_image(file, 32)[None]))
        p = answers.probabilities(scores)[0].numpy()
        assert line == f"{file}: {support.class_names[p.argmax()]} ({100 * p.max():.1f} %)"
    assert egt("predict", queries[0], "--model", exported / "1").output == result.output.splitlines()[0] + "\n"


@pytest.mark.slow
def test_predict_by_a_run_and_by_another_support_set(egt, fails, exported, trained, query, run):
    """What `explain` says, which could do both alone."""
    classes = sorted(path.name for path in (trained / "support").iterdir())
    for name in classes[:2]:
        shutil.copytree(trained / "support" / name, f"two/{name}")
    for more in ((), ("--support", "two")):
        by_run = egt("predict", query, "--run", "runs/tiny", *more)
        assert by_run.exit_code == 0, by_run.output
        (line,) = by_run.stdout.splitlines()
        said = egt("explain", query, "--run", "runs/tiny", "--out", "figure.png", *more).stdout.splitlines()[1]
        assert said == f"{line}  figure: figure.png"
        by_model = egt("predict", query, "--model", exported, *more).stdout
        assert by_model.splitlines()[-1].rsplit(" (", 1)[0] == line.rsplit(" (", 1)[0]
    result = egt("predict", query, "--run", "runs/tiny", "--model", exported)
    assert "--run and --model are two ways" in result.stderr


@pytest.mark.slow
def test_photos_of_every_format_are_predicted_and_explained(egt, exported, trained, tmp_path):
    query = sorted((trained / "queries").glob("*.png"))[0]
    with Image.open(query) as image:
        pixels = image.convert("RGB")
    options = {"bmp": {}, "gif": {"dither": 0}, "webp": {"lossless": True}}
    files = [tmp_path / f"photo.{suffix}" for suffix in options]
    for file, format_options in zip(files, options.values(), strict=True):
        pixels.save(file, **format_options)
    pillow_heif.from_pillow(pixels).save(tmp_path / "photo.heic", quality=100)
    heic = tmp_path / "photo.heic"
    said = [line.split(": ") for line in egt("predict", query, *files, heic, "--model", exported).output.splitlines()]
    assert [file for file, _ in said] == [str(file) for file in (query, *files, heic)]
    # Without loss are PNG, BMP and this WebP.
    assert said[0][1] == said[1][1] == said[3][1]
    result = egt("explain", heic, "--model", exported)
    assert result.exit_code == 0, result.output
    assert f"{heic}: " in result.output


@pytest.mark.slow
def test_explain_writes_what_it_writes_for_the_run(egt, exported, trained, tmp_path):
    query = sorted((trained / "queries").glob("*.png"))[0]
    of_run = egt("explain", query, "--run", trained, "--target", "all", "--out", "run.png")
    of_model = egt("explain", query, "--model", exported, "--target", "all", "--out", "model.png")
    assert of_model.exit_code == 0, of_model.output
    assert of_model.output.splitlines()[1].split("  ")[0] == of_run.output.splitlines()[1].split("  ")[0]
    assert "and its stored support set: 3 classes, 2 images each" in of_model.output
    for suffix in (".npy", ".support.npy"):
        expected = np.load(tmp_path / f"run{suffix}")
        np.testing.assert_allclose(np.load(tmp_path / f"model{suffix}"), expected, rtol=1e-5, atol=1e-5)
        assert np.any(expected)
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("run.json", "model.json"))
    assert {key for key in first if first[key] != second[key]} <= {
        "probabilities",
        "predicted",
        "runner_up",
        "query_relevance_sums",
        "support_relevance_sums",
    }
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_explain_by_an_exported_model_and_another_support_set(egt, fails, exported, trained, tmp_path):
    query = sorted((trained / "queries").glob("*.png"))[0]
    two = [
        shutil.copytree(folder, tmp_path / "two" / folder.name)
        for folder in sorted((trained / "support").iterdir())[:2]
    ]
    result = egt("explain", query, "--model", exported, "--support", "two")
    assert result.exit_code == 0, result.output
    assert "2 classes" in result.output
    assert np.load(tmp_path / f"{query.stem}-explained.npy").shape == (2, 32, 32)
    assert len(two) == 2
    assert egt("explain", query, "--model", exported, "--method", "fsc").exit_code == 2
    fails("explain", query, "--model", exported, "--target", "nothing", says=["must be 'all' or one of"])
    fails("explain", query, "--model", "nowhere", says=["no such folder"])


@pytest.mark.parametrize("content", [None, b"junk"])
def test_explain_without_the_pictures_of_the_support_set(fails, exported, query, tmp_path, content):
    shutil.copytree(exported / "1", tmp_path / "copy")
    shown = tmp_path / "copy" / "assets.extra" / "shown.npz"
    shown.unlink() if content is None else shown.write_bytes(content)
    fails("explain", query, "--model", "copy", says=["shown.npz"])


@pytest.mark.slow
def test_a_converted_run_with_another_support_set(egt, run, tmp_path):
    shutil.copytree(run / "support", tmp_path / "examples")
    first, *_ = sorted((tmp_path / "examples").iterdir())
    first.rename(tmp_path / "examples" / "renamed")
    shutil.rmtree(run / "support")
    environment = json.loads((run / "environment.json").read_text())
    environment["origin"] = {"checkpoint": "best_model.tar", "sha256": "ab", "trained_head": False}
    (run / "environment.json").write_text(json.dumps(environment))
    result = egt("export", run, "--support", "examples", "--out", "models/other", "--version", 5)
    assert result.exit_code == 0, result.output
    version = tmp_path / "models" / "other" / "5"
    assert "renamed" in (version / "assets" / "class_names.txt").read_text()
    # The card does not claim training data.
    card = (version / "README.md").read_text()
    assert "synthetic:shapes" not in card
    assert "best_model.tar" in card
    assert "NOT trained" in card


@pytest.mark.slow
def test_without_a_support_set(egt, run, fails, query):
    shutil.rmtree(run / "support")
    result = egt("export", run)
    assert result.exit_code == 0
    assert "serving_default and explain are left out" in result.output
    assert "serving_default" not in ExportedModel("saved_models/tiny").signatures
    fails("explain", query, "--model", "saved_models/tiny", says=["no stored support set", "--support"])
    fails("predict", query, "--model", "saved_models/tiny", says=["must have the signature 'serving_default'"])


def test_what_cannot_be_exported(fails, run, tmp_path):
    fails("export", "nowhere", says=["nowhere", "must exist"])
    (tmp_path / "file").write_text("")
    fails("export", run, "--out", "file", says=["must be a folder"])
    (tmp_path / "models" / "3").mkdir(parents=True)
    fails("export", run, "--out", "models", "--version", 3, says=["must not exist yet"])
    fails("export", run, "--support", "nowhere", says=["nowhere"])
    fails("export", run, "--calibrate", "folder:nowhere", says=["nowhere"])
    (run / "evaluations").mkdir()
    (run / "evaluations" / "bad.json").write_text("{}")
    fails("export", run, says=["bad.json"])


def test_what_cannot_be_predicted(fails, exported, query, tmp_path):
    fails("predict", query, "--model", "nowhere", says=["nowhere", "no such folder"])
    fails("predict", query, "--model", tmp_path, says=["no saved_model.pb"])
    fails("predict", "nowhere.png", "--model", exported, says=["nowhere.png"])
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    fails("predict", "bad.jpg", "--model", exported, says=["bad.jpg", "Invalid JPEG"])
    (tmp_path / "text.jpg").write_text("no image")
    fails("predict", "text.jpg", "--model", exported, says=["text.jpg", "not a PNG, JPEG, BMP, GIF, WebP or HEIC"])


@pytest.mark.slow
def test_weights_whose_scores_overflow(fails, run, arrays, query, tmp_path):
    """Refused before anything is written, and where somebody else has written it."""
    large = {name: 1e30 * value for name, value in arrays(run / "best.npz").items()}
    found = prepare_export(RunFolder(run))
    save_arrays(run / "best.npz", large)
    for options in ((), ("--portable",), ("--lite",)):
        fails("export", run, *options, says=["the scores of a model must be finite. Received: NaN or infinity; "])
    shutil.rmtree(run / "support")
    fails("export", run, says=["the scores of a model must be finite. Received: NaN or infinity; "])
    assign_weights(found.ready.model.model, large, "large weights")
    # Ready with small weights, written with large ones.
    found.write(tmp_path / "large")
    for command in ("predict", "explain"):
        says = ["what large/1 answers must be finite. Received: NaN or infinity in 'probabilities'; the weights"]
        fails(command, query, "--model", "large", *(("--csv", "table.csv") if command == "predict" else ()), says=says)
    fails("predict", query.parent, "--model", "large", says=says)


@pytest.mark.slow
def test_a_portable_model(egt, fails, run, query, tmp_path):
    result = egt("export", run, "--portable", "--out", "models/tiny")
    assert result.exit_code == 0, result.output
    assert "signatures: serving_default\n" in result.output
    card = (tmp_path / "models" / "tiny" / "1" / "README.md").read_text()
    assert "engines beside TensorFlow" in card
    assert "`relevance` float32 (?, 32, 32)" in card
    assert "NAME_floats" not in card
    assert "`prototypes`" not in card
    fails("predict", query, "--model", "models/tiny", says=["must answer with top_class"])
    shutil.rmtree(run / "support")
    fails("export", run, "--portable", says=["must have a support set", "--support"])


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_models_that_reach_out_of_their_folder_or_graph(fails, exported, query, tmp_path, command):
    shutil.copytree(exported, tmp_path / "models")
    classes = tmp_path / "models" / "1" / "assets" / "class_names.txt"
    classes.unlink()
    classes.symlink_to("/etc/hostname")
    fails(command, query, "--model", "models", says=["must lie in its folder", "class_names.txt"])
    read = tf.function(lambda x: {"y": tf.io.read_file(x)}, input_signature=[tf.TensorSpec([], tf.string, name="x")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "reads"), signatures=read.get_concrete_function())
    fails(command, query, "--model", "reads", says=["reads and writes no files", "ReadFile"])


@pytest.mark.slow
def test_an_image_that_is_too_large(fails, exported, tmp_path):
    Image.new("1", (9_000, 9_000)).save(tmp_path / "large.png")
    for command in ("predict", "explain"):
        fails(command, "large.png", "--model", exported, says=["large.png", "50 megapixels"])


@pytest.mark.slow
def test_limits_of_ones_own(egt, fails, run, query, tmp_path):
    result = egt("export", run, "--max-pixels", 84 * 84, "--max-images", 4, "--image-size", 32, "--out", "models/tiny")
    assert result.exit_code == 0, result.output
    card = (tmp_path / "models" / "tiny" / "1" / "README.md").read_text()
    assert "JPEG and PNG of at most 7056 pixels" in card
    assert "at most 4 images, support images and queries" in card
    for side in (84, 85):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    predicted = egt("predict", query, "84.png", "--model", "models/tiny")
    assert predicted.exit_code == 0, predicted.output
    fails("predict", "85.png", "--model", "models/tiny", says=["85.png", "at most 7056 pixels", "85 85"])
    model = ExportedModel(tmp_path / "models" / "tiny")
    assert len(model.ask("serving_default", {"images": 4 * [query.read_bytes()]})["top_class"]) == 4
    with pytest.raises(ExportError, match=r"at most 4 images. Received: 5"):
        model.ask("serving_default", {"images": 5 * [query.read_bytes()]})


def test_limits_and_sizes_that_cannot_be(egt, fails, run, tmp_path):
    fails("export", run, "--max-pixels", 10, says=["`max_pixels` must be between 1024", "max_pixels=10"])
    fails("export", run, "--max-images", 2, says=["`max_images` must be between 3", "max_images=2"])
    fails("export", run, "--image-size", 64, says=["must be 32", "image_size=64", "resized in the graph"])
    assert egt("export", run, "--portable", "--max-pixels", 2_000).exit_code == 2
    assert egt("export", run, "--portable", "--lite").exit_code == 2
    assert not (tmp_path / "saved_models").exists()


def test_the_help_names_the_defaults():
    helps = {option.name: option.help for option in export.params if isinstance(option, click.Option)}
    assert f"{MAX_PIXELS} by default" in helps["max_pixels"]
    assert f"{MAX_IMAGES} by default" in helps["max_images"]


def test_a_foreign_model_is_refused(fails, query, tmp_path):
    call = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.string, name="images")])
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"), signatures=call.get_concrete_function())
    fails("predict", query, "--model", "foreign", says=["must answer with top_class"])


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_serving") is None, reason="needs the extra `serving`")
def test_warm_up_requests_can_be_replayed(exported):
    from tensorflow_serving.apis import prediction_log_pb2

    model = ExportedModel(exported)
    asked = []
    for record in tf.data.TFRecordDataset(str(exported / "1" / "assets.extra" / "tf_serving_warmup_requests")):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in log.inputs.items()}
        assert log.model_spec.name == "tiny"
        assert model.ask(log.model_spec.signature_name, inputs)
        asked.append(log.model_spec.signature_name)
    assert sorted(asked) == sorted(model.signatures)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_serving") is not None, reason="the extra is installed")
def test_without_the_extra_the_card_says_so(exported):
    assert "No warm-up requests" in (exported / "1" / "README.md").read_text()
    assert [file.name for file in (exported / "1" / "assets.extra").iterdir()] == ["shown.npz"]
