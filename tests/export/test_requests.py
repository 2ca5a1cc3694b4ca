"""What an exported model does with batches, with requests that are not as they must be, and with what follows them."""

from __future__ import annotations

import dataclasses
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from egt_tf.data.preprocessing import normalize
from egt_tf.errors import ExportError
from egt_tf.export.saved_model import make_servable, write_version
from egt_tf.serving.contract import version_folder, versions
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.serving.safety import operations

NAMES = {"serving_default", "explain", "classify_episode", "explain_episode", "embed"}
WITH_PROTOTYPES = {"prototypes", "classify_with_prototypes"}


@pytest.fixture(scope="module")
def episode(query_files, support_files):
    return {"support_images": support_files, "support_labels": [0, 0, 1, 1, 2, 2], "query_images": query_files}


def test_an_answer_does_not_depend_on_the_rest_of_the_batch(model, query_files, episode):
    files = [*query_files, *query_files[::-1]]
    together = model.ask("explain", {"images": files, "targets": 6 * [1]})
    episodes = model.ask("classify_episode", {**episode, "query_images": files})
    for index, file in enumerate(files):
        alone = model.ask("explain", {"images": [file], "targets": [1]})
        np.testing.assert_allclose(together["probabilities"][index], alone["probabilities"][0], atol=1e-5)
        np.testing.assert_allclose(together["relevance"][index], alone["relevance"][0], atol=1e-5)
        plain = model.ask("serving_default", {"images": [file]})["probabilities"][0]
        np.testing.assert_allclose(plain, alone["probabilities"][0], atol=1e-5)
        np.testing.assert_allclose(episodes["probabilities"][index], plain, atol=1e-5)


def test_any_number_of_classes_and_shots(model, query_files, support_files):
    for labels in ([0, 1], [1, 0, 1, 1], [0, 1, 2, 3, 4, 5]):
        request = {
            "support_images": support_files[: len(labels)],
            "support_labels": labels,
            "query_images": query_files[:2],
        }
        answer = model.ask("classify_episode", request)
        assert answer["probabilities"].shape == (2, max(labels) + 1)
        np.testing.assert_allclose(answer["probabilities"].sum(-1), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"support_labels": [0, 0, 1, 1, 2]}, "one label. Received: 6 images and 5 labels"),
        ({"support_labels": [0, 0, 1, 1, 2, -1]}, "support labels must be 0, 1"),
        ({"support_labels": [0, 0, 1, 1, 2, 10**15]}, "support labels must be 0, 1"),
        ({"support_labels": [0, 0, 1, 1, 3, 3]}, "every class from 0 to the largest"),
        ({"support_labels": 6 * [0]}, "at least two classes. Received: 1"),
        ({"support_images": [], "support_labels": []}, "at least one support image"),
        ({"query_images": []}, "at least one image"),
        ({"query_images": [b"no image"]}, "JPEG or PNG"),
    ],
)
@pytest.mark.parametrize("signature", ["classify_episode", "explain_episode"])
def test_a_bad_request_is_refused_and_the_next_one_answered(model, episode, signature, changed, says):
    targets = {"targets": len(episode["query_images"]) * [-1]} if signature == "explain_episode" else {}
    request = {**episode, **targets}
    # TensorFlow prepares a graph anew for each call until one succeeded.
    before = model.ask(signature, request)["probabilities"]
    with pytest.raises(ExportError, match=says) as raised:
        model.ask(signature, {**request, **changed})
    assert isinstance(raised.value.__cause__, tf.errors.InvalidArgumentError)
    assert "\n" not in str(raised.value)
    np.testing.assert_array_equal(model.ask(signature, request)["probabilities"], before)


@pytest.mark.parametrize(
    ("targets", "says"),
    [([0, 1], "one target. Received: 3 queries and 2"), ([0, 1, 3], "class index"), ([0, -2, 1], "class index")],
)
def test_targets_are_classes(model, query_files, targets, says):
    with pytest.raises(ExportError, match=says):
        model.ask("explain", {"images": query_files, "targets": targets})


@pytest.mark.slow
def test_a_graph_head_takes_the_ways_it_was_made_for(build, episode):
    answer = make_servable(build({"name": "graph", "ways": 4}), None).signatures["classify_episode"].function
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"this model takes 4 classes. .*3"):
        tf.function(answer)(**{name: tf.constant(value) for name, value in episode.items()})


def test_signatures(model, build, support):
    assert set(model.signatures) == NAMES | {f"{name}_floats" for name in NAMES}
    without = make_servable(build("cosine"), None).signatures
    assert {name for name in without if not name.endswith("_floats")} == (
        NAMES - {"serving_default", "explain"}
    ) | WITH_PROTOTYPES
    independent = make_servable(build({"name": "relation", "batch_statistics": False}), support).signatures
    assert set(independent) >= WITH_PROTOTYPES


def test_a_ridge_head_answers_from_its_stored_support_set(build, support):
    """Its classes are no means of features, so that none can be handed over as a prototype."""
    ready = make_servable(build("ridge"), support)
    assert not set(ready.signatures) & WITH_PROTOTYPES
    images = tf.constant(support.images.reshape(6, *support.images.shape[2:]), tf.float32)
    answer = ready.signatures["explain_floats"].concrete(images=images, targets=tf.fill([6], tf.constant(1, tf.int64)))
    inputs = [normalize(images)[None], tf.repeat(tf.eye(3), 2, axis=0)[None], normalize(images)[None]]
    names = ("support_images", "support_labels", "query_images")
    scores = ready.model.model(dict(zip(names, inputs, strict=True)))[0]
    np.testing.assert_allclose(answer["probabilities"], tf.nn.softmax(scores), atol=1e-5)
    relevance = answer["relevance"].numpy()
    assert np.isfinite(relevance).all()
    assert np.abs(relevance).max((1, 2)).all()


@pytest.mark.slow
def test_prototypes_answer_as_their_support_images_do(build, episode, tmp_path):
    ready = make_servable(build("cross_attention"), None)
    wanted = {
        name: ready.signatures[name] for name in ("prototypes", "classify_with_prototypes", "classify_episode", "embed")
    }
    model = ExportedModel(write_version(dataclasses.replace(ready, signatures=wanted), tmp_path / "attention"))
    prototypes = model.ask("prototypes", {key: episode[key] for key in ("support_images", "support_labels")})
    answer = model.ask("classify_with_prototypes", {**prototypes, "query_images": episode["query_images"]})
    expected = model.ask("classify_episode", episode)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=1e-5)
    features = model.ask("embed", {"images": episode["support_images"]})["features"]
    np.testing.assert_allclose(prototypes["prototypes"], features.reshape(3, 2, *features.shape[1:]).mean(1), atol=1e-5)
    with pytest.raises(ExportError, match="at least two prototypes"):
        model.ask("classify_with_prototypes", {"prototypes": features[:1], "query_images": episode["query_images"]})


# === On disk ===


def test_no_python_functions_and_no_objects_of_this_package(folder):
    message = saved_model_pb2.SavedModel()
    message.ParseFromString((folder / "1" / "saved_model.pb").read_bytes())
    assert not [name for name in operations(message) if "Py" in name]
    nodes = message.meta_graphs[0].object_graph_def.nodes
    assert {node.user_object.identifier for node in nodes if node.HasField("user_object")} <= {
        "_generic_user_object",
        "trackable_list_wrapper",
        "signature_map",
    }
    assert (folder / "1" / "assets" / "class_names.txt").read_text().split() == ["ant", "bee", "cow"]


@pytest.fixture(scope="module")
def small(build):
    """A model ready to be written whose graph is small; what is tested is the writing."""
    ready = make_servable(build("cosine"), None)
    return dataclasses.replace(ready, signatures={"embed_floats": ready.signatures["embed_floats"]})


def test_versions_count_up_and_are_never_replaced(small, tmp_path):
    ready = small
    models = tmp_path / "new" / "cosine"
    assert write_version(ready, models, 7) == models / "7"
    assert write_version(ready, models) == models / "8"
    with pytest.raises(ExportError, match="must not exist yet"):
        write_version(ready, models, 7)
    assert versions(models) == [7, 8] == sorted(int(entry.name) for entry in models.iterdir())
    assert version_folder(models) == models / "8"
    assert version_folder(models / "7") == models / "7"


class OtherExportFirst(dict):
    """Signatures that take long to write: another export of the same model begins later and ends before."""

    def __init__(self, ready, models):
        super().__init__(ready.signatures)
        self.ready, self.models = ready, models

    def items(self):
        write_version(self.ready, self.models)
        return super().items()


def test_two_exports_at_once_get_different_versions(small, tmp_path):
    models = tmp_path / "m"
    slow = dataclasses.replace(small, signatures=OtherExportFirst(small, models))
    assert write_version(slow, models, files={"README.md": b"slow"}) == models / "2"
    assert (models / "2" / "README.md").is_file()
    assert not (models / "1" / "README.md").exists()
    with pytest.raises(ExportError, match="must not exist yet"):
        # Free when it is asked for, taken when it is written.
        write_version(slow, models, 3)
    assert versions(models) == [1, 2, 3] == sorted(int(entry.name) for entry in models.iterdir())


def test_a_watching_server_sees_complete_versions_only(small, tmp_path):
    models, wanted = tmp_path / "m", {"saved_model.pb", "README.md", "variables"}
    seen, torn, done = set(), [], threading.Event()

    def watch():
        while not done.is_set():
            for entry in models.glob("[0-9]*"):
                seen.add(entry.name)
                if not wanted <= {file.name for file in entry.iterdir()} or not (entry / "README.md").read_bytes():
                    torn.append(entry.name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(3):
            write_version(small, models, files={"README.md": b"card"})
        time.sleep(0.2)
    finally:
        done.set()
        watcher.join()
    assert seen == {"1", "2", "3"}
    assert torn == []


def test_nothing_is_left_where_writing_fails(small, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", fails)
    with pytest.raises(OSError, match="No space"):
        write_version(small, tmp_path / "new" / "cosine")
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_are_one_line(folder, tmp_path):
    (tmp_path / "saved_model.pb").write_bytes((folder / "1" / "saved_model.pb").read_bytes())
    with pytest.raises(ExportError, match="cannot load"):
        ExportedModel(tmp_path)
