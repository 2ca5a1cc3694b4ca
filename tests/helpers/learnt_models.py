"""Photos of three classes, drawn, and the model that is learnt from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egt_tf.data import synthetic
from egt_tf.export.signatures import Signatures
from egt_tf.learning import FewShotClassifier
from tests.helpers.shared import shared_folder

SIZE = 32
SPEC = {"name": "conv4", "width": 4}
COUNTS = {"ant": 4, "bee": 2, "cow": 7}


def photos_of(index: int, count: int, first: int = 0) -> list[np.ndarray]:
    """Drawn images of a class."""
    return [synthetic.draw("shapes", index, first + instance, size=SIZE)[0] for instance in range(count)]


def labelled() -> tuple[list[np.ndarray], list[str]]:
    """Photos and their classes, the classes mixed."""
    pairs = [(photo, name) for k, (name, n) in enumerate(COUNTS.items()) for photo in photos_of(7 * k, n)]
    order = np.random.default_rng(0).permutation(len(pairs))
    return [pairs[i][0] for i in order], [pairs[i][1] for i in order]


def learnt(**arguments) -> FewShotClassifier:
    """A classifier of `labelled`."""
    return FewShotClassifier(SPEC, image_size=SIZE, **arguments).fit(*labelled())


def learnt_model(factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with the head cosine and all its signatures. Not to be written to."""
    return shared_folder(factory, "learnt/animals", lambda folder: learnt(head="cosine").save(folder))


def write_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are written with one signature from now on: the others take longer to write."""
    every = Signatures.all
    monkeypatch.setattr(Signatures, "all", lambda self: {"serving_default": every(self)["serving_default"]})
