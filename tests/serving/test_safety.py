"""SavedModels that reach out of their folder or out of their graph are refused before TensorFlow loads them."""

from __future__ import annotations

import os
import shutil

import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from egt_tf.errors import ExportError
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.serving.safety import check_files, check_graph

TEXT = [tf.TensorSpec([], tf.string, "x")]


def save(folder, function):
    """A SavedModel with one signature of a string."""
    root = tf.Module()
    root.weight = tf.Variable(1.0)
    root.call = tf.function(function, input_signature=TEXT)
    tf.saved_model.save(root, str(folder), signatures=root.call.get_concrete_function())
    return folder


def python(x):
    return {"y": tf.py_function(lambda y: y, [x], tf.string)}


def in_a_branch(function):
    return lambda x: {"y": tf.cond(tf.strings.length(x) > 3, lambda: function(x)["y"], lambda: x)}


def in_a_function(function):
    return lambda x: {"y": tf.function(lambda z: tf.function(function)(z)["y"])(x)}


def overwriting(x):
    tf.raw_ops.SaveV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    return {"y": x}


def printing(x):
    tf.print(x, output_stream="file:///tmp/never")
    return {"y": x}


def writing(x):
    tf.io.write_file("never", x)
    return {"y": x}


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (python, "without Python functions. Received: operations EagerPyFunc"),
        (in_a_branch(python), "EagerPyFunc"),
        (in_a_function(python), "EagerPyFunc"),
        (lambda x: {"y": tf.numpy_function(lambda y: y, [x], tf.string)}, "PyFunc"),
        (lambda x: {"y": tf.io.read_file(x)}, "reads and writes no files. Received: operations ReadFile"),
        (in_a_function(lambda x: {"y": tf.io.read_file(x)}), "ReadFile"),
        (writing, "WriteFile"),
        (in_a_branch(writing), "WriteFile"),
        (printing, "PrintV2"),
        (overwriting, "SaveV2"),
        (in_a_branch(overwriting), "SaveV2"),
        (
            lambda x: {
                "y": tf.raw_ops.RestoreV2(prefix=x, tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.string])[0]
            },
            "RestoreV2",
        ),
    ],
)
def test_operations_that_reach_out_of_the_graph(tmp_path, function, says):
    with pytest.raises(ExportError, match=says) as raised:
        ExportedModel(save(tmp_path / "1", function))
    assert "\n" not in str(raised.value)


def test_a_harmless_model_is_loaded(tmp_path):
    model = ExportedModel(save(tmp_path / "1", lambda x: {"y": tf.strings.lower(x)}))
    assert model.ask("serving_default", {"x": b"A"})["y"] == b"a"


@pytest.mark.parametrize("content", [b"junk", b""])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(ExportError, match="must be the graph of a SavedModel"):
        check_graph(tmp_path)


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", "a/../../b"])
def test_assets_outside_of_the_folder(folder, tmp_path, name):
    message = saved_model_pb2.SavedModel.FromString((folder / "1" / "saved_model.pb").read_bytes())
    message.meta_graphs[0].asset_file_def[0].filename = name
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(ExportError, match="the assets of a model must lie in its folder"):
        ExportedModel(tmp_path)


@pytest.mark.parametrize("where", ["assets/class_names.txt", "variables", "saved_model.pb", "assets.extra"])
def test_links_that_lead_out_of_the_folder(folder, tmp_path, where):
    shutil.copytree(folder / "1", tmp_path / "models" / "1")
    place = tmp_path / "models" / "1" / where
    if place.exists():
        os.rename(place, tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match=r"files of a model must lie in its folder. .*elsewhere"):
        ExportedModel(tmp_path / "models")


def test_versions_that_lie_elsewhere(folder, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "1").symlink_to(folder / "1")
    for path in (tmp_path / "models", tmp_path / "models" / "1"):
        with pytest.raises(ExportError, match="a version must lie in its model's folder"):
            ExportedModel(path)


@pytest.mark.parametrize("name", ["saved_model.cpb", "saved_model.pbtxt"])
def test_a_second_graph(tmp_path, name):
    (tmp_path / "saved_model.pb").touch()
    (tmp_path / name).touch()
    with pytest.raises(ExportError, match=f"must have one graph, saved_model.pb. .*{name}"):
        ExportedModel(tmp_path)


def test_links_inside_the_folder_and_to_the_model_are_allowed(folder, tmp_path):
    (tmp_path / "mine").symlink_to(folder)
    check_files(tmp_path / "mine" / "1")
    shutil.copytree(folder / "1", tmp_path / "models" / "1")
    (tmp_path / "models" / "1" / "assets" / "names.txt").symlink_to("class_names.txt")
    (tmp_path / "models" / "2").symlink_to("1")
    check_files(tmp_path / "models" / "1"), check_files(tmp_path / "models" / "2")
    check_graph(folder / "1")
