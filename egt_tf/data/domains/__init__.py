"""The five named domains of cross-domain few-shot learning, as builders of TensorFlow Datasets.

Each has the splits base, val and novel by class (see `egt_tf.data.splits`). This module is light: the builders, one
file each, are imported when they are used, and TensorFlow Datasets knows them from then on.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egt_tf.errors import DataError, did_you_mean
from egt_tf.files import expanded


@dataclass(frozen=True)
class Domain:
    """What is known of a domain without its images.

    Attributes:
        name: as in "domain:cub"; the module here and the set of TensorFlow Datasets have the same name.
        title: one line.
        version: of the builder.
        classes: number of classes in base, val and novel.
        images: number of images; None where it depends on what is given.
        origin: the set of TensorFlow Datasets its images come from; None where a folder must be given.
        needs: modules that preparing that set takes beside the requirements of this package.
    """

    name: str
    title: str
    version: str
    classes: tuple[int, int, int]
    images: int | None
    origin: str | None
    needs: tuple[str, ...] = ()


DOMAINS: dict[str, Domain] = {
    domain.name: domain
    for domain in (
        Domain("mini_imagenet", "100 classes of ImageNet, split 64/16/20", "1.0.0", (64, 16, 20), None, None),
        Domain("cub", "200 birds (CUB-200-2011)", "1.0.0", (100, 50, 50), 11_788, "caltech_birds2011", ("cv2",)),
        Domain(
            "cars", "196 cars (Stanford Cars, training images)", "1.0.0", (98, 49, 49), 8_144, "cars196", ("scipy",)
        ),
        Domain("places", "365 scenes (Places365, 200 images each)", "1.0.0", (183, 91, 91), 73_000, "places365_small"),
        Domain("plantae", "200 plants (iNaturalist 2018)", "1.0.0", (100, 50, 50), None, "i_naturalist2018"),
    )
}


def find_domain(name: str) -> Domain:
    """The domain of that name.

    Raises:
        DataError: there is none; names the nearest.
    """
    if name in DOMAINS:
        return DOMAINS[name]
    hint = did_you_mean(name.lower().replace("-", "_"), DOMAINS)
    raise DataError(f"a domain must be one of {', '.join(DOMAINS)}. Received: '{name}'{hint}")


def data_dir() -> Path:
    """Where sets are prepared: TFDS_DATA_DIR, else the default of TensorFlow Datasets."""
    return expanded(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def prepared_folder(domain: Domain) -> Path:
    """Where the prepared files of a domain lie or will lie."""
    return data_dir() / domain.name / domain.version


def is_prepared(domain: Domain) -> bool:
    """Whether they are there. The folder appears whole, so the file that describes it is proof of the others."""
    return (prepared_folder(domain) / "dataset_info.json").is_file()


def domain_builder(domain: Domain) -> Any:
    """The `tfds.core.DatasetBuilder` of a domain, prepared or not; imports TensorFlow Datasets."""
    module = importlib.import_module(f"{__name__}.{domain.name}")
    builder_class = getattr(module, "".join(part.title() for part in domain.name.split("_")))
    return builder_class(data_dir=data_dir())
