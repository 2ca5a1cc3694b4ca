"""A classifier learned from a few photographs of each class, without training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.data.image_set import OnProgress
from egt_tf.data.preprocessing import normalize
from egt_tf.data.support import ImageOrPath, SupportSet, as_image
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, DataError, ExplainError, did_you_mean
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import Method
from egt_tf.explain.query import explain_image
from egt_tf.heads import HEADS
from egt_tf.heads.similarity import unit
from egt_tf.learning.calibration import Threshold, known_scores, known_threshold, pooled, unit_prototypes
from egt_tf.learning.defaults import COMPOSITE, EMBEDDING, HEADS_TO_TRY, IMAGE_SIZE, UNMEASURED_HEAD
from egt_tf.learning.leave_one_out import LeaveOneOut, leave_one_out, left_out_known_scores
from egt_tf.learning.photos import Photos, photos_of_images, pixels_of_images, read_photo_folder

AUTO = "auto"
_BATCH = 16
# Of networks without pre-trained weights.
_SEED = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Memory:
    """What is kept of the photographs that a classifier was learned from.

    Attributes:
        class_names: in alphabetical order.
        labels: positions in `class_names`, `(n,)`.
        features: the embedding's maps, float32 `(n, h, w, c)`.
        names: of the photographs.
        digests: the same for the same pixels.
        pixels: uint8 `(n, size, size, 3)`, or None where the photographs themselves are not kept.

    Example:
        >>> one = np.zeros((1, 1, 1, 4), np.float32)
        >>> Memory(("ant",), np.array([0]), one, ("1.jpg",), ("ab",), None).counts.tolist()
        [1]
    """

    class_names: tuple[str, ...]
    labels: np.ndarray
    features: np.ndarray
    names: tuple[str, ...]
    digests: tuple[str, ...]
    pixels: np.ndarray | None

    @property
    def counts(self) -> np.ndarray:
        """Photographs of each class, `(ways,)`."""
        return np.bincount(self.labels, minlength=len(self.class_names))

    @property
    def one_hot(self) -> np.ndarray:
        """Labels as the heads take them, float32 `(n, ways)`."""
        return np.eye(len(self.class_names), dtype=np.float32)[self.labels]

    @property
    def vectors(self) -> np.ndarray:
        """Spatial means of the features, `(n, c)`."""
        return self.features.mean(axis=(1, 2))

    def chosen(self, indices: np.ndarray) -> Memory:
        """Some of the photographs, and their classes."""
        names = [self.class_names[label] for label in self.labels]
        return memory_of(
            [names[index] for index in indices],
            self.features[indices],
            [self.names[index] for index in indices],
            [self.digests[index] for index in indices],
            None if self.pixels is None else self.pixels[indices],
        )


def memory_of(
    labels: Sequence[str],
    features: np.ndarray,
    names: Sequence[str],
    digests: Sequence[str],
    pixels: np.ndarray | None,
) -> Memory:
    """Sorts photographs by their classes; within a class they keep their order.

    Args:
        labels: the name of each one's class.
        features, names, digests, pixels: see `Memory`.

    Example:
        >>> memory_of(["bee", "ant"], np.zeros((2, 1, 1, 4)), ["1", "2"], ["ab", "cd"], None).names
        ('2', '1')
    """
    class_names, positions = np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)
    order = np.argsort(positions, kind="stable")
    return Memory(
        tuple(class_names.tolist()),
        positions[order],
        np.asarray(features, np.float32)[order],
        tuple(names[index] for index in order),
        tuple(digests[index] for index in order),
        None if pixels is None else pixels[order],
    )


class FewShotClassifier:
    """Learns classes from a few photographs of each: features of a fixed network, and a head in closed form.

    The features of each photograph are computed once; all else works on them. The head is fitted to the photographs,
    the temperature of its probabilities and the threshold of "none of these" to what leaving out each photograph in
    turn shows (`egt_tf.learning.leave_one_out`, `egt_tf.learning.calibration`).

    Args:
        embedding: the network, a name of `BACKBONES` or a mapping with `name` and arguments; None:
            `egt_tf.learning.defaults.EMBEDDING`.
        head: "prototype", "cosine" or "ridge", also a mapping with `name` and, for ridge, `penalty`; "auto": the one
            that does best when each photograph is left out, and of equally good ones the simplest, in this order.
        image_size: height and width in pixels that photographs are brought to; None: 224.

    Attributes:
        memory: what is kept of the photographs.
        notes: what was odd about the photographs that came last.
        head_spec: the head with its fitted `scale`.
        results: `LeaveOneOut` of each head that was tried by its name; empty if no class has two photographs.
        threshold: of "none of these", or None if no class has two photographs.

    Raises:
        ConfigError: an unknown head.

    Example:
        >>> images = [np.full((32, 32, 3), level, np.uint8) for level in (0, 10, 240, 250)]
        >>> classifier = FewShotClassifier({"name": "conv4", "width": 4}, "cosine", image_size=32)
        >>> classifier.fit(images, ["dark", "dark", "light", "light"]).predict(images[:1]).tolist()
        ['dark']
    """

    def __init__(
        self,
        embedding: str | Mapping[str, Any] | None = None,
        head: str | Mapping[str, Any] = AUTO,
        image_size: int | None = None,
    ):
        self.embedding = _spec(EMBEDDING if embedding is None else embedding)
        self.head = head
        self.image_size = IMAGE_SIZE if image_size is None else image_size
        self.notes: tuple[str, ...] = ()
        _heads_to_try(head)
        self._backbone: Any = None
        self._memory: Memory | None = None

    # === Learning ===

    def fit(
        self,
        photos: str | os.PathLike[str] | Sequence[ImageOrPath],
        labels: Sequence[str] | None = None,
        progress: OnProgress | None = None,
    ) -> FewShotClassifier:
        """Learns from photographs, and forgets all that were there before.

        Args:
            photos: a folder with a sub-folder of photographs for each class; or images, see `labels`.
            labels: of images, the name of each one's class; None for a folder.
            progress: called with (photographs, all photographs), while they are read and again while features are
                computed.

        Returns:
            The classifier itself.

        Raises:
            ConfigError: the embedding has no such argument, or its weights are not installed.
            DataError: too few classes, or images that cannot be read.
        """
        found = self._photos(photos, labels, 2, progress)
        self._learn(self._remembered(found, None, progress))
        return self

    def add(
        self,
        photos: str | os.PathLike[str] | Sequence[ImageOrPath],
        labels: Sequence[str] | None = None,
        progress: OnProgress | None = None,
    ) -> FewShotClassifier:
        """Learns further photographs, of new classes or of known ones; see `fit`. Those known already are left out.

        Raises:
            ConfigError, DataError: see `fit`.
        """
        memory = self.memory
        found = self._photos(photos, labels, 1, progress)
        self._learn(self._remembered(found, memory, progress))
        return self

    def remove(self, name: str) -> FewShotClassifier:
        """Forgets a class and its photographs.

        Raises:
            DataError: no such class, or fewer than two would be left.
        """
        memory, position = self.memory, self._position(name)
        if len(memory.class_names) <= 2:
            raise DataError(f"at least two classes must be left. Received: {', '.join(memory.class_names)}")
        self.notes = ()
        self._learn(memory.chosen(np.flatnonzero(memory.labels != position)))
        return self

    def rename(self, old: str, new: str) -> FewShotClassifier:
        """Gives a class another name.

        Raises:
            DataError: no such class, or `new` is empty or the name of a class already.
        """
        memory, position = self.memory, self._position(old)
        if not new.strip() or new in memory.class_names:
            raise DataError(f"the new name of class {old!r} must be one that no class has. Received: {new!r}")
        names = [*memory.class_names]
        names[position] = new
        labels = [names[label] for label in memory.labels]
        self.notes = ()
        self._learn(memory_of(labels, memory.features, memory.names, memory.digests, memory.pixels))
        return self

    # === Answers ===

    @property
    def classes_(self) -> np.ndarray:
        """Names of the classes, in the order of the probabilities."""
        return np.array(self.memory.class_names)

    @property
    def memory(self) -> Memory:
        """What is kept of the photographs.

        Raises:
            DataError: nothing has been learned yet.
        """
        if self._memory is None:
            raise DataError("a classifier must learn before it is asked. Received: one that has not; call fit first")
        return self._memory

    def predict(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """The most probable class of each image, even if it shows none of them; see `is_known`.

        Args:
            images: see `egt_tf.learning.photos.pixels_of_images`.

        Returns:
            Names of classes, `(n,)`.

        Raises:
            DataError: nothing has been learned yet, or an image cannot be read.
        """
        return self.classes_[self.predict_proba(images).argmax(axis=1)]

    def predict_proba(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """Probabilities of the classes `(n, ways)`, in the order of `classes_`; calibrated if `results` is not empty.

        Raises:
            DataError: see `predict`.
        """
        return self._probabilities(self._features_of(images))

    def known_score(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """How much each image is like one of the classes, `(n,)`; see `egt_tf.learning.calibration.known_scores`."""
        return self._known_scores(self._features_of(images))

    def is_known(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        """Whether each image shows one of the classes, bool `(n,)`; all do where there is no threshold.

        `threshold.kept` says which share of the images of known classes is found to be so.
        """
        scores = self.known_score(images)
        return np.ones(len(scores), bool) if self.threshold is None else scores >= self.threshold.value

    def explain(
        self,
        image: ImageOrPath,
        target: str | None = None,
        method: str | Mapping[str, Any] | Method = COMPOSITE,
        image_name: str = "",
    ) -> EpisodeExplanation:
        """Which pixels of an image, and of the photographs learned from, spoke for a class.

        Args:
            image: a file, or uint8 pixels of the network's size.
            target: see `egt_tf.explain.query.explain_image`.
            method: how.
            image_name: for the figure; the name of the file by default.

        Raises:
            DataError: nothing has been learned yet, or the image cannot be read.
            ExplainError: the photographs are not kept, or no such class or method.
        """
        support = self.support
        if support is None:
            raise ExplainError(
                "explanations show the photos that were learned from, and this model was saved without them; "
                "learn it again without --without-photos"
            )
        return explain_image(self.model, support, as_image(image, self.image_size), target, method, image_name)

    @property
    def support(self) -> SupportSet | None:
        """The photographs as a support set, or None if they are not kept."""
        memory = self.memory
        if memory.pixels is None:
            return None
        shots = int(memory.counts.max())
        # White where a class has no more photographs.
        images = np.full((len(memory.class_names), shots, *memory.pixels.shape[1:]), 255, np.uint8)
        images[np.arange(shots) < memory.counts[:, None]] = memory.pixels
        return SupportSet(memory.class_names, images, counts=tuple(memory.counts.tolist()))

    @property
    def model(self) -> EpisodicModel:
        """The embedding and the head as one model.

        Raises:
            ConfigError: the embedding has no such argument, or its weights are not installed.
        """
        return EpisodicModel(self.backbone, self._head)

    @property
    def backbone(self) -> Any:
        """The embedding, a Functional Keras model.

        Raises:
            ConfigError: it has no such argument, or its weights are not installed.
        """
        if self._backbone is None:
            self._backbone = BACKBONES.get(self.embedding, image_size=self.image_size, seed=_SEED)
        return self._backbone

    # === Files ===

    def save(self, path: str | os.PathLike[str], photos: bool = True, version: int | None = None) -> Path:
        """Writes a version of the classifier as a SavedModel, as `egt-tf export` writes runs.

        It classifies, explains and takes new classes by request when it is served; `load` opens it to learn on.

        Args:
            path: the model's folder, which holds its versions; its name is the model's.
            photos: whether the photographs are kept, at the network's size, for explanations.
            version: >= 1; None: the next free one.

        Returns:
            The version's folder.

        Raises:
            DataError: nothing has been learned yet.
            ExportError: see `egt_tf.export.write_version`.
            OSError: it cannot be written.
        """
        # It needs this class.
        from egt_tf.learning.saved import save_classifier

        return save_classifier(self, path, version, photos)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FewShotClassifier:
        """Opens a classifier that `save` or `egt-tf learn` wrote.

        Args:
            path: the folder of a model, whose newest version is taken, or of a version.

        Raises:
            ExportError: it is no such model, or is damaged, or its embedding is another one now.
            ConfigError: the weights of the embedding are not installed.
        """
        from egt_tf.learning.saved import load_classifier

        return load_classifier(path)

    def probe(self) -> np.ndarray:
        """Features of an image that is always the same, by which another embedding is found out, `(h, w, c)`."""
        levels = np.linspace(0, 255, self.image_size).astype(np.uint8)
        image = np.stack(np.broadcast_arrays(levels, levels[:, None], levels[::-1]), axis=-1)
        return self._features(image[None], None)[0]

    def restore(self, memory: Memory) -> None:
        """Takes over what another classifier has learned with the same embedding.

        Args:
            memory: that of the other one.
        """
        self._learn(memory)

    # === Parts ===

    def _photos(
        self,
        photos: str | os.PathLike[str] | Sequence[ImageOrPath],
        labels: Sequence[str] | None,
        least_classes: int,
        progress: OnProgress | None,
    ) -> Photos:
        # First of all: it takes no time to say that its weights are missing.
        _ = self.backbone
        if labels is not None:
            found = photos_of_images(photos, labels, self.image_size)  # type: ignore[arg-type]
        elif isinstance(photos, (str, os.PathLike)):
            found = read_photo_folder(photos, self.image_size, least_classes, progress)
        else:
            raise DataError("images must come with `labels`, the name of each one's class. Received: labels=None")
        if len(set(found.labels)) < least_classes:
            raise DataError(f"there must be at least {least_classes} classes. Received: {found.labels[0]!r} alone")
        return found

    def _remembered(self, photos: Photos, before: Memory | None, progress: OnProgress | None) -> Memory:
        """What was known before, and the photographs that are new."""
        known = {} if before is None else _classes_of_digests(before)
        new, notes = _new_photos(photos, known)
        self.notes = (*photos.notes, *notes)
        features = self._features(photos.pixels[new], progress)
        labels = [photos.labels[index] for index in new]
        names = [photos.names[index] for index in new]
        digests = [photos.digests[index] for index in new]
        pixels: np.ndarray | None = photos.pixels[new]
        if before is not None:
            labels = [*(before.class_names[label] for label in before.labels), *labels]
            features = np.concatenate([before.features, features])
            names, digests = [*before.names, *names], [*before.digests, *digests]
            # A model without its photographs stays one.
            pixels = None if before.pixels is None else np.concatenate([before.pixels, photos.pixels[new]])
        return memory_of(labels, features, names, digests, pixels)

    def _learn(self, memory: Memory) -> None:
        ways = len(memory.class_names)
        found = [leave_one_out(head, memory.vectors, memory.labels, ways) for head in _heads_to_try(self.head)]
        self.results: dict[str, LeaveOneOut] = {each.head["name"]: each for each in found if each is not None}
        if self.results:
            # The first of equally good ones.
            self.head_spec = max(self.results.values(), key=lambda each: each.right).head
        else:
            self.head_spec = UNMEASURED_HEAD if self.head == AUTO else _spec(self.head)
        self.threshold: Threshold | None = known_threshold(left_out_known_scores(memory.vectors, memory.labels, ways))
        self._head = HEADS.get(self.head_spec, feature_shape=memory.features.shape[1:], seed=None)
        self._memory = memory

    def _features_of(self, images: Sequence[ImageOrPath]) -> np.ndarray:
        _ = self.memory
        return self._features(pixels_of_images(images, self.image_size), None)

    def _features(self, pixels: np.ndarray, progress: OnProgress | None) -> np.ndarray:
        """Maps `(n, h, w, c)`, batch by batch."""
        found = [np.zeros((0, *self.backbone.output_shape[1:]), np.float32)]
        for begin in range(0, len(pixels), _BATCH):
            if progress is not None:
                progress(begin, len(pixels))
            found.append(self.backbone(normalize(pixels[begin : begin + _BATCH]), training=False).numpy())
        if progress is not None:
            progress(len(pixels), len(pixels))
        return np.concatenate(found)

    def _probabilities(self, features: np.ndarray) -> np.ndarray:
        memory, head = self.memory, self._head
        episode = [memory.features[None], memory.one_hot[None], features[None]]
        return head.probabilities(head([tf.constant(each) for each in episode], training=False))[0].numpy()

    def _known_scores(self, features: np.ndarray) -> np.ndarray:
        memory = self.memory
        prototypes = unit_prototypes(tf.constant(memory.vectors), tf.constant(memory.one_hot))
        return known_scores(tf.matmul(unit(pooled(features)), prototypes, transpose_b=True)).numpy()

    def _position(self, name: str) -> int:
        names = self.memory.class_names
        if name not in names:
            raise DataError(
                f"the class must be one of {', '.join(names)}. Received: {name!r}{did_you_mean(name, names)}"
            )
        return names.index(name)


def _spec(part: str | Mapping[str, Any]) -> dict[str, Any]:
    return {"name": part} if isinstance(part, str) else dict(part)


def _heads_to_try(head: str | Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """The specifications that "auto" or the name of a head stands for."""
    if head == AUTO:
        return HEADS_TO_TRY
    spec = _spec(head)
    known = {each["name"]: each for each in HEADS_TO_TRY}
    if spec.get("name") not in known:
        hint = did_you_mean(spec.get("name"), [AUTO, *known])
        raise ConfigError(f"the head must be one of {AUTO}, {', '.join(known)}. Received: {spec.get('name')!r}{hint}")
    merged = {**known[spec["name"]], **spec}
    unknown = sorted(set(merged) - set(known[spec["name"]]) - {"scale"})
    if unknown:
        raise ConfigError(f"the head {spec['name']!r} of a learned classifier has no argument {unknown[0]!r}")
    return (merged,)


def _classes_of_digests(memory: Memory) -> dict[str, str]:
    return {digest: memory.class_names[label] for digest, label in zip(memory.digests, memory.labels, strict=True)}


def _new_photos(photos: Photos, known: Mapping[str, str]) -> tuple[list[int], list[str]]:
    """Those that their class does not have yet, and what is said of the others.

    A copy in the same class would vouch for itself when it is left out; in two classes, one of them must be wrong.
    """
    classes, new, copies, doubtful = dict(known), [], [], []
    for index, (digest, label, name) in enumerate(zip(photos.digests, photos.labels, photos.names, strict=True)):
        if classes.get(digest) == label:
            copies.append(name)
            continue
        if digest in classes:
            doubtful.append(f"{name} (also in {classes[digest]!r})")
        classes[digest] = label
        new.append(index)
    notes = [f"left out, the same photo twice in a class: {', '.join(copies)}"] if copies else []
    if doubtful:
        notes.append(f"the same photo in two classes: {', '.join(doubtful)}")
    return new, notes
