"""CUB: the birds of CUB-200-2011, split by class."""

from __future__ import annotations

import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.base import DomainBuilder, Picture, origin_pictures

_DESCRIPTION = """
All 11,788 images of 200 birds, training and test images together. Classes in the order of the set (001 to 200), counted
from 0: i % 2 == 0 is base, i % 4 == 1 is val, i % 4 == 3 is novel, as in the published cross-domain lists.
"""
_CITATION = """
@techreport{wah2011cub,
  title={The {Caltech-UCSD} {Birds}-200-2011 Dataset},
  author={Wah, Catherine and Branson, Steve and Welinder, Peter and Perona, Pietro and Belongie, Serge},
  institution={California Institute of Technology},
  number={CNS-TR-2011-001},
  year={2011}
}
"""
_LICENCE = "The images belong to their owners; for non-commercial research and education. See the homepage."


class Cub(DomainBuilder):
    """CUB on top of caltech_birds2011."""

    VERSION = tfds.core.Version(DOMAINS["cub"].version)
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.domain_info(
            description=_DESCRIPTION,
            label=tfds.features.ClassLabel(),
            homepage="https://www.vision.caltech.edu/datasets/cub_200_2011/",
            citation=_CITATION,
            licence=_LICENCE,
        )

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """All images of both splits; the names of the classes are known only from them."""
        features, records = self.origin_records(dl_manager, ("train", "test"), ("image/filename", "label_name"))
        names = features["label"].names
        for label, name in zip(records.labels.tolist(), records.kept["label_name"], strict=True):
            names[label] = name
        self.info.features["label"].names = names
        return origin_pictures(records, records.kept["image/filename"])
