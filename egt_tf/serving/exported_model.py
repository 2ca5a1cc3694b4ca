"""Exported models on disk: whether one is safe to load, and what it answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from egt_tf.data.support import SupportSet
from egt_tf.errors import OVERFLOW, ExportError, NotFiniteError
from egt_tf.serving.contract import first_line, refusal, version_folder
from egt_tf.serving.safety import check_files, check_graph


class ExportedModel:
    """A SavedModel and its signatures.

    Args:
        path: the folder of a version, or that of a model, whose newest version is taken.

    Raises:
        ExportError: see `version_folder`, `check_files` and `check_graph`; or the SavedModel cannot be loaded.

    Example:
        >>> ExportedModel("no/such/model")
        Traceback (most recent call last):
        egt_tf.errors.ExportError: no/such/model must be an exported model, ... Received: no such folder
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = version_folder(path)
        check_files(self.path)
        check_graph(self.path)
        try:
            # Kept, or the variables of its signatures would be gone.
            self._loaded = tf.saved_model.load(str(self.path))
        except (tf.errors.OpError, OSError, ValueError, LookupError) as error:
            raise ExportError(f"cannot load {self.path}: {first_line(str(error))}") from error

    @property
    def signatures(self) -> tuple[str, ...]:
        """Names of what it can be asked."""
        return tuple(sorted(self._loaded.signatures))

    def inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """Names, shapes and types of what a signature takes.

        Raises:
            ExportError: there is no such signature.
        """
        return dict(self._signature(signature).structured_input_signature[1])

    def ask(self, signature: str, inputs: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """What the model answers.

        Args:
            signature: one of `signatures`.
            inputs: by the names of the signature.

        Raises:
            ExportError: there is no such signature, the inputs are not its inputs, or the graph refuses them.
            NotFiniteError: an answer is infinite or not a number.
        """
        function = self._signature(signature)
        wanted = self.inputs(signature)
        if set(wanted) != set(inputs):
            raise ExportError(
                f"the signature {signature!r} takes {', '.join(sorted(wanted))}. Received: {', '.join(sorted(inputs))}"
            )
        try:
            tensors = {name: tf.constant(inputs[name], spec.dtype) for name, spec in wanted.items()}
            answers = {name: np.asarray(value.numpy()) for name, value in function(**tensors).items()}
        except (tf.errors.InvalidArgumentError, TypeError, ValueError) as error:
            raise ExportError(refusal(str(error))) from error
        self._check_finite(answers)
        return answers

    def check_classifier(self) -> None:
        """Checks that the model has classes to choose from.

        Raises:
            ExportError: it has no support set, or was not exported by this package.
        """
        outputs = self._signature("serving_default").structured_outputs
        if not {"top_class", "probabilities"} <= set(outputs):
            raise ExportError(
                f"{self.path} must answer with top_class and probabilities. Received: a SavedModel that "
                f"answers with {', '.join(sorted(outputs))}"
            )

    def _check_finite(self, answers: Mapping[str, np.ndarray]) -> None:
        """Refuses answers of which an argmax would name a class all the same."""
        for name, value in answers.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise NotFiniteError(
                    f"what {self.path} answers must be finite. Received: NaN or infinity in {name!r}; {OVERFLOW}"
                )

    def _signature(self, name: str) -> Any:
        if name not in self._loaded.signatures:
            raise ExportError(
                f"{self.path} must have the signature {name!r}. Received: {', '.join(self.signatures) or 'none'}"
            )
        return self._loaded.signatures[name]


def support_inputs(support: SupportSet) -> dict[str, np.ndarray]:
    """What the signatures of whole episodes take of a support set.

    Example:
        >>> support = SupportSet(("ant", "bee"), np.zeros((2, 1, 4, 4, 3), np.uint8))
        >>> support_inputs(support)["support_labels"].tolist()
        [0, 1]
    """
    return {"support_images": support.flat_images.astype(np.float32), "support_labels": support.flat_labels}
