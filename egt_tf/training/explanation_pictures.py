"""What the model looks at while it learns: explanations of the same validation queries every few epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from egt_tf.config import EpisodeConfig
from egt_tf.data.image_set import ImageSet
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sampling import draw_episode
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ExplainError
from egt_tf.explain.methods import get_method
from egt_tf.explain.query import explain_image
from egt_tf.figures.explanation import draw_explanation
from egt_tf.files import write_png
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder

# Queries on one picture, each of another episode and of another class of it.
QUERIES = 2

ShowPicture = Callable[[str, np.ndarray, int], None]


class ExplanationPictures(keras.callbacks.Callback):
    """Draws the explanations of a few fixed validation queries every few epochs, as `egt-tf explain` draws them.

    The picture of an epoch is written to the run's `figures/epoch-005.png` and handed on. Training is left as it is: a
    model that cannot be explained is reported once, and training goes on without pictures.

    Args:
        run: gets the pictures.
        images: to validate on.
        episode: of the validation episodes.
        seed: of the validation episodes; the first of them are shown.
        every: epochs from one picture to the next, >= 1.
        method: a composite as the configuration names it.
        show: gets a name, the picture uint8 `(height, width, 3)` and the number of the epoch.
        report: gets lines for the user.
        validation_model: the model to explain, with the weights that the trained one has then; None: that one.
    """

    def __init__(
        self,
        run: RunFolder,
        images: ImageSet,
        episode: EpisodeConfig,
        seed: int,
        every: int,
        method: str | Mapping[str, Any],
        show: ShowPicture,
        report: Callable[[str], None] = lambda line: None,
        validation_model: EpisodicModel | None = None,
    ):
        super().__init__()
        self.run, self.images, self.episode, self.seed, self.every = run, images, episode, seed, every
        self.method, self.show, self.report = get_method(method), show, report
        self.validation_model = validation_model
        self._failed = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        number = epoch + 1
        if self._failed or number % self.every:
            return
        try:
            picture = self.picture(self.validation_model or self.model.classifier, number)
        except ExplainError as error:
            self._failed = True
            self.report(f"no pictures of explanations: {error}")
            return
        write_png(self.run.figure_file(number), picture)
        self.show("explanation", picture, number)

    def picture(self, model: EpisodicModel, epoch: int) -> np.ndarray:
        """The explanations, one below the other, uint8 `(height, width, 3)`.

        Args:
            model: explained with the weights it has now.
            epoch: for the heading.

        Raises:
            ExplainError: a layer that the method cannot explain.
        """
        pictures = []
        for number in range(QUERIES):
            support, query, truth = self._query(number, model.image_size)
            pictures.append(
                draw_explanation(
                    explain_image(
                        model,
                        support,
                        query,
                        method=self.method,
                        image_name=f"truth: {truth}",
                        run_name=f"{self.run.path.resolve().name}, epoch {epoch}",
                    )
                ).pixels()
            )
        # Names of different lengths never change the width of a figure.
        return np.concatenate(pictures)

    def _query(self, number: int, size: int) -> tuple[SupportSet, np.ndarray, str]:
        drawn, _ = draw_episode(self.images, self.episode, self.seed, number)
        names = tuple(self.images.class_names[position] for position in drawn.classes)
        support = np.stack([np.stack([self._image(index, size) for index in shots]) for shots in drawn.support])
        position = number % self.episode.ways
        return SupportSet(names, support), self._image(drawn.query[position, 0], size), names[position]

    def _image(self, index: int, size: int) -> np.ndarray:
        return resized_centre(self.images.read(int(index)), size).numpy()
