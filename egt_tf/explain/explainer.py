"""One way to ask for explanations, whatever holds the weights: a run folder here, an exported model in `serving`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from egt_tf.data.support import ImageOrPath, SupportOrPath, SupportSet, as_support, load_support
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import Method, get_method
from egt_tf.explain.query import class_probabilities, explain_image
from egt_tf.runs import RunFolder


class Explainer(Protocol):
    """A trained model with all that explaining an image takes.

    `egt_tf.explain.explainer.RunExplainer` explains by a run, `egt_tf.serving.explainer.ExportedExplainer` by an
    exported model; `egt_tf.open_explainer` finds out which it is.

    Example:
        >>> def class_of(explainer: Explainer, path: str) -> str:
        ...     explanation = explainer.explain(path)
        ...     return explanation.class_names[explanation.predicted]
    """

    @property
    def description(self) -> str:
        """What explains, for a person: "the run runs/first"."""

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""

    @property
    def support(self) -> SupportSet | None:
        """The stored support set, or None."""

    def probabilities(self, image: ImageOrPath, support: SupportOrPath | None = None) -> np.ndarray:
        """How probable each class of a support set is, `(ways,)`; without an explanation.

        Args:
            image: a file, or uint8 pixels `(image_size, image_size, 3)`.
            support: see `explain`.

        Raises:
            DataError, ExplainError: see `explain`.
        """

    def explain(
        self,
        image: ImageOrPath,
        support: SupportOrPath | None = None,
        target: str | None = None,
        method: str | Mapping[str, Any] | Method | None = None,
        image_name: str = "",
        start: str | None = None,
    ) -> EpisodeExplanation:
        """Classifies one image by a support set and explains the prediction.

        Args:
            image: a file, or uint8 pixels `(image_size, image_size, 3)`.
            support: the classes, or their folder; None: the stored support set.
            target: see `egt_tf.explain.query.explain_image`.
            method: how; None: as the model was trained to be explained.
            image_name: for the figure; the name of the file by default.
            start: see `egt_tf.explain.query.explain_image`.

        Raises:
            DataError: an image cannot be read, or is not of the size that the model takes.
            ExplainError: no such class or method, or no support set.
        """


class RunExplainer:
    """Explains by the best weights of a run.

    Args:
        run: a run folder with weights.

    Raises:
        RunError: it is none, or its files are damaged.

    Example:
        >>> import pathlib
        >>> RunExplainer(RunFolder(pathlib.Path("no/such/run")))
        Traceback (most recent call last):
        egt_tf.errors.RunError: the run folder no/such/run must exist. Received: no such folder
    """

    def __init__(self, run: RunFolder):
        self.run = run
        self._composite = run.config().guidance.composite
        # With and without its batch normalisation folded away: folding takes longer than explaining.
        self._models: dict[bool, EpisodicModel] = {False: run.load_model()}

    @property
    def description(self) -> str:
        """What explains, for a person."""
        return f"the run {self.run.path}"

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self._models[False].image_size

    @functools.cached_property
    def support(self) -> SupportSet | None:
        """The stored support set, or None.

        Raises:
            DataError: it cannot be read.
        """
        folder = self.run.support_folder
        return load_support(folder, self.image_size) if folder.is_dir() else None

    def probabilities(self, image: ImageOrPath, support: SupportOrPath | None = None) -> np.ndarray:
        """See `Explainer`."""
        return class_probabilities(self._models[False], chosen_support(self, support), image)

    def explain(
        self,
        image: ImageOrPath,
        support: SupportOrPath | None = None,
        target: str | None = None,
        method: str | Mapping[str, Any] | Method | None = None,
        image_name: str = "",
        start: str | None = None,
    ) -> EpisodeExplanation:
        """See `Explainer`; by default relevance by the composite of the run's guidance."""
        method = get_method(self._composite if method is None else method, start)
        if method.canonize not in self._models:
            self._models[method.canonize] = method.prepared(self._models[False])
        model = self._models[method.canonize]
        run_name = self.run.path.resolve().name
        return explain_image(model, chosen_support(self, support), image, target, method, image_name, run_name)


def chosen_support(explainer: Explainer, support: SupportOrPath | None = None) -> SupportSet:
    """The support set that an explainer uses: the one given, else its stored one.

    Args:
        explainer: may have a stored support set.
        support: the classes, or their folder, or None.

    Raises:
        DataError: an image cannot be read.
        ExplainError: none is given and none is stored.

    Example:
        >>> from types import SimpleNamespace
        >>> bare = SimpleNamespace(description="the run runs/bare", image_size=8, support=None)
        >>> chosen_support(bare)
        Traceback (most recent call last):
        egt_tf.errors.ExplainError: the run runs/bare has no stored support set; give one: --support FOLDER
        >>> chosen_support(bare, SupportSet(("ant", "bee"), np.zeros((2, 1, 8, 8, 3), np.uint8))).ways
        2
    """
    if support is not None:
        return as_support(support, explainer.image_size)
    if explainer.support is None:
        raise ExplainError(f"{explainer.description} has no stored support set; give one: --support FOLDER")
    return explainer.support
