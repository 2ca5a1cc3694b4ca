"""Requests that TensorFlow Serving replays when it loads a version, so that the first real one is no slower."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf

from egt_tf.export.saved_model import ServableModel
from egt_tf.export.signatures import Signature

_GREY = 127


def available() -> bool:
    """Whether tensorflow-serving-api is installed, which the records are made with."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def warm_up_records(ready: ServableModel, name: str) -> bytes:
    """One request for each signature, of grey images.

    Args:
        ready: the exported model.
        name: what the server calls it.

    Returns:
        A TFRecord file of `PredictionLog` messages, as the server reads it from `assets.extra`.

    Raises:
        ImportError: tensorflow-serving-api is not installed.
    """
    from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

    head = ready.model.model.head
    ways = head.ways if head.needs_ways else 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for signature_name, signature in sorted(ready.signatures.items()):
                spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
                inputs = {key: tf.make_tensor_proto(value) for key, value in example(signature, ways).items()}
                request = predict_pb2.PredictRequest(model_spec=spec, inputs=inputs)
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
        return path.read_bytes()


def example(signature: Signature, ways: int) -> Mapping[str, tf.Tensor]:
    """Inputs that a signature takes: one query, one support image of each class.

    Args:
        signature: any of an exported model.
        ways: classes of the support set in the request.
    """
    return {
        spec.name: _example(spec, ways if spec.name.startswith(("support", "prototypes")) else 1)
        for spec in signature.inputs
    }


def _example(spec: tf.TensorSpec, count: int) -> tf.Tensor:
    if spec.name == "support_labels":
        return tf.range(count, dtype=tf.int64)
    if spec.name == "positions":
        return tf.zeros([count], tf.int64)
    if spec.name == "targets":
        return tf.fill([count], tf.constant(-1, tf.int64))
    if spec.dtype == tf.string:
        return tf.repeat(tf.io.encode_png(tf.fill([8, 8, 3], tf.constant(_GREY, tf.uint8))), count)
    return tf.fill([count, *spec.shape[1:]], tf.constant(_GREY, tf.float32))
