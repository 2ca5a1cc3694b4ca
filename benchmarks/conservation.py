"""How much of the output's relevance each stage of a ResNet-10 still holds, composite by composite.

    python benchmarks/conservation.py [RUN] [--images 8]

RUN is a trained run with a resnet10 backbone; without it one is trained for a minute on drawn shapes, as a plain
classifier of the base classes. Batch normalisation is folded, biases are left out of the rules where they can be, and
relevance starts at the feature map with the map itself. Printed is the sum of relevance at each stage over the sum at
the start, in float32, as one computes it in practice.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf.backbones import resnet10
from egt_tf.data.loading import image_batches
from egt_tf.data.sources import open_source
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, record, reverse
from egt_tf.lrp.canonizers import fold_batch_norm
from egt_tf.runs import RunFolder

SIZE = 84
STAGES = {
    "stage 3": "stage3_block1_relu",
    "stage 2": "stage2_block1_relu",
    "stage 1": "stage1_block1_relu",
    "stem": "stem_relu",
}
COMPOSITE_CONFIGS = (
    {"name": "epsilon", "bias": False},
    {"name": "epsilon", "bias": False, "epsilon": 1e-3},
    {"name": "epsilon_plus", "bias": False},
    {"name": "epsilon_gamma_box", "bias": False},
    {"name": "epsilon_alpha2_beta1_flat", "bias": False},
    {"name": "fsc"},
)


def train_backbone(steps: int = 60, batch: int = 32) -> keras.Model:
    """A ResNet-10 with the small stem, trained as a classifier of the drawn base classes."""
    keras.utils.set_random_seed(0)
    images = open_source("synthetic:shapes").split("base")
    rng = np.random.default_rng(0)
    labels = rng.integers(len(images.members), size=steps * batch)
    indices = np.array([rng.choice(images.members[label]) for label in labels])
    backbone = resnet10(SIZE, stem="small", seed=0)
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, keras.layers.Dense(len(images.members))(pooled))
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = image_batches(images, indices, image_size=SIZE, batch_size=batch)
    model.fit(tf.data.Dataset.zip((batches, tf.data.Dataset.from_tensor_slices(labels).batch(batch))), verbose=0)
    return backbone


def shares(backbone: keras.Model, images: tf.Tensor, composite) -> list[float]:
    """Relevance at each stage, and at the pixels, over that at the feature map."""
    trace = record(backbone, [images])
    wanted = [trace.output_of(layer) for layer in STAGES.values()] + [trace.inputs[0]]
    output_relevance = trace.outputs[0]
    total = float(tf.reduce_sum(output_relevance))
    return [float(tf.reduce_sum(r)) / total for r in reverse(trace, output_relevance, composite, wanted)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--images", type=int, default=8)
    arguments = parser.parse_args()
    backbone = train_backbone() if arguments.run is None else RunFolder(arguments.run).load_model().backbone
    folded = fold_batch_norm(backbone)
    source = open_source("synthetic:shapes").split("novel")
    indices = [members[0] for members in source.members[: arguments.images]]
    images = next(iter(image_batches(source, indices, image_size=backbone.input_shape[1], batch_size=len(indices))))
    print(f"relevance at each stage / at the feature map; {len(indices)} images, batch normalisation folded, no biases")
    print(f"{'composite':34s}" + "".join(f"{name:>10s}" for name in (*STAGES, "pixels")))
    for config in COMPOSITE_CONFIGS:
        label = config["name"] + (f" {config['epsilon']:g}" if "epsilon" in config else "")
        print(f"{label:34s}" + "".join(f"{share:10.4f}" for share in shares(folded, images, COMPOSITES.get(config))))


if __name__ == "__main__":
    main()
