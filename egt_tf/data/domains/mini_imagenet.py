"""mini-ImageNet (Vinyals et al., NeurIPS 2016) in the split of Ravi & Larochelle (ICLR 2017)."""

from __future__ import annotations

import os
import re
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.base import DomainBuilder, Picture
from egt_tf.data.domains.mini_imagenet_synsets import BASE, NOVEL, VAL
from egt_tf.data.images import IMAGE_SUFFIXES
from egt_tf.errors import DataError

IMAGES_PER_CLASS = 600
WHOLE_TRAINING_SET = "ILSVRC2012_img_train.tar"

_SYNSETS = (*BASE, *VAL, *NOVEL)
_CLASS_FOLDER = re.compile(r"(n\d{8})(?![0-9])")
_CLASS_TAR = re.compile(r"(n\d{8})\.tar")
_DEPTH = 3  # a class lies at most this many levels below the folder, as in images/train/n01532829

_DESCRIPTION = """
100 classes of ImageNet, 64 to train on (base), 16 to validate (val) and 20 to test (novel), made from a folder that you
have: a pre-cut mini-ImageNet or the training images of ImageNet (ILSVRC 2012).

Of a class with more than 600 images, as in ImageNet, the first 600 in the order of their names are taken. Which 600 the
published set holds cannot be told from ImageNet's file names: to have the same, start from a pre-cut folder.
"""
_CITATION = """
@inproceedings{vinyals2016matching,
  title={Matching networks for one shot learning},
  author={Vinyals, Oriol and Blundell, Charles and Lillicrap, Timothy and Kavukcuoglu, Koray and Wierstra, Daan},
  booktitle={Advances in Neural Information Processing Systems},
  year={2016}
}
@inproceedings{ravi2017optimization,
  title={Optimization as a model for few-shot learning},
  author={Ravi, Sachin and Larochelle, Hugo},
  booktitle={International Conference on Learning Representations},
  year={2017}
}
"""
_LICENCE = """
The images belong to their owners and come under ImageNet's terms of access: research and education, not commerce.
ImageNet must be asked for: https://image-net.org/download
"""


class MiniImagenet(DomainBuilder):
    """mini-ImageNet from a folder."""

    VERSION = tfds.core.Version(DOMAINS["mini_imagenet"].version)
    RELEASE_NOTES = {"1.0.0": "First version."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Put here one of: a folder for each of the 100 classes, named by or beginning with its WordNet identifier
    (n01532829), with png, jpeg, bmp or gif images; the same with n01532829.tar in place of folders;
    {WHOLE_TRAINING_SET} of ImageNet (https://image-net.org/download). They may lie in sub-folders such as
    train, val and test; other classes are ignored.
    """

    def _info(self) -> tfds.core.DatasetInfo:
        return self.domain_info(
            description=_DESCRIPTION,
            label=tfds.features.ClassLabel(names=_SYNSETS),
            homepage="https://image-net.org/",
            citation=_CITATION,
            licence=_LICENCE,
        )

    def class_splits(self) -> Mapping[str, Sequence[int]]:
        """The 64, 16 and 20 classes."""
        label = self.info.features["label"].str2int
        return {split: tuple(map(label, names)) for split, names in (("base", BASE), ("val", VAL), ("novel", NOVEL))}

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """The first 600 images of each class of the manual folder."""
        return manual_pictures(Path(dl_manager.manual_dir))


def manual_pictures(folder: Path) -> list[Picture]:
    """The first 600 images of each class in a folder, see `MiniImagenet.MANUAL_DOWNLOAD_INSTRUCTIONS`.

    Raises:
        DataError: a class is missing or has no images, or an archive is damaged.
    """
    found = _images_in_folders(folder) or _images_in_archives(folder)
    missing = [synset for synset in _SYNSETS if synset not in found]
    if missing:
        listed = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"mini_imagenet needs a folder or a .tar with images for each of its {len(_SYNSETS)} classes, or "
            f"{WHOLE_TRAINING_SET}, in {folder}. Received: {len(missing)} classes are missing ({listed})"
        )
    return [
        Picture(label, origin, read)
        for label, synset in enumerate(_SYNSETS)
        for origin, read in sorted(found[synset], key=lambda one: one[0])[:IMAGES_PER_CLASS]
    ]


_Images = dict[str, list[tuple[str, Callable[[], bytes]]]]


def _images_in_folders(folder: Path) -> _Images:
    found: _Images = defaultdict(list)
    for path in _below(folder, _DEPTH):
        match = _CLASS_FOLDER.match(path.name)
        if match and match[1] in _SYNSETS and path.is_dir():
            images = (file for file in path.iterdir() if _is_image(file.name))
            found[match[1]].extend((file.relative_to(folder).as_posix(), file.read_bytes) for file in images)
    return {synset: images for synset, images in found.items() if images}


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Files and folders at most `depth` levels below, but nothing inside of the folder of a class."""
    for path in sorted(folder.iterdir()):
        yield path
        if depth > 1 and path.is_dir() and not _CLASS_FOLDER.match(path.name):
            yield from _below(path, depth - 1)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not os.path.basename(name).startswith(".")


def _images_in_archives(folder: Path) -> _Images:
    found: _Images = defaultdict(list)
    for path in _below(folder, _DEPTH):
        match = _CLASS_TAR.fullmatch(path.name)
        if path.name == WHOLE_TRAINING_SET or (match and match[1] in _SYNSETS):
            for synset, name, start, size in _members(path, match[1] if match else None):
                found[synset].append((f"{synset}/{name}", _slice_reader(path, start, size)))
    return dict(found)


def _members(path: Path, synset: str | None) -> Iterator[tuple[str, str, int, int]]:
    """Class, name, first byte and size of the images in an archive of one class, or in the archive of such archives."""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                inner = None if synset else _CLASS_TAR.fullmatch(os.path.basename(member.name))
                if synset and _is_image(member.name):
                    yield synset, os.path.basename(member.name), member.offset_data, member.size
                elif inner and inner[1] in _SYNSETS:
                    with tarfile.open(fileobj=archive.extractfile(member), mode="r:") as images:
                        for image in filter(lambda image: _is_image(image.name), images):
                            start = member.offset_data + image.offset_data
                            yield inner[1], os.path.basename(image.name), start, image.size
    except (tarfile.TarError, OSError) as error:
        raise DataError(f"cannot read the archive {path}: {error}") from error


def _slice_reader(path: Path, start: int, size: int) -> Callable[[], bytes]:
    def read() -> bytes:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise DataError(f"the archive {path} ends too early; copy or download it again")
        return data

    return read
