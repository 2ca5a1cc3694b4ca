"""LiteRT (TensorFlow Lite) files for telephones: the embedding and the stored classes, by built-in operations only."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.data.preprocessing import resized_side
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExportError
from egt_tf.export.saved_model import ServableModel
from egt_tf.export.signatures import Signature, StoredSupport
from egt_tf.keras_api import compiled
from egt_tf.serving.contract import FLOATS, LITE, LITE_FACTS, LITE_LABELS, first_line

# Whose numbers the file gives.
_SIGNATURE = "serving_default" + FLOATS
_INPUT = "image"
# How far its probabilities may be from those of the model, which sums in another order.
TOLERANCE = 1e-3
# The images that the file is tried with before it is written: squares of random colours, so many a side.
_TRIED, _SQUARES = 4, 8


def lite_files(ready: ServableModel) -> dict[str, bytes]:
    """A model as a LiteRT file, with the names of its classes and what an application must know beside it.

    The file takes one image, float32 `(1, size, size, 3)` of grey levels 0..255 that is resized already, and gives the
    numbers of the signature `serving_default`: `probabilities` `(1, ways)`, and whatever else the signature gives but
    names. What follows from the stored support set alone, such as prototypes or the solution of a ridge regression, is
    in it as constants. The file is tried before it is handed out.

    Args:
        ready: a model with a support set, as `make_servable` makes it.

    Returns:
        The files `model.tflite`, `labels.txt` (a class a line) and `model.json`, for `write_version`.

    Raises:
        ExportError: no support set, operations that LiteRT does not have built in, or a file that answers otherwise.

    Example:
        >>> from egt_tf.data.support import SupportSet
        >>> from egt_tf.export.saved_model import make_servable
        >>> model = EpisodicModel.build_from({"name": "conv4", "width": 4}, "cosine", image_size=16, seed=1)
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 16, 16, 3), np.uint8))
        >>> files = lite_files(make_servable(model, support))
        >>> LiteModel(files["model.tflite"]).ask(np.zeros((16, 16, 3)))["probabilities"].round(2)
        array([0.5, 0.5], dtype=float32)
    """
    if ready.support is None or _SIGNATURE not in ready.signatures:
        received = "none; give one by --support FOLDER" if ready.support is None else "a portable model"
        raise ExportError(f"a LiteRT file takes a model with a stored support set. Received: {received}")
    signature = ready.signatures[_SIGNATURE]
    size = ready.model.model.image_size
    function = _of_one_image(signature, size)
    content = _converted(function, ready.model.model, ready.support)
    _check_answers(content, signature, size)
    facts = {**_facts(size), "outputs": _outputs(function)}
    return {
        LITE: content,
        LITE_LABELS: "".join(f"{name}\n" for name in ready.support.class_names).encode(),
        LITE_FACTS: (json.dumps(facts, indent=1) + "\n").encode(),
    }


class LiteModel:
    """A LiteRT file, asked by TensorFlow's own interpreter.

    Args:
        content: the bytes of `model.tflite`.
        delegates: whether the interpreter may choose faster kernels, as applications do.

    Raises:
        ExportError: `content` is no such file.

    Example:
        >>> LiteModel(b"something else")
        Traceback (most recent call last):
        egt_tf.errors.ExportError: a LiteRT file must be one of `egt-tf export --lite`. Received: ...
    """

    def __init__(self, content: bytes, delegates: bool = False):
        kernels = tf.lite.experimental.OpResolverType
        resolver = kernels.AUTO if delegates else kernels.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            # Kept, or the memory of its tensors would be gone.
            self._interpreter = tf.lite.Interpreter(model_content=content, experimental_op_resolver_type=resolver)
            self._runner = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ExportError(
                f"a LiteRT file must be one of `egt-tf export --lite`. Received: {first_line(str(error))}"
            ) from error

    def ask(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What the file answers about one image.

        Args:
            image: `(size, size, 3)`, grey levels 0..255, as `egt_tf.load_image` gives them.

        Returns:
            By name; `probabilities` `(ways,)`.
        """
        return {name: value[0] for name, value in self._runner(image=image[None].astype(np.float32)).items()}


def _of_one_image(signature: Signature, size: int) -> Any:
    """The numbers that a signature answers with, as a graph that takes one image."""

    def answer(image: tf.Tensor) -> Mapping[str, tf.Tensor]:
        return {name: value for name, value in signature.function(image).items() if value.dtype != tf.string}

    spec = tf.TensorSpec([1, size, size, 3], tf.float32, _INPUT)
    return compiled(answer, input_signature=[spec]).get_concrete_function()


def _converted(function: Any, model: EpisodicModel, support: StoredSupport) -> bytes:
    root = tf.Module()
    # The weights alone, as in a SavedModel of `write_version`.
    root.weights = [*model.variables, support.features, support.labels]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], root)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return converter.convert()
    except Exception as error:  # The converter's own class of errors is not public.
        raise ExportError(
            "a LiteRT file must do without operations that are not built into LiteRT. Received: "
            f"{_missing_operations(str(error))} in the head {type(model.head).__name__} or the backbone"
        ) from error


def _missing_operations(message: str) -> str:
    """The operations that the converter names, or the first line of what it says."""
    found = re.findall(r"^\s*(?:Flex|Custom) ops: (.+)$", message, re.MULTILINE)
    return ", ".join(found) if found else first_line(message)


def _check_answers(content: bytes, signature: Signature, size: int) -> None:
    lite, rng = LiteModel(content), np.random.default_rng(0)
    side = -(-size // _SQUARES)
    for _ in range(_TRIED):
        colours = rng.integers(0, 256, (_SQUARES, _SQUARES, 3))
        image = colours.repeat(side, axis=0).repeat(side, axis=1)[:size, :size].astype(np.float32)
        expected = signature.concrete(tf.constant(image[None]))["probabilities"][0].numpy()
        difference = np.abs(lite.ask(image)["probabilities"] - expected).max()
        if not difference <= TOLERANCE:
            raise ExportError(
                f"the probabilities of a LiteRT file must be within {TOLERANCE:g} of the model's. "
                f"Received: a difference of {difference:.2g}"
            )


def _facts(size: int) -> dict[str, Any]:
    return {
        "input": {"name": _INPUT, "type": "float32", "shape": [1, size, size, 3], "values": "grey levels 0..255, RGB"},
        "resize_to": [resized_side(size)] * 2,
        "then_crop_the_centre": [size, size],
        "resizing": "bilinear with antialiasing; the aspect ratio is not kept",
        "labels": LITE_LABELS,
    }


def _outputs(function: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {"type": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in sorted(function.structured_outputs.items())
    }
