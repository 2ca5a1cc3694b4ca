"""The signatures of an exported model: what a server can be asked, with names, shapes and types."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from egt_tf.data.support import SupportSet
from egt_tf.export.checks import checked
from egt_tf.export.images import prepared_floats, prepared_images
from egt_tf.export.limits import RequestLimits
from egt_tf.export.one_by_one import OneByOne
from egt_tf.export.overlay import overlay_pictures
from egt_tf.heads.base import Head
from egt_tf.heads.layers import PrototypeMean

FLOATS = "_floats"

Tensors = Mapping[str, tf.Tensor]
Prepare = Callable[[tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One way to ask an exported model.

    Attributes:
        function: from tensors by name to tensors by name.
        inputs: names, shapes and types of the former.
        summary: one line about it.
    """

    function: Callable[..., Tensors]
    inputs: tuple[tf.TensorSpec, ...]
    summary: str

    @functools.cached_property
    def concrete(self):
        """The function as a graph, which `tf.saved_model.save` takes as a signature."""
        return tf.function(self.function, input_signature=self.inputs).get_concrete_function()


def has_prototypes(head: Head) -> bool:
    """Whether a class of the head is no more than the mean of its support features, whatever is beside it."""
    means = [layer for layer in head.relate_model.layers if isinstance(layer, PrototypeMean)]
    return bool(means) and not head.uses_batch_statistics


class StoredSupport:
    """A support set inside an exported model.

    Args:
        model: makes its features, once.
        support: classes and images.

    Attributes:
        features: `(support, h, w, c)`.
        labels: one-hot, `(support, ways)`.
        class_names: one a class.
    """

    def __init__(self, model: OneByOne, support: SupportSet):
        images = support.images.reshape(-1, *support.images.shape[2:])
        labels = tf.repeat(tf.eye(support.ways), support.shots, axis=0)
        # Variables, which a SavedModel keeps beside its graph; constants would be part of it.
        self.features = tf.Variable(model.features(images), trainable=False, name="support_features")
        self.labels = tf.Variable(labels, trainable=False, name="support_labels")
        self.class_names = support.class_names


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
        decode = tf.function(lambda images: prepared_images(images, self.size, self.limits), input_signature=[files])
        encoded = self._of_images(files, decode)
        floats = self._of_images(tf.TensorSpec([None, self.size, self.size, 3], tf.float32), prepared_floats)
        return {**encoded, **{name + FLOATS: signature for name, signature in floats.items()}}

    def portable(self) -> dict[str, Signature]:
        """The one signature that engines beside TensorFlow read, of numbers only: `serving_default` that explains."""
        images = tf.TensorSpec([None, self.size, self.size, 3], tf.float32, "images")
        targets = tf.TensorSpec([None], tf.int64, "targets")
        return {
            "serving_default": Signature(
                self._explain_numbered,
                (images, targets),
                "Probabilities of the classes of the stored support set, and what the "
                "query's pixels spoke for a class.",
            )
        }

    def _of_images(self, images: tf.TensorSpec, prepare: Prepare) -> dict[str, Signature]:
        def spec(name):
            return tf.TensorSpec(images.shape, images.dtype, name)

        labels, targets = (tf.TensorSpec([None], tf.int64, name) for name in ("support_labels", "targets"))
        episode = (spec("support_images"), labels, spec("query_images"))
        found = {
            "classify_episode": Signature(
                self._classify_episode(prepare), episode, "Probabilities of the classes that the support images show."
            ),
            "embed": Signature(self._embed(prepare), (spec("images"),), "The backbone's feature maps."),
            "explain_episode": Signature(
                self._explain_episode(prepare),
                (*episode, targets),
                "As `classify_episode`, and what query and support pixels spoke for a class.",
            ),
        }
        if has_prototypes(self.model.model.head):
            maps = tf.TensorSpec([None, *self.model.model.head.feature_shape], tf.float32, "prototypes")
            found["prototypes"] = Signature(
                self._prototypes(prepare), episode[:2], "The mean feature map of each class."
            )
            found["classify_with_prototypes"] = Signature(
                self._classify_with_prototypes(prepare),
                (maps, episode[2]),
                "Probabilities of the classes that have these prototypes.",
            )
        if self.support is not None:
            found["serving_default"] = Signature(
                self._classify(prepare), (spec("images"),), "Probabilities of the classes of the stored support set."
            )
            found["explain"] = Signature(
                self._explain(prepare),
                (spec("images"), targets),
                "As `serving_default`, and what the query's pixels spoke for a class.",
            )
        return found

    # === Stored support set ===

    def _classify(self, prepare):
        def serving_default(images):
            features = self.model.features(prepare(self._counted(images)))
            return self._named(self.model.scores(self.support.features, self.support.labels, features))

        return serving_default

    def _explain(self, prepare):
        def explain(images, targets):
            images = prepare(self._counted(images))
            targets = checked_targets(targets, tf.shape(images)[0], len(self.support.class_names))
            found = self.model.relevance(self.support.features, self.support.labels, images, targets)
            return {
                **self._named(found.scores),
                "explained_class": tf.gather(self.support.class_names, found.targets),
                "relevance": found.images,
                "overlay_bytes": overlay_pictures(images, found.images),
            }

        return explain

    def _named(self, scores):
        # A row for each query: TensorFlow Serving wants outputs of one batch size.
        names = tf.repeat(tf.constant(self.support.class_names)[None], tf.shape(scores)[0], axis=0)
        return {
            "probabilities": self.model.probabilities(scores),
            "class_names": names,
            "top_class": tf.gather(self.support.class_names, tf.argmax(scores, axis=-1)),
        }

    def _explain_numbered(self, images, targets):
        images = prepared_floats(self._counted(images))
        targets = checked_targets(targets, tf.shape(images)[0], len(self.support.class_names))
        found = self.model.relevance(self.support.features, self.support.labels, images, targets)
        return {**self._numbered(found.scores), "explained": found.targets, "relevance": found.images}

    # === Support set in the request ===

    def _classify_episode(self, prepare):
        def classify_episode(support_images, support_labels, query_images):
            support_images, query_images = self._counted_together(support_images, query_images, "support images")
            support, labels = self._support(prepare, support_images, support_labels)
            features = self.model.features(prepare(query_images))
            return self._numbered(self.model.scores(self.model.features(support), labels, features))

        return classify_episode

    def _explain_episode(self, prepare):
        def explain_episode(support_images, support_labels, query_images, targets):
            support_images, query_images = self._counted_together(support_images, query_images, "support images")
            support, labels = self._support(prepare, support_images, support_labels)
            queries = prepare(query_images)
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

    def _support(self, prepare, images, labels):
        """Prepared support images and their one-hot labels."""
        one_hot = checked_labels(labels, tf.shape(images)[0], self.model.model.head)
        with tf.control_dependencies([one_hot]):
            return prepare(tf.identity(images)), one_hot

    def _numbered(self, scores):
        return {"probabilities": self.model.probabilities(scores), "predicted": tf.argmax(scores, axis=-1)}

    # === Features and prototypes ===

    def _embed(self, prepare):
        def embed(images):
            return {"features": self.model.features(prepare(self._counted(images)))}

        return embed

    def _prototypes(self, prepare):
        def prototypes(support_images, support_labels):
            support, labels = self._support(prepare, self._counted(support_images), support_labels)
            means = PrototypeMean()([self.model.features(support)[None], labels[None]])
            return {"prototypes": means[0]}

        return prototypes

    def _classify_with_prototypes(self, prepare):
        def classify_with_prototypes(prototypes, query_images):
            prototypes, query_images = self._counted_together(prototypes, query_images, "prototypes")
            ways = tf.shape(prototypes)[0]
            prototypes = checked(prototypes, (ways >= 2, ["at least two prototypes must be given. Received:", ways]))
            # The mean of one support image a class is that image.
            features = self.model.features(prepare(query_images))
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


def checked_labels(labels: tf.Tensor, images: tf.Tensor, head: Head) -> tf.Tensor:
    """One-hot labels of the support images of a request.

    Args:
        labels: class of each support image, int64 `(support,)`.
        images: number of support images.
        head: may want a certain number of classes.

    Returns:
        float32 `(support, ways)`; ways is the largest label plus one.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: another number of labels than of images, none, labels
            below 0, fewer than two classes or not as many as the head takes, or a class without an image.
    """
    labels = checked(
        labels,
        (images > 0, ["at least one support image must be given. Received: none"]),
        (
            tf.size(labels) == images,
            ["every support image must have one label. Received:", images, "images and", tf.size(labels), "labels"],
        ),
    )
    in_range = (labels >= 0) & (labels < tf.cast(images, labels.dtype))
    # Before anything as long as the largest label is made.
    labels = checked(
        labels, (in_range, ["support labels must be 0, 1, ..., each class with at least one image. Received:", labels])
    )
    ways = tf.reduce_max(labels) + 1
    counts = tf.math.unsorted_segment_sum(tf.ones_like(labels), labels, ways)
    rules = [
        (counts > 0, ["every class from 0 to the largest label must have a support image. Received:", labels]),
        (ways >= 2, ["the support images must be of at least two classes. Received:", ways]),
    ]
    if head.needs_ways:
        rules.append((ways == head.ways, [f"this model takes {head.ways} classes. Received:", ways]))
    labels = checked(labels, *rules)
    return tf.one_hot(labels, tf.cast(tf.reduce_max(labels) + 1, tf.int32))


def checked_targets(targets: tf.Tensor, queries: tf.Tensor, ways: tf.Tensor | int) -> tf.Tensor:
    """The classes to explain of a request.

    Args:
        targets: int64 `(queries,)`, class indices, -1 for the predicted class.
        queries: their number.
        ways: number of classes.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: another number of targets, or one that is no class.
    """
    in_range = (targets >= -1) & (targets < tf.cast(ways, targets.dtype))
    return checked(
        targets,
        (
            tf.size(targets) == queries,
            ["every query must have one target. Received:", queries, "queries and", tf.size(targets), "targets"],
        ),
        (
            in_range,
            [
                "a target must be a class index, or -1 for the predicted class. Received:",
                targets,
                "for",
                ways,
                "classes",
            ],
        ),
    )
