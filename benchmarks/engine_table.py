"""Both engines of LRP side by side: do they agree, and is relevance conserved?

    python benchmarks/engine_table.py [--networks resnet10 vit_tiny ...] [--composites epsilon cp_lrp ...]

Networks with random weights and no biases, two images, one score an image: the largest value of the network's pooled
output. For each network and composite is printed

- sum: the relevance of all pixels over the score, in float64 by the walker. 1 is conserved; the softmax rule of attn_lrp
  conserves nothing, and z+ loses what arrives at units without one positive product.
- float64: the largest difference between the engines over the largest relevance.
- float32: the same in float32, and beside it, how far the walker in float32 is from the walker in float64, which is
  what cancellation in the network leaves to agree on.

"-" where a rule has no form as a gradient.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.base import without_pretrained
from egt_tf.explain import get_method
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.gradient_form import has_form, reverse_gradient

# Images no larger than it takes.
NETWORKS = {
    "conv4": 84,
    "resnet10": 84,
    "efficientnet_lite0": 64,
    "applications:ConvNeXtTiny": 64,
    "applications:EfficientNetV2B0": 64,
    "applications:MobileNetV3Small": 64,
    "vit_tiny": 64,
}
# Parameters that are added: they would keep a share.
SHIFTS = ("bias", "beta", "moving_mean", "embedding", "tokens")
COMPOSITE_NAMES = (
    "fsc",
    "lrp.epsilon",
    "epsilon",
    "epsilon_plus",
    "epsilon_gamma_box",
    "cp_lrp",
    "attn_lrp",
    "vit_gamma",
)


@contextlib.contextmanager
def precision(dtype: str) -> Iterator[None]:
    """New layers, folded ones among them, compute in it."""
    keras.backend.set_floatx(dtype)
    try:
        yield
    finally:
        keras.backend.set_floatx("float32")


def scoring(network: str, size: int) -> keras.Model:
    """A backbone whose maps are averaged."""
    backbone = BACKBONES.get(without_pretrained(network), image_size=size, seed=0)
    return keras.Model(backbone.input, keras.layers.GlobalAveragePooling2D()(backbone.output))


def without_biases(model: keras.Model, images: np.ndarray) -> None:
    """Gives normalisations the statistics of the images, without which deep signals fade, and takes all shifts away."""
    normalizations = [each for each in model._flatten_layers() if isinstance(each, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images, training=True)
    for variable in model.weights:
        if variable.name.split("/")[-1].split(":")[0] in SHIFTS:
            variable.assign(tf.zeros_like(variable))


def relevance(model: keras.Model, images: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """By the walker, by the gradient (None: no such form), and the scores; in the precision of the model."""
    # Where `egt-tf explain` folds normalisation for a composite, so does this.
    trace = record(get_method(name).prepared(model), [tf.constant(images, model.inputs[0].dtype)])
    scores, composite = trace.outputs[0], COMPOSITES.get(name)
    chosen = tf.one_hot(tf.argmax(scores, axis=1), scores.shape[-1], dtype=scores.dtype)
    (walked,) = reverse(trace, chosen * scores, composite)
    if not has_form(trace, composite, None, scores):
        return walked.numpy(), None, tf.reduce_max(scores, axis=1).numpy()
    (of_gradient,) = reverse_gradient(trace, chosen, composite)
    return walked.numpy(), of_gradient.numpy(), tf.reduce_max(scores, axis=1).numpy()


def gap(got: np.ndarray | None, expected: np.ndarray) -> str:
    """The largest difference over the largest value."""
    return "-" if got is None else f"{np.abs(got - expected).max() / np.abs(expected).max():.0e}"


def rows(network: str, size: int, names: list[str]) -> Iterator[str]:
    """One line for each composite."""
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    single = scoring(network, size)
    without_biases(single, images)
    with precision("float64"):
        wide = scoring(network, size)
    wide.set_weights([weight.astype(np.float64) for weight in single.get_weights()])
    for name in names:
        with precision("float64"):
            walked, of_gradient, scores = relevance(wide, images, name)
        walked_32, of_gradient_32, _ = relevance(single, images, name)
        sums = walked.sum(axis=(1, 2, 3)) / scores
        worst = sums[np.argmax(np.abs(sums - 1))]
        yield (
            f"{network:30s} {name:18s} {worst:9.4f} {gap(of_gradient, walked):>9s} "
            f"{gap(of_gradient_32, walked_32):>9s} {gap(walked_32, walked):>9s}"
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--composites", nargs="+", default=COMPOSITE_NAMES, choices=COMPOSITES.names())
    arguments = parser.parse_args()
    print(f"{'network':30s} {'composite':18s} {'sum':>9s} {'float64':>9s} {'float32':>9s} {'walker 32':>9s}")
    for network in arguments.networks:
        for row in rows(network, NETWORKS[network], arguments.composites):
            print(row, flush=True)


if __name__ == "__main__":
    main()
