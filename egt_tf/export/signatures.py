"""The signatures of an exported model: what a server can be asked, with names, shapes and types."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.data.support import SupportSet
from egt_tf.errors import ExportError
from egt_tf.export.images import checked_floats, decoded_images
from egt_tf.export.one_by_one import OneByOne, Relevance
from egt_tf.export.overlay import overlay_pictures
from egt_tf.export.requests import RequestLimits, checked, checked_labels, checked_positions, checked_targets
from egt_tf.heads.base import Head
from egt_tf.heads.layers import PrototypeMean
from egt_tf.keras_api import compiled
from egt_tf.serving.contract import FLOATS

Tensors = Mapping[str, tf.Tensor]
# From the images of a request to grey levels.
Decode = Callable[[tf.Tensor], tf.Tensor]
Function = Callable[..., Tensors]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One way to ask an exported model.

    Attributes:
        function: from tensors by name to tensors by name.
        inputs: names, shapes and types of the former.
        summary: one line about it.
    """

    function: Function
    inputs: tuple[tf.TensorSpec, ...]
    summary: str

    @functools.cached_property
    def concrete(self) -> Any:
        """The function as a graph, which `tf.saved_model.save` takes as a signature."""
        return compiled(self.function, input_signature=self.inputs).get_concrete_function()


def has_prototypes(head: Head) -> bool:
    """Whether a class of the head is no more than the mean of its support features, whatever is beside it."""
    means = [layer for layer in head.relate_model.layers if isinstance(layer, PrototypeMean)]
    return bool(means) and not head.uses_batch_statistics


@dataclasses.dataclass(frozen=True)
class KnownRule:
    """How a model tells that an image shows none of its classes.

    Attributes:
        score: from query features `(n, h, w, c)`, support features and one-hot labels to numbers `(n,)`, larger for images
            of the classes.
        threshold: images with smaller scores show none of the classes; None if there is no such number.
    """

    score: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
    threshold: float | None


class StoredSupport:
    """A support set inside an exported model; classes may have different numbers of images.

    Args:
        features: `(support, h, w, c)`.
        labels: one-hot, `(support, ways)`.
        class_names: one a class.
        known: tells images of the classes from others; None: no such answer.
        by_photo: whether `explain` tells how much each image of the support set counted, and `explain_photos` takes that
            on to the pixels of some of them.

    Attributes:
        features, labels, class_names, known, by_photo: as given, the first two as variables.
    """

    def __init__(
        self,
        features: tf.Tensor,
        labels: tf.Tensor,
        class_names: Sequence[str],
        known: KnownRule | None = None,
        by_photo: bool = False,
    ):
        # Variables, which a SavedModel keeps beside its graph; constants would be part of it.
        self.features = tf.Variable(features, trainable=False, name="support_features")
        self.labels = tf.Variable(labels, trainable=False, name="support_labels")
        self.class_names = tuple(class_names)
        self.known = known
        self.by_photo = by_photo

    @classmethod
    def of_images(cls, model: OneByOne, support: SupportSet) -> StoredSupport:
        """The features that a model makes of a support set."""
        labels = tf.one_hot(support.flat_labels, support.ways)
        return cls(model.features(support.flat_images), labels, support.class_names)


class Signatures:
    """Makes the signatures of a model; each that takes images takes decoded ones under a name ending in `_floats`.

    Args:
        model: answers.
        support: the classes of `serving_default` and `explain`; without it these two are left out.
        limits: how much a request may hold.
    """

    def __init__(self, model: OneByOne, support: StoredSupport | None, limits: RequestLimits = RequestLimits()):
        self.model = model
        self.support = support
        self.limits = limits
        self.size = model.model.image_size

    def all(self) -> dict[str, Signature]:
        """Every signature by name."""
        files = tf.TensorSpec([None], tf.string)
        # A function of its own, so that the graph holds the decoding once and not once for each signature.
        decode = compiled(lambda images: decoded_images(images, self.size, self.limits), input_signature=[files])
        encoded = self._of_images(files, decode)
        floats = self._of_images(tf.TensorSpec([None, self.size, self.size, 3], tf.float32), checked_floats)
        return {**encoded, **{name + FLOATS: signature for name, signature in floats.items()}}

    def portable(self) -> dict[str, Signature]:
        """The one signature that engines beside TensorFlow read, of numbers only: `serving_default` that explains.

        Raises:
            ExportError: there is no support set.
        """
        if self.support is None:
            raise ExportError("a portable model must have a support set. Received: none; give one by --support FOLDER")
        images = tf.TensorSpec([None, self.size, self.size, 3], tf.float32, "images")
        targets = tf.TensorSpec([None], tf.int64, "targets")
        return {
            "serving_default": Signature(
                self._explain_numbered(self.support),
                (images, targets),
                "Probabilities of the classes of the stored support set, and what the "
                "query's pixels spoke for a class.",
            )
        }

    def _of_images(self, images: tf.TensorSpec, decode: Decode) -> dict[str, Signature]:
        def spec(name: str) -> tf.TensorSpec:
            return tf.TensorSpec(images.shape, images.dtype, name)

        labels, targets = (tf.TensorSpec([None], tf.int64, name) for name in ("support_labels", "targets"))
        episode = (spec("support_images"), labels, spec("query_images"))
        found = {
            "classify_episode": Signature(
                self._classify_episode(decode), episode, "Probabilities of the classes that the support images show."
            ),
            "embed": Signature(self._embed(decode), (spec("images"),), "The backbone's feature maps."),
            "explain_episode": Signature(
                self._explain_episode(decode),
                (*episode, targets),
                "As `classify_episode`, and what query and support pixels spoke for a class.",
            ),
        }
        if has_prototypes(self.model.model.head):
            maps = tf.TensorSpec([None, *self.model.model.head.feature_shape], tf.float32, "prototypes")
            found["prototypes"] = Signature(
                self._prototypes(decode), episode[:2], "The mean feature map of each class."
            )
            found["classify_with_prototypes"] = Signature(
                self._classify_with_prototypes(decode),
                (maps, episode[2]),
                "Probabilities of the classes that have these prototypes.",
            )
        if self.support is not None:
            found["serving_default"] = Signature(
                self._classify(decode, self.support),
                (spec("images"),),
                "Probabilities of the classes of the stored support set.",
            )
            found["explain"] = Signature(
                self._explain(decode, self.support),
                (spec("images"), targets),
                "As `serving_default`, and what the query's pixels spoke for a class.",
            )
        if self.support is not None and self.support.by_photo:
            found["explain_photos"] = Signature(
                self._explain_photos(decode, self.support),
                (spec("images"), targets, spec("photos"), tf.TensorSpec([None], tf.int64, "positions")),
                "What the pixels of photos of the stored support set, at these positions of it, spoke for a class.",
            )
        return found

    # === Stored support set ===

    def _classify(self, decode: Decode, support: StoredSupport) -> Function:
        def serving_default(images: tf.Tensor) -> Tensors:
            features = self.model.features(decode(self._counted(images)))
            scores = self.model.scores(support.features, support.labels, features)
            return {**self._named(support, scores), **_known(support, features)}

        return serving_default

    def _explain(self, decode: Decode, support: StoredSupport) -> Function:
        def explain(images: tf.Tensor, targets: tf.Tensor) -> Tensors:
            images = decode(self._counted(images))
            targets = checked_targets(targets, tf.shape(images)[0], len(support.class_names))
            found = self.model.relevance(support.features, support.labels, images, targets)
            return {
                **self._named(support, found.scores),
                "explained_class": tf.gather(support.class_names, found.targets),
                "relevance": found.images,
                "overlay_bytes": overlay_pictures(images, found.images),
                **(_sums(found) if support.by_photo else {}),
            }

        return explain

    def _explain_photos(self, decode: Decode, support: StoredSupport) -> Function:
        def explain_photos(images: tf.Tensor, targets: tf.Tensor, photos: tf.Tensor, positions: tf.Tensor) -> Tensors:
            photos, images = self._counted_together(photos, images, "photos")
            images, photos = decode(images), decode(photos)
            targets = checked_targets(targets, tf.shape(images)[0], len(support.class_names))
            positions = checked_positions(positions, tf.shape(photos)[0], tf.shape(support.features)[0])
            features = self.model.features(images)
            found = self.model.head_relevance(support.features, support.labels, features, targets)
            at_photos = tf.gather(found.support, positions, axis=1)
            return {"support_relevance": self.model.support_relevance(photos, at_photos)}

        return explain_photos

    def _explain_numbered(self, support: StoredSupport) -> Function:
        def serving_default(images: tf.Tensor, targets: tf.Tensor) -> Tensors:
            images = checked_floats(self._counted(images))
            targets = checked_targets(targets, tf.shape(images)[0], len(support.class_names))
            found = self.model.relevance(support.features, support.labels, images, targets)
            return {**self._numbered(found.scores), "explained": found.targets, "relevance": found.images}

        return serving_default

    def _named(self, support: StoredSupport, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        # A row for each query: TensorFlow Serving wants outputs of one batch size.
        names = tf.repeat(tf.constant(support.class_names)[None], tf.shape(scores)[0], axis=0)
        probabilities = self.model.probabilities(scores)
        return {
            # A function that takes any support set does not know the number of classes.
            "probabilities": tf.ensure_shape(probabilities, [None, len(support.class_names)]),
            "class_names": names,
            "top_class": tf.gather(support.class_names, tf.argmax(scores, axis=-1)),
        }

    # === Support set in the request ===

    def _classify_episode(self, decode: Decode) -> Function:
        def classify_episode(support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor) -> Tensors:
            support_images, query_images = self._counted_together(support_images, query_images, "support images")
            support, labels = self._support(decode, support_images, support_labels)
            features = self.model.features(decode(query_images))
            return self._numbered(self.model.scores(self.model.features(support), labels, features))

        return classify_episode

    def _explain_episode(self, decode: Decode) -> Function:
        def explain_episode(
            support_images: tf.Tensor, support_labels: tf.Tensor, query_images: tf.Tensor, targets: tf.Tensor
        ) -> Tensors:
            support_images, query_images = self._counted_together(support_images, query_images, "support images")
            support, labels = self._support(decode, support_images, support_labels)
            queries = decode(query_images)
            targets = checked_targets(targets, tf.shape(queries)[0], tf.shape(labels)[1])
            found = self.model.relevance(self.model.features(support), labels, queries, targets)
            return {
                **self._numbered(found.scores),
                "explained": found.targets,
                "relevance": found.images,
                "support_relevance": self.model.support_relevance(support, found.support_features),
                "overlay_bytes": overlay_pictures(queries, found.images),
            }

        return explain_episode

    def _support(self, decode: Decode, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Grey levels of the support images and their one-hot labels."""
        one_hot = checked_labels(labels, tf.shape(images)[0], self.model.model.head)
        with tf.control_dependencies([one_hot]):
            return decode(tf.identity(images)), one_hot

    def _numbered(self, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": self.model.probabilities(scores), "predicted": tf.argmax(scores, axis=-1)}

    # === Features and prototypes ===

    def _embed(self, decode: Decode) -> Function:
        def embed(images: tf.Tensor) -> Tensors:
            return {"features": self.model.features(decode(self._counted(images)))}

        return embed

    def _prototypes(self, decode: Decode) -> Function:
        def prototypes(support_images: tf.Tensor, support_labels: tf.Tensor) -> Tensors:
            support, labels = self._support(decode, self._counted(support_images), support_labels)
            means = PrototypeMean()([self.model.features(support)[None], labels[None]])
            return {"prototypes": means[0]}

        return prototypes

    def _classify_with_prototypes(self, decode: Decode) -> Function:
        def classify_with_prototypes(prototypes: tf.Tensor, query_images: tf.Tensor) -> Tensors:
            prototypes, query_images = self._counted_together(prototypes, query_images, "prototypes")
            ways = tf.shape(prototypes)[0]
            prototypes = checked(prototypes, (ways >= 2, ["at least two prototypes must be given. Received:", ways]))
            # The mean of one support image a class is that image.
            features = self.model.features(decode(query_images))
            return self._numbered(self.model.scores(prototypes, tf.eye(tf.shape(prototypes)[0]), features))

        return classify_with_prototypes

    # === Limits ===

    def _counted(self, images: tf.Tensor) -> tf.Tensor:
        """The images, if they are not too many; whatever is done with the result waits for the check."""
        count, most = tf.shape(images)[0], self.limits.max_images
        return checked(images, (count <= most, [f"a request may hold at most {most} images. Received:", count]))

    def _counted_together(self, held: tf.Tensor, queries: tf.Tensor, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_counted`, for queries and what they are compared with, which is called `name`."""
        counts, most = (tf.shape(held)[0], tf.shape(queries)[0]), self.limits.max_images
        few = checked(
            sum(counts) <= most,
            (
                sum(counts) <= most,
                [
                    f"a request may hold at most {most} images, {name} and queries together. Received:",
                    counts[0],
                    f"{name} and",
                    counts[1],
                    "queries",
                ],
            ),
        )
        with tf.control_dependencies([few]):
            return tf.identity(held), tf.identity(queries)


def _known(support: StoredSupport, features: tf.Tensor) -> Tensors:
    """Whether images show one of the stored classes, as far as the support set has a rule for it."""
    rule = support.known
    if rule is None:
        return {}
    scores = rule.score(features, support.features, support.labels)
    return {"known_score": scores, **({} if rule.threshold is None else {"known": scores >= rule.threshold})}


def _sums(found: Relevance) -> Tensors:
    """The relevance of each image of the support set."""
    return {"support_sums": tf.reduce_sum(found.support_features, axis=[-3, -2, -1])}
