"""What the builders of all domains share."""

from __future__ import annotations

import functools
import importlib.util
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS, Domain
from egt_tf.data.records import Records, read_records
from egt_tf.data.splits import SPLIT_NAMES, published_split_rule
from egt_tf.errors import DataError


@dataclass(frozen=True)
class Picture:
    """An image of a domain before it is written.

    Attributes:
        label: its class.
        origin: what it is called where it comes from; no two of a domain are called the same.
        read: gives its encoded bytes.
    """

    label: int
    origin: str
    read: Callable[[], bytes]


# Without types, the base class looks like any object to the type checker.
class DomainBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A set with the splits base, val and novel by class, made of encoded images that are kept byte by byte.

    An example has 'image' (uint8 `(height, width, 3)` when decoded), 'label' (its class) and 'origin' (what the image
    is called where it comes from). Subclasses say what there is (`_info`, by `domain_info`), give the images
    (`pictures`), and may split otherwise than by the rule of the published lists (`class_splits`).
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = "Files that cannot be downloaded may be put here by hand."

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """All images; sets the names of the classes if they were unknown."""
        raise NotImplementedError

    def class_splits(self) -> Mapping[str, Sequence[int]]:
        """The classes of base, val and novel."""
        return published_split_rule(self.info.features["label"].num_classes)

    def domain_info(
        self, *, description: str, label: tfds.features.ClassLabel, homepage: str, citation: str, licence: str
    ) -> tfds.core.DatasetInfo:
        """What TensorFlow Datasets wants to know."""
        return tfds.core.DatasetInfo(
            builder=self,
            description=description,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "label": label, "origin": tfds.features.Text()}
            ),
            supervised_keys=("image", "label"),
            homepage=homepage,
            citation=citation,
            license=licence,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        pictures = self.pictures(dl_manager)
        splits = self.class_splits()
        return {
            split: self._generate_examples([one for one in pictures if one.label in frozenset(splits[split])])
            for split in SPLIT_NAMES
        }

    def _generate_examples(self, pictures: Sequence[Picture]) -> Iterator[tuple[str, dict[str, Any]]]:
        for one in pictures:
            yield one.origin, {"image": io.BytesIO(one.read()), "label": one.label, "origin": one.origin}

    def origin_records(
        self, dl_manager: tfds.download.DownloadManager, splits: Sequence[str], keep: Sequence[str]
    ) -> tuple[Any, Records]:
        """Prepares the set that the images come from, unless it is, and indexes it.

        This is the only place of the package that may download anything.

        Returns:
            its features, and where its labelled examples of `splits` are, with the features `keep`.

        Raises:
            DataError: it cannot be downloaded or read; says which files can be fetched by hand.
        """
        domain = DOMAINS[self.name]
        builder = tfds.builder(domain.origin, data_dir=self.data_dir_root, try_gcs=False)
        if not builder.info.splits:
            _check_modules(domain)
            _prepare_origin(builder, dl_manager)
        return builder.info.features, read_records(f"tfds:{domain.origin}", builder, splits, keep)


def origin_pictures(records: Records, origins: Sequence[str], new_label: np.ndarray | None = None) -> list[Picture]:
    """The images of another set.

    Args:
        records: where they are.
        origins: what each is called there, see `Picture`.
        new_label: label here of each label there, -1 for a class that is left out; the same labels by default.
    """
    labels = records.labels if new_label is None else np.asarray(new_label)[records.labels]
    return [
        Picture(label, origin, functools.partial(records.image, index))
        for index, (label, origin) in enumerate(zip(labels.tolist(), origins, strict=True))
        if label >= 0
    ]


def first_of_each_class(pictures: Iterable[Picture], count: int) -> list[Picture]:
    """At most `count` images of each class, the first in the order of what they are called."""
    taken: Counter[int] = Counter()
    first = []
    for one in sorted(pictures, key=lambda one: (one.label, one.origin)):
        if taken[one.label] < count:
            taken[one.label] += 1
            first.append(one)
    return first


def _check_modules(domain: Domain) -> None:
    """TensorFlow Datasets would find out only after the download."""
    missing = [name for name in domain.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise DataError(
            f"preparing {domain.name} takes the Python module {missing[0]}, which is not installed; "
            "get it by: pip install 'egt-tf[data]'"
        )


def _prepare_origin(builder: Any, dl_manager: tfds.download.DownloadManager) -> None:
    by_hand = _manual_dir(dl_manager)
    config = tfds.download.DownloadConfig(manual_dir=by_hand, try_download_gcs=False)
    try:
        builder.download_and_prepare(download_dir=dl_manager.download_dir, download_config=config)
    # Whatever a server, a proxy, a changed archive or a full disk may raise: the way out is the same.
    except Exception as error:
        files = ", ".join(sorted({info.filename for info in (builder.url_infos or {}).values() if info.filename}))
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(
            f"TensorFlow Datasets cannot prepare {builder.name} ({reason}); files that cannot be downloaded may be put "
            f"by hand into {by_hand or dl_manager.download_dir / 'manual'}: {files or 'none known'}"
        ) from error


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> Any:
    try:
        return dl_manager.manual_dir
    # It does not exist or is empty, which is no mistake here.
    except AssertionError:
        return None
