"""Plantae: the 200 plants of iNaturalist 2018 with the most images, split by class."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.base import DomainBuilder, Picture, first_of_each_class, origin_pictures
from egt_tf.errors import DataError

CLASSES = 200
IMAGES_PER_CLASS = 600

_DESCRIPTION = """
The 200 species of the supercategory Plantae with the most training and validation images, and of each the first 600 in
the order of their names. Classes in ascending order of their number of images, equal ones in the order of the set,
counted from 0: i % 2 == 0 is base, i % 4 == 1 is val, i % 4 == 3 is novel.

What is known of the published choice: its script takes the 200 largest folders of plants, orders them so, and draws 600
images of each at random without a seed. What is not: how it ordered folders of equal size (as the disk listed them),
and so which of them are base, val or novel; which images were drawn; whether its folder was that of iNaturalist 2018 as
a whole.
"""
_CITATION = """
@inproceedings{vanhorn2018inaturalist,
  title={The {iNaturalist} species classification and detection dataset},
  author={Van Horn, Grant and Mac Aodha, Oisin and Song, Yang and Cui, Yin and Sun, Chen and Shepard, Alex and Adam,
    Hartwig and Perona, Pietro and Belongie, Serge},
  booktitle={IEEE Conference on Computer Vision and Pattern Recognition},
  year={2018}
}
"""
_LICENCE = "The images belong to their owners; for non-commercial research and education. See the homepage."


class Plantae(DomainBuilder):
    """Plantae on top of i_naturalist2018."""

    VERSION = tfds.core.Version(DOMAINS["plantae"].version)
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.domain_info(
            description=_DESCRIPTION,
            label=tfds.features.ClassLabel(),
            homepage="https://github.com/visipedia/inat_comp/tree/master/2018",
            citation=_CITATION,
            licence=_LICENCE,
        )

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """The first 600 images of each of the 200 largest plants."""
        features, records = self.origin_records(dl_manager, ("train", "validation"), ("id", "supercategory"))
        is_plant = np.array(records.kept["supercategory"]) == features["supercategory"].str2int("Plantae")
        chosen = largest_classes(records.labels[is_plant], CLASSES)
        if len(chosen) < 4:
            raise DataError(f"plantae needs images of at least 4 plants. Received: {len(chosen)} in {records.name}")
        self.info.features["label"].names = [features["label"].names[label] for label in chosen]
        new_label = np.full(features["label"].num_classes, -1)
        new_label[chosen] = np.arange(len(chosen))
        return first_of_each_class(origin_pictures(records, records.kept["id"], new_label), IMAGES_PER_CLASS)


def largest_classes(labels: np.ndarray, count: int) -> list[int]:
    """The `count` labels that occur most often, the rarest first; equally frequent ones by number."""
    found, sizes = np.unique(labels, return_counts=True)
    return found[np.argsort(sizes, kind="stable")][-count:].tolist()
