"""Backbones: Functional Keras models from images to feature maps.

`build_backbone({"name": "conv4"}, image_size=84)` makes one; `BACKBONES.names()` lists them.
"""

from egt_tf.backbones.applications import application
from egt_tf.backbones.base import BACKBONES, build_backbone
from egt_tf.backbones.conv import conv4, conv4np
from egt_tf.backbones.efficientnet_lite import efficientnet_lite0, efficientnet_lite1, efficientnet_lite2
from egt_tf.backbones.keras_file import keras_file
from egt_tf.backbones.resnet import resnet10, resnet12, resnet18
from egt_tf.backbones.vit import vit_small, vit_tiny

__all__ = [
    "BACKBONES",
    "application",
    "build_backbone",
    "conv4",
    "conv4np",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "keras_file",
    "resnet10",
    "resnet12",
    "resnet18",
    "vit_small",
    "vit_tiny",
]
