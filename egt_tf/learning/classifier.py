"""A classifier of photos in the manner of scikit-learn, learnt from a few examples of each class without training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from egt_tf.backbones.base import without_pretrained
from egt_tf.data.check import Remark
from egt_tf.data.image_set import OnProgress
from egt_tf.data.support import ImageOrPath, SupportOrPath, SupportSet, as_image
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import OVERFLOW, DataError, NotFiniteError, RunError, did_you_mean
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import Method, get_method
from egt_tf.explain.query import class_probabilities, explain_image, name_of
from egt_tf.explain.stored_photos import StoredAnswer, StoredRelevance, explain_by_stored_photos
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.requests import RequestLimits
from egt_tf.heads import HEADS
from egt_tf.learning.changes import joined, with_renamed_class, without_class
from egt_tf.learning.defaults import COMPOSITE, EMBEDDING, IMAGE_SIZE, KEPT, KNOWN_SCORE, START
from egt_tf.learning.embedding import Embedding
from egt_tf.learning.fitting import AUTO, Fit, fit
from egt_tf.learning.photos import Photos, folder_photos, labelled_photos, photo_pixels
from egt_tf.learning.report import learning_lines
from egt_tf.learning.saving import read_weights, score_of_maps, write_classifier
from egt_tf.lrp.output_relevance import get_start
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.serving.contract import version_folder
from egt_tf.serving.learned import LearnedModel, read_learned
from egt_tf.serving.safety import check_files

# A folder with one sub-folder a class, or images with a label each.
PhotosOrFolder: TypeAlias = "str | os.PathLike[str] | Sequence[ImageOrPath]"
_PARAMETERS = ("embedding", "head", "image_size", "composite", "known_score", "kept", "start")


class FewShotClassifier:
    """Names the class of a photo by a few examples of each class; nothing is trained.

    A pre-trained network makes a vector of each photo, once. A head without trained weights compares vectors. What each
    photo gets from all others (leave-one-out) says how good that is, which head does best, how sure its probabilities
    may be, and below which similarity an image shows none of the classes.

    Args:
        embedding: a backbone, as `BACKBONES` takes it; None: the pre-trained one of `egt_tf.learning.defaults`.
        head: "prototype", "cosine", "ridge", or "auto" for the one that gets most photos right by leave-one-out.
        image_size: height and width that photos are brought to, in pixels.
        composite: how predictions are explained, as `COMPOSITES` takes it.
        known_score: a name of `KNOWN_SCORES`, by which "none of these" is decided.
        kept: share of new photos of the classes that must not be taken for none of them, in (0, 1).
        start: where explanations begin at the scores, see `egt_tf.explain_image`.

    Attributes:
        classes_: names of the classes, sorted, `(ways,)`; they are the columns of `predict_proba`.
        counts_: photos of each class.
        fit_: head, temperature, threshold, and the report of leave-one-out.
        left_out_, remarks_: what `fit` and `add` have to say about the photos.

    Example:
        >>> photos = [np.full((16, 16, 3), level, np.uint8) for level in (10, 20, 30, 220, 230, 240)]
        >>> classifier = FewShotClassifier({"name": "conv4", "width": 4}, image_size=16)
        >>> _ = classifier.fit(photos, ["dark"] * 3 + ["light"] * 3)
        >>> classifier.predict([np.full((16, 16, 3), 235, np.uint8)]).tolist()
        ['light']
    """

    classes_: np.ndarray
    fit_: Fit

    def __init__(
        self,
        embedding: str | Mapping[str, Any] | None = None,
        head: str = AUTO,
        image_size: int = IMAGE_SIZE,
        composite: str | Mapping[str, Any] = COMPOSITE,
        known_score: str = KNOWN_SCORE,
        kept: float = KEPT,
        start: str = START,
    ):
        self.embedding = embedding
        self.head = head
        self.image_size = image_size
        self.composite = composite
        self.known_score = known_score
        self.kept = kept
        self.start = start

    # === Learning ===

    def fit(
        self,
        photos: PhotosOrFolder,
        labels: Sequence[str] | None = None,
        progress: OnProgress | None = None,
        names: Sequence[str] | None = None,
    ) -> FewShotClassifier:
        """Learns the classes of photos, and forgets what was learnt before.

        Args:
            photos: a folder with one sub-folder a class, or a list of files or of uint8 pixels `(height, width, 3)`.
            labels: the class of each photo of a list; None for a folder.
            progress: called with the number of photos done and of all, while their features are computed.
            names: what each photo of a list is called; None: by its file, or by its number.

        Returns:
            Itself.

        Raises:
            ConfigError: an unknown embedding, head or score, or weights that are not there.
            DataError: fewer than two classes, or a class without a photo that can be read.
        """
        found = self._read(photos, labels, {}, names)
        if len(found.class_names) < 2:
            raise DataError(
                f"a classifier needs photos of at least two classes. Received: {', '.join(found.class_names)}"
            )
        self._embedding = Embedding(
            EMBEDDING if self.embedding is None else self.embedding, self.image_size, self.composite
        )
        self._learn(self._with_features(found, progress))
        self._report(found.left_out, found.remarks)
        return self

    def add(
        self,
        photos: PhotosOrFolder,
        labels: Sequence[str] | None = None,
        progress: OnProgress | None = None,
        names: Sequence[str] | None = None,
    ) -> FewShotClassifier:
        """Learns further photos, of new classes or of those that are there.

        Photos that are there already are left out. A classifier that was loaded without photos stays without.

        Args:
            photos, labels, progress, names: see `fit`.

        Returns:
            Itself.

        Raises:
            DataError: a class without a new photo that can be read.
            RunError: nothing was learnt yet.
        """
        before = self._fitted()
        known = {
            digest: (name, before.class_names[label])
            for digest, name, label in zip(before.digests, before.names, before.labels, strict=True)
        }
        found = self._read(photos, labels, known, names)
        self._learn(joined(before, self._with_features(found, progress)))
        self._report(found.left_out, found.remarks)
        return self

    def remove(self, class_name: str) -> FewShotClassifier:
        """Forgets a class and its photos.

        Args:
            class_name: one of `classes_`; two others must stay.

        Returns:
            Itself.

        Raises:
            DataError: no such class, or fewer than two would stay.
            RunError: nothing was learnt yet.
        """
        learned = self._fitted()
        self._check_class(class_name)
        if len(learned.class_names) == 2:
            raise DataError(
                f"two classes must stay. Received: {', '.join(learned.class_names)}, without {class_name!r}"
            )
        self._learn(without_class(learned, class_name))
        return self

    def rename(self, old: str, new: str) -> FewShotClassifier:
        """Calls a class by another name.

        Args:
            old: one of `classes_`.
            new: none of them.

        Returns:
            Itself.

        Raises:
            DataError: no class `old`, or `new` is taken or empty.
            RunError: nothing was learnt yet.
        """
        learned = self._fitted()
        self._check_class(old)
        if not new or new != " ".join(new.split()) or new in learned.class_names:
            raise DataError(f"the new name must be one line that no class has. Received: {new!r}")
        self._learn(with_renamed_class(learned, old, new))
        return self

    # === Answers ===

    def predict(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """The most probable class of each image, `(n,)`; see `known` for those that show none of them.

        Args:
            images: files, or uint8 pixels `(height, width, 3)` of any size.

        Raises:
            DataError: an image cannot be read.
            RunError: nothing was learnt yet.
        """
        best = np.argmax(self.predict_proba(images), axis=1)
        return self.classes_[best]

    def predict_proba(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """The probability of each class of `classes_`, calibrated unless each class has one photo only, `(n, ways)`.

        An image that shows none of the classes has probabilities too, which say nothing.

        Args:
            images: see `predict`.

        Raises:
            DataError, RunError: see `predict`.
        """
        query = self._maps(images)
        scores = self._answers.scores(*self._support(), query)
        probabilities = self._answers.probabilities(scores).numpy()
        if not np.isfinite(probabilities).all():
            raise NotFiniteError(f"probabilities must be finite. Received: NaN or infinity; {OVERFLOW}")
        return probabilities

    def known(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """Which images show one of the classes, bool `(n,)`; all, where that could not be calibrated.

        Args:
            images: see `predict`.

        Raises:
            DataError, RunError: see `predict`.
        """
        scores = self.known_scores(images)
        threshold = self.fit_.threshold
        return np.ones(len(scores), bool) if threshold is None else scores >= threshold.value

    def known_scores(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """What `known` compares with the threshold `fit_.threshold`, larger for images of the classes, `(n,)`.

        Args:
            images: see `predict`.

        Raises:
            DataError, RunError: see `predict`.
        """
        query = self._maps(images)
        return score_of_maps(self.fit_.known_score)(query, *self._support()).numpy()

    def score(self, images: PhotosOrFolder, labels: Sequence[str] | None = None) -> float:
        """Share of labelled images whose class is predicted, in [0, 1].

        Args:
            images: see `fit`.
            labels: see `fit`.

        Raises:
            DataError, RunError: see `fit`.
        """
        found = self._read(images, labels, {})
        return float(np.mean(self.predict(list(found.pixels)) == np.array(found.class_names)[found.labels]))

    def probabilities(self, image: ImageOrPath, support: SupportOrPath | None = None) -> np.ndarray:
        """How probable each class is for one image, `(ways,)`; see `egt_tf.Explainer`.

        Args:
            image: see `predict`.
            support: other classes; None: those that were learnt.

        Raises:
            DataError, RunError: see `predict`.
        """
        if support is None:
            return self.predict_proba([image])[0]
        return class_probabilities(self._answers.model, support, image)

    def explain(
        self,
        image: ImageOrPath,
        support: SupportOrPath | None = None,
        target: str | None = None,
        method: str | Mapping[str, Any] | Method | None = None,
        image_name: str = "",
        start: str | None = None,
    ) -> EpisodeExplanation:
        """Classifies an image and explains the prediction; see `egt_tf.Explainer`.

        Args:
            image: a file, or uint8 pixels `(image_size, image_size, 3)`.
            support: other classes; None: those that were learnt.
            target: see `egt_tf.explain_image`.
            method: how; None: by the composite.
            image_name: for the figure; the name of the file by default.
            start: see `egt_tf.explain_image`; None: that of the classifier.

        Raises:
            DataError: an image cannot be read.
            ExplainError: no such class or method.
            RunError: nothing was learnt yet.
        """
        learned, stored = self._fitted(), self.support
        image_name, pixels = image_name or name_of(image), as_image(image, self.image_size)
        if method is None and support is None and start is None:
            name = get_method(self.composite).name
            return explain_by_stored_photos(_InMemory(self), pixels, stored, target, image_name, self._called, name)
        if support is None and learned.pixels is None:
            raise DataError("a classifier without photos explains by its own composite only. Received: another method")
        chosen = stored if support is None else support
        method = get_method(self.composite if method is None else method, self.start if start is None else start)
        return explain_image(self._answers.model, chosen, pixels, target, method, image_name, self._called)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What a notebook and IPython show: what was learnt and how good it is."""
        printer.text("\n".join(learning_lines(self)) if hasattr(self, "fit_") else repr(self))

    @property
    def counts_(self) -> tuple[int, ...]:
        """Photos of each class."""
        return self._fitted().counts

    @property
    def photo_names_(self) -> tuple[str, ...]:
        """What each photo is called, class by class."""
        return self._fitted().names

    @property
    def has_photos(self) -> bool:
        """Whether the photos are kept beside their features."""
        return self._fitted().pixels is not None

    @property
    def model(self) -> EpisodicModel:
        """Embedding and head, as they compare the queries of any episode with its support images."""
        self._fitted()
        return self._answers.model

    @property
    def description(self) -> str:
        """What explains, for a person."""
        return f"the embedding {self._embedding.spec['name']} with the head {self.fit_.head}"

    @property
    def support(self) -> SupportSet:
        """The photos that were learnt; without images if they were left out."""
        return self._fitted().support()

    # === Files ===

    def save(
        self,
        path: str | os.PathLike[str],
        photos: bool = True,
        version: int | None = None,
        limits: RequestLimits = RequestLimits(),
        lite: bool = False,
    ) -> Path:
        """Writes a SavedModel that predicts, explains and is served as those of `egt_tf.export_model`.

        Args:
            path: the model's folder, which holds its versions; its name is the model's.
            photos: whether the photos are in it, which explanations show; without them it holds features only.
            version: >= 1; None: the next free one.
            limits: how much a request may hold.
            lite: whether to write a LiteRT file for telephones beside it, see `egt_tf.export.lite_files`.

        Returns:
            The version's folder.

        Raises:
            ExportError: the version is there already, or the network cannot be a LiteRT file.
            OSError: it cannot be written.
            RunError: nothing was learnt yet.
        """
        learned = self._written(photos)
        return write_classifier(self._answers, learned, self.fit_, Path(path), version, limits, lite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FewShotClassifier:
        """Reads what `save` has written; nothing of the model is run.

        Args:
            path: the model's folder, whose newest version is taken, or that of a version.

        Raises:
            ConfigError: the network needs something that is not there.
            ExportError: no such model, or its files are damaged.

        Example:
            >>> FewShotClassifier.load("no/such/model")
            Traceback (most recent call last):
            egt_tf.errors.ExportError: no/such/model must be an exported model, ... Received: no such folder
        """
        version = version_folder(path)
        check_files(version)
        learned = read_learned(version)
        settings = learned.settings
        classifier = cls(
            settings["embedding"],
            settings["head_choice"],
            learned.image_size,
            settings["composite"],
            settings["known_score"],
            settings["kept"],
            settings["start"],
        )
        embedding = Embedding(without_pretrained(settings["embedding"]), learned.image_size, settings["composite"])
        embedding.set_weights(read_weights(version, len(embedding.backbone.variables)))
        embedding.spec = dict(settings["embedding"])
        classifier._embedding = embedding
        classifier._learn(learned)
        classifier._report((), ())
        return classifier

    # === Manner of scikit-learn ===

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor by name.

        Args:
            deep: changes nothing; scikit-learn gives it.
        """
        return {name: getattr(self, name) for name in _PARAMETERS}

    def set_params(self, **parameters: Any) -> FewShotClassifier:
        """Changes arguments of the constructor, for the next `fit`.

        Raises:
            DataError: there is no such argument.
        """
        for name, value in parameters.items():
            if name not in _PARAMETERS:
                hint = did_you_mean(name, _PARAMETERS)
                raise DataError(f"a parameter must be one of {', '.join(_PARAMETERS)}. Received: {name!r}{hint}")
            setattr(self, name, value)
        return self

    # === Parts ===

    def _read(
        self,
        photos: PhotosOrFolder,
        labels: Sequence[str] | None,
        known: dict[str, tuple[str, str]],
        names: Sequence[str] | None = None,
    ) -> Photos:
        if isinstance(photos, (str, os.PathLike)):
            if labels is not None or names is not None:
                what = "labels" if names is None else "names"
                raise DataError(f"the classes of a folder are its sub-folders. Received: {what} beside a folder")
            return folder_photos(photos, self.image_size, known)
        if labels is None:
            raise DataError("a list of images needs `labels`, one each. Received: none")
        return labelled_photos(photos, labels, self.image_size, known, names)

    def _with_features(self, photos: Photos, progress: OnProgress | None) -> LearnedModel:
        features = self._embedding.features(photos.pixels, progress)
        settings = {"image_size": self.image_size}
        return LearnedModel(
            settings, photos.class_names, photos.labels, photos.names, photos.digests, features, photos.pixels
        )

    def _learn(self, learned: LearnedModel) -> None:
        """Chooses and calibrates the head, and takes what was learnt when all that has succeeded."""
        found = fit(learned.features, learned.labels, self.head, self.known_score, self.kept)
        backbone = self._embedding.backbone
        head = HEADS.get(found.head_spec, feature_shape=backbone.output_shape[1:])
        model = EpisodicModel(backbone, head)
        self._answers = OneByOne(model, COMPOSITES.get(self.composite), get_start(self.start))
        self._learned, self.fit_, self.classes_ = learned, found, np.array(learned.class_names)

    def _report(self, left_out: tuple[Remark, ...], remarks: tuple[Remark, ...]) -> None:
        self.left_out_, self.remarks_ = left_out, remarks

    def _written(self, photos: bool) -> LearnedModel:
        """What was learnt as it is written: with all settings, and without photos and their names if these stay out."""
        learned, found = self._fitted(), self.fit_
        threshold, low_high = found.threshold, found.report.interval
        settings = {
            "embedding": self._embedding.spec,
            "image_size": self.image_size,
            "composite": self.composite,
            "start": self.start,
            "method": get_method(self.composite).name,
            "head_choice": self.head,
            "head": found.head_spec,
            "known_score": found.known_score,
            "kept": self.kept,
            "threshold": None if threshold is None else dataclasses.asdict(threshold),
            "leave_one_out": {"right": found.report.right, "count": found.report.count, "interval": low_high},
        }
        if photos and learned.pixels is not None:
            return dataclasses.replace(learned, settings=settings)
        numbers = [number for count in learned.counts for number in range(1, count + 1)]
        names = (f"{learned.class_names[k]}/{number}" for k, number in zip(learned.labels, numbers, strict=True))
        return dataclasses.replace(learned, settings=settings, names=tuple(names), pixels=None)

    def _fitted(self) -> LearnedModel:
        if not hasattr(self, "_learned"):
            raise RunError("a classifier must be fitted before it is asked. Received: no `fit` yet")
        return self._learned

    def _check_class(self, class_name: str) -> None:
        names = self._fitted().class_names
        if class_name not in names:
            hint = did_you_mean(class_name, names)
            raise DataError(f"the class must be one of {', '.join(names)}. Received: {class_name!r}{hint}")

    def _support(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Features of all photos as maps, and their one-hot labels."""
        learned = self._fitted()
        return tf.constant(learned.features[:, None, None]), tf.one_hot(learned.labels, len(learned.class_names))

    def _maps(self, images: Sequence[ImageOrPath]) -> tf.Tensor:
        self._fitted()
        pixels = [photo_pixels(image, self.image_size) for image in images]
        size = self.image_size
        stacked = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
        return tf.constant(self._embedding.features(stacked)[:, None, None])

    @property
    def _called(self) -> str:
        return f"{self._embedding.spec['name']}, {self.fit_.head}"


class _InMemory:
    """A classifier as `egt_tf.explain.stored_photos` asks about it."""

    def __init__(self, classifier: FewShotClassifier):
        self.answers, self.fit = classifier._answers, classifier.fit_
        self.support, self.labels = classifier._support()
        self.from_margin = classifier.start == "margin"

    def answer(self, image: np.ndarray) -> StoredAnswer:
        query = self.answers.features(image[None])
        scores = self.answers.scores(self.support, self.labels, query)
        known, threshold = score_of_maps(self.fit.known_score)(query, self.support, self.labels), self.fit.threshold
        is_known = None if threshold is None else bool(known[0] >= threshold.value)
        return StoredAnswer(self.answers.probabilities(scores)[0].numpy(), is_known)

    def relevance(self, image: np.ndarray, targets: np.ndarray) -> StoredRelevance:
        images = np.repeat(image[None], len(targets), axis=0)
        found = self.answers.relevance(self.support, self.labels, images, tf.constant(targets))
        return StoredRelevance(found.images.numpy(), tf.reduce_sum(found.support_features, axis=[-3, -2, -1]).numpy())

    def photo_relevance(
        self, image: np.ndarray, targets: np.ndarray, photos: np.ndarray, positions: np.ndarray
    ) -> np.ndarray:
        query = tf.repeat(self.answers.features(image[None]), len(targets), axis=0)
        found = self.answers.head_relevance(self.support, self.labels, query, tf.constant(targets))
        return self.answers.support_relevance(photos, tf.gather(found.support, positions, axis=1)).numpy()
