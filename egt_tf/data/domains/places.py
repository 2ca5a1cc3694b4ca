"""Places: 200 images of each scene of Places365, split by class."""

from __future__ import annotations

import numpy as np
import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.base import DomainBuilder, Picture, first_of_each_class, origin_pictures

IMAGES_PER_CLASS = 200

_DESCRIPTION = """
Of each of the 365 scenes the first 200 training images in the order of their file names. Classes in the order of their
names, counted from 0: i % 2 == 0 is base, i % 4 == 1 is val, i % 4 == 3 is novel. Both as in the published cross-domain
lists, which take their images from the large version of the set; these are those of 256 x 256 pixels.
"""
_CITATION = """
@article{zhou2017places,
  title={Places: A 10 million image database for scene recognition},
  author={Zhou, Bolei and Lapedriza, Agata and Khosla, Aditya and Oliva, Aude and Torralba, Antonio},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year={2017}
}
"""
_LICENCE = "The images belong to their owners. See the homepage for the terms of use."


class Places(DomainBuilder):
    """Places on top of places365_small."""

    VERSION = tfds.core.Version(DOMAINS["places"].version)
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.domain_info(
            description=_DESCRIPTION,
            label=tfds.features.ClassLabel(),
            homepage="http://places2.csail.mit.edu/",
            citation=_CITATION,
            licence=_LICENCE,
        )

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """The first 200 training images of each class."""
        features, records = self.origin_records(dl_manager, ("train",), ("filename",))
        names = features["label"].names
        order = sorted(range(len(names)), key=lambda label: names[label])
        self.info.features["label"].names = [names[label] for label in order]
        new_label = np.argsort(order)
        return first_of_each_class(origin_pictures(records, records.kept["filename"], new_label), IMAGES_PER_CLASS)
