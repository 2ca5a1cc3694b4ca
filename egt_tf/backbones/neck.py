"""A neck: few trained layers behind an embedding, which bring its channels to a number that heads are quick with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egt_tf.backbones.layers import batch_normalization
from egt_tf.keras_api import keras

if TYPE_CHECKING:
    from egt_tf.backbones.base import InitialWeights

_CONVOLUTION = "neck_conv"


def with_neck(embedding: keras.Model, channels: int, initial: InitialWeights) -> keras.Model:
    """A backbone that is an embedding, a 1x1 convolution, batch normalisation and ReLU.

    Args:
        embedding: a Functional model from images to maps; where it is not trainable, it runs as in inference.
        channels: of the new maps, >= 1.
        initial: gives the weights of the convolution.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> from egt_tf.backbones.base import InitialWeights
        >>> backbone = with_neck(conv4(16, width=2), channels=5, initial=InitialWeights(0))
        >>> [layer.name for layer in backbone.layers]
        ['images', 'conv4', 'neck_conv', 'neck_bn', 'neck_relu']
    """
    images = keras.Input(embedding.input_shape[1:], name="images")
    # Networks with noise of their own (dropout of whole blocks) would not be the same in training otherwise.
    maps = embedding(images) if embedding.trainable else embedding(images, training=False)
    convolution = keras.layers.Conv2D(
        channels, 1, use_bias=False, kernel_initializer=initial.convolution(), name=_CONVOLUTION
    )
    x = batch_normalization("neck_bn")(convolution(maps))
    x = keras.layers.Activation("relu", name="neck_relu")(x)
    return keras.Model(images, x, name=f"{embedding.name}_neck")


def has_neck(backbone: keras.Model) -> bool:
    """Whether `with_neck` made the backbone.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> has_neck(conv4(16, width=2))
        False
    """
    return any(layer.name == _CONVOLUTION for layer in backbone.layers)


def embedding_of(backbone: keras.Model) -> keras.Model:
    """The embedding of a backbone: the model before its neck, or the whole of a backbone without one.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> embedding_of(conv4(16, width=2)).name
        'conv4'
    """
    return backbone.layers[1] if has_neck(backbone) else backbone


def behind_embedding(backbone: keras.Model, nonnegative: bool) -> keras.Model:
    """What a backbone does with the maps of its embedding; it shares the layers, and their weights, of the neck.

    Args:
        backbone: with a neck or without.
        nonnegative: whether the embedding's maps have no value below 0, which then is to be seen from the model.

    Returns:
        A Functional model from maps to maps; without a neck they are the same.

    Example:
        >>> from egt_tf.backbones import conv4
        >>> behind_embedding(conv4(16, width=2), nonnegative=True)(-tf.ones((1, 1, 1, 2))).shape
        TensorShape([1, 1, 1, 2])
    """
    maps = keras.Input(embedding_of(backbone).output_shape[1:], name="maps")
    # Changes no value, but says that none is below 0.
    x = keras.layers.Activation("relu" if nonnegative else "linear", name="embedded")(maps)
    for layer in backbone.layers[2:] if has_neck(backbone) else ():
        x = layer(x)
    return keras.Model(maps, x, name=f"behind_{embedding_of(backbone).name}")
