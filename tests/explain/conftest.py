"""The model that queries and methods are tried on."""

from __future__ import annotations

import pytest

from egt_tf.episodic_model import EpisodicModel


@pytest.fixture(scope="module")
def model():
    """Takes images of 32 pixels."""
    return EpisodicModel.build_from({"name": "conv4", "width": 8}, "relation", 32, seed=2)
