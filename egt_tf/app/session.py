"""What one visitor of the page has taught: classes, photos, the classifier; without any page."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from egt_tf.app.download import write_zip
from egt_tf.data.check import Remark
from egt_tf.data.support import load_image
from egt_tf.errors import DataError
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.explain.methods import get_method
from egt_tf.explain.stored_photos import StoredAnswer
from egt_tf.files import expanded
from egt_tf.learning import FewShotClassifier, Photos, folder_photos, labelled_photos
from egt_tf.learning.report import learning_lines

# Leave-one-out grows with the square of their number.
MAX_PHOTOS = 1000
MAX_NAME = 60
# Other methods than the model's own take all photos through the network at once: some 150 MB each.
MAX_PHOTOS_OF_OTHERS = 40
# What the page offers of the methods, most of which are for comparisons between methods.
METHODS: Mapping[str, str] = MappingProxyType(
    {
        "epsilon_plus": "Relevance: which pixels spoke for the class",
        "epsilon_gamma_box": "Relevance by other rules: a second opinion, slower",
        "grad_cam": "Grad-CAM: which region was looked at, coarsely",
        "input_times_gradient": "Gradient times input: noisy, for comparison",
    }
)


class Session:
    """Classes that grow photo by photo, and what they make of one image at a time.

    A classifier takes two classes; photos of the first one wait for the second.

    Args:
        classifier: what to start from, which stays as it is; one that was not fitted says what to learn by; None: the
            default one, not fitted.

    Example:
        >>> Session().classes
        {}
    """

    def __init__(self, classifier: FewShotClassifier | None = None):
        # Learning replaces attributes and changes none in place, so that copies do not see each other.
        start = FewShotClassifier() if classifier is None else copy.copy(classifier)
        self._classifier = start if hasattr(start, "classes_") else None
        # For what is learnt from the first two classes, and anew after all but one were removed.
        self._parameters = start.get_params()
        self._waiting: tuple[Photos, ...] = ()
        self._left_out: tuple[Remark, ...] = ()
        self._image: np.ndarray | None = None
        self._image_name = ""

    # === Classes ===

    @property
    def classes(self) -> dict[str, int]:
        """Name -> number of photos, sorted."""
        if self._classifier is not None:
            return dict(zip(self._classifier.classes_.tolist(), self._classifier.counts_, strict=True))
        names = [photos.class_names[label] for photos in self._waiting for label in photos.labels]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def is_ready(self) -> bool:
        """Whether there are the two classes that an answer takes."""
        return self._classifier is not None

    @property
    def image_size(self) -> int:
        """Height and width that photos are brought to, in pixels."""
        return int(self._parameters["image_size"])

    def add(self, class_name: str, files: Sequence[str | os.PathLike[str]]) -> None:
        """Learns photos of a class, of a new one or of one that is there.

        Args:
            class_name: spaces around it are left out.
            files: images; those that cannot be read are left out, see `left_out`.

        Raises:
            DataError: no name, one that differs from another class by capitals only, no photo, none that can be read and
                is new, or more than `MAX_PHOTOS` in all.
        """
        name = self._checked_name(class_name)
        if not files:
            raise DataError(f"a class must have a photo. Received: none for {name!r}")
        self._check_number(len(files))
        self._take(labelled_photos(files, [name] * len(files), self.image_size))

    def add_folder(self, folder: str | os.PathLike[str]) -> None:
        """Learns FOLDER/CLASS/PHOTO.

        Args:
            folder: one sub-folder of photos a class.

        Raises:
            DataError: see `add` and `egt_tf.learning.folder_photos`.
        """
        photos = folder_photos(expanded(folder), self.image_size)
        for name in photos.class_names:
            self._checked_name(name, photos.class_names)
        self._check_number(len(photos.labels))
        self._take(photos)

    def remove(self, class_name: str) -> None:
        """Forgets a class; the other of two waits for a second one.

        Args:
            class_name: one of `classes`.

        Raises:
            DataError: no such class, or the photos of the last one are not kept.
        """
        classifier = self._classifier
        if class_name not in self.classes:
            raise DataError(f"the class must be one of {', '.join(self.classes) or 'none'}. Received: {class_name!r}")
        if classifier is None:
            self._waiting = ()
        elif len(self.classes) == 2:
            self._waiting = (_photos_but(classifier, class_name),)
            self._classifier = None
        else:
            classifier.remove(class_name)

    @property
    def left_out(self) -> list[str]:
        """Of the photos added last, those that were not taken, and why."""
        found = self._left_out if self._classifier is None else (*self._left_out, *self._classifier.left_out_)
        return [str(remark) for remark in found]

    @property
    def tested(self) -> tuple[int, int] | None:
        """How many photos the others named rightly, and of how many; None where no class has two photos."""
        if self._classifier is None or self._classifier.fit_.report.interval is None:
            return None
        return self._classifier.fit_.report.right, self._classifier.fit_.report.count

    def report(self) -> list[str]:
        """What was learnt, in the sentences of `egt-tf learn`; none while there are no two classes."""
        return [] if self._classifier is None else learning_lines(self._classifier)

    def examples(self, count: int) -> list[tuple[np.ndarray, str]]:
        """The first photos of each class with its name, uint8 `(size, size, 3)`; none of a model without photos.

        Args:
            count: so many of each class at most.
        """
        if self._classifier is None:
            pixels, labels, _ = _listed(self._waiting)
        elif self._classifier.has_photos:
            support = self._classifier.support
            pixels = list(support.flat_images)
            labels = [support.class_names[label] for label in support.flat_labels]
        else:
            return []
        places = {name: [place for place, label in enumerate(labels) if label == name] for name in sorted(set(labels))}
        return [(pixels[place], name) for name, own in places.items() for place in own[:count]]

    # === An image ===

    def show(self, file: str | os.PathLike[str], name: str = "") -> None:
        """Takes the image that is asked about from now on.

        Args:
            file: of any format that is read here.
            name: what it is called; by default as the file.

        Raises:
            DataError: it cannot be read.
        """
        self._image, self._image_name = load_image(file, self.image_size), name or os.path.basename(file)

    def answer(self) -> StoredAnswer:
        """What the image is taken for; `known` is None where that cannot be calibrated.

        Raises:
            DataError: no image, or fewer than two classes.
        """
        image, classifier = self._asked()
        known = None if classifier.fit_.threshold is None else bool(classifier.known([image])[0])
        return StoredAnswer(classifier.predict_proba([image])[0], known)

    def explain(self, method: str) -> EpisodeExplanation:
        """Explains that answer.

        Args:
            method: one of `methods`.

        Raises:
            DataError: see `answer`.
            ExplainError: the method does not suit the classifier.
        """
        image, classifier = self._asked()
        chosen = None if method == self.methods[0] else method
        return classifier.explain(image, method=chosen, image_name=self._image_name)

    @property
    def methods(self) -> tuple[str, ...]:
        """Ways to explain, the classifier's own first; others take the photos, which a model may be without or have many of."""
        if self._classifier is None:
            return tuple(METHODS)
        own = get_method(self._classifier.composite).name
        few = sum(self.classes.values()) <= MAX_PHOTOS_OF_OTHERS
        others = [name for name in METHODS if name != own] if self._classifier.has_photos and few else []
        return (own, *others)

    # === Files ===

    def write(self, folder: Path, name: str, form: str, photos: bool = True) -> Path:
        """Writes the classifier as a zip file.

        Args:
            folder: where to.
            name: of the model, and of the file.
            form: "saved_model" for servers and for `egt-tf predict --model`, or "lite" for telephones.
            photos: whether the photos are in a SavedModel, which explanations show.

        Returns:
            The file.

        Raises:
            DataError: fewer than two classes, or a name that cannot be one of a file.
            ExportError: no such form.
            OSError: it cannot be written.
        """
        if self._classifier is None:
            raise DataError(f"a model takes two classes. Received: {', '.join(self.classes) or 'none yet'}")
        return write_zip(self._classifier, folder, name, form, photos)

    # === Parts ===

    def _asked(self) -> tuple[np.ndarray, FewShotClassifier]:
        if self._classifier is None:
            raise DataError(f"an answer takes two classes. Received: {', '.join(self.classes) or 'none yet'}")
        if self._image is None:
            raise DataError("an answer takes a photo. Received: none yet")
        return self._image, self._classifier

    def _take(self, photos: Photos) -> None:
        waiting = (*self._waiting, photos)
        pixels, labels, names = _listed(waiting)
        if self._classifier is not None:
            self._classifier.add(pixels, labels, names=names)
        elif len(set(labels)) >= 2:
            self._classifier = FewShotClassifier(**self._parameters).fit(pixels, labels, names=names)
        self._waiting = () if self.is_ready else waiting
        self._left_out = photos.left_out

    def _checked_name(self, text: str, beside: Sequence[str] = ()) -> str:
        name = " ".join((text or "").split())
        if not name or len(name) > MAX_NAME:
            raise DataError(f"a class must have a name of at most {MAX_NAME} characters. Received: {name!r}")
        alike = [other for other in (*self.classes, *beside) if other != name and other.casefold() == name.casefold()]
        if alike:
            raise DataError(f"two classes must not have the same name. Received: {name!r} beside {alike[0]!r}")
        return name

    def _check_number(self, new: int) -> None:
        there = sum(self.classes.values())
        if there + new > MAX_PHOTOS:
            raise DataError(f"there may be {MAX_PHOTOS} photos in all. Received: {there} and {new} more")


def _listed(waiting: Iterable[Photos]) -> tuple[list[np.ndarray], list[str], list[str]]:
    """Pixels, class and name of each photo, as `FewShotClassifier.fit` takes them."""
    pixels, labels, names = [], [], []
    for photos in waiting:
        classes = [photos.class_names[label] for label in photos.labels]
        pixels += list(photos.pixels)
        labels += classes
        names += [name.removeprefix(f"{of}/") for name, of in zip(photos.names, classes, strict=True)]
    return pixels, labels, names


def _photos_but(classifier: FewShotClassifier, class_name: str) -> Photos:
    """The photos of the other of two classes."""
    if not classifier.has_photos:
        raise DataError("two classes must stay in a model without photos. Received: two")
    (kept,) = (name for name in classifier.classes_.tolist() if name != class_name)
    chosen = classifier.classes_[classifier.support.flat_labels] == kept
    pixels = list(classifier.support.flat_images[chosen])
    names = [name.removeprefix(f"{kept}/") for name in np.array(classifier.photo_names_)[chosen].tolist()]
    return labelled_photos(pixels, [kept] * len(pixels), classifier.image_size, names=names)
