"""Cars: the training images of Stanford Cars, split by class."""

from __future__ import annotations

import tensorflow_datasets as tfds

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.base import DomainBuilder, Picture, origin_pictures

_DESCRIPTION = """
The 8,144 training images of 196 cars; the published cross-domain lists leave the test images out. Classes in the order
of the set, counted from 0: i % 2 == 0 is base, i % 4 == 1 is val, i % 4 == 3 is novel, as in those lists.
"""
_CITATION = """
@inproceedings{krause2013object,
  title={3{D} object representations for fine-grained categorization},
  author={Krause, Jonathan and Stark, Michael and Deng, Jia and Fei-Fei, Li},
  booktitle={4th International IEEE Workshop on 3D Representation and Recognition},
  year={2013}
}
"""
_LICENCE = "No licence comes with the files; the images belong to their owners. See the homepage for the terms of use."


class Cars(DomainBuilder):
    """Cars on top of cars196."""

    VERSION = tfds.core.Version(DOMAINS["cars"].version)
    RELEASE_NOTES = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.domain_info(
            description=_DESCRIPTION,
            label=tfds.features.ClassLabel(),
            homepage="https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
            citation=_CITATION,
            licence=_LICENCE,
        )

    def pictures(self, dl_manager: tfds.download.DownloadManager) -> list[Picture]:
        """The training images."""
        features, records = self.origin_records(dl_manager, ("train",), ("id",))
        self.info.features["label"].names = features["label"].names
        return origin_pictures(records, records.kept["id"])
