"""Makes the model files beside it, as people with Keras 3 have them.

    python -m venv keras3 && keras3/bin/pip install keras h5py numpy scipy
    KERAS_BACKEND=numpy keras3/bin/python make_keras3_files.py

Each comes with its outputs for a ramp of grey levels, in an .npz file of the same name.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
from keras import layers as L

FOLDER = Path(__file__).parent
SIZE = 12


def functional() -> keras.Model:
    images = keras.Input((SIZE, SIZE, 3), name="photo")
    x = L.Rescaling(1 / 128, offset=-1)(images)
    x = L.RandomFlip("horizontal")(x)
    x = L.Conv2D(4, 3, padding="same", use_bias=False, kernel_regularizer="l2")(x)
    x = L.BatchNormalization()(x)
    x = before = L.Activation("relu")(x)
    x = L.SeparableConv2D(4, 3, padding="same", activation="silu")(x)
    x = L.Dropout(0.3)(x)
    x = L.add([before, x])
    x = L.MaxPooling2D()(x)
    x = L.LeakyReLU(negative_slope=0.2, name="last_map")(L.DepthwiseConv2D(3)(x))
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(images, L.Dense(2, activation="softmax")(x))


def sequential() -> keras.Model:
    inner = keras.Sequential([keras.Input((SIZE, SIZE, 3)), L.Conv2D(3, 3), L.BatchNormalization(), L.ReLU(6.0)])
    return keras.Sequential(
        [keras.Input((SIZE, SIZE, 3)), inner, L.Conv2D(2, 1, name="last_map"), L.Flatten(), L.Dense(2)]
    )


def main() -> None:
    """Writes the files; weights are random, those of the normalisations as well."""
    ramp = (np.arange(2 * SIZE * SIZE * 3).reshape(2, SIZE, SIZE, 3) * 7 % 256).astype(np.float32)
    for make in (functional, sequential):
        keras.utils.set_random_seed(3)
        model = make()
        rng = np.random.default_rng(4)
        model.set_weights([rng.uniform(0.1, 0.6, weight.shape) for weight in model.get_weights()])
        for suffix in ("keras", "h5"):
            model.save(FOLDER / f"keras3_{make.__name__}.{suffix}")
        maps = keras.Model(model.inputs, model.get_layer("last_map").output)
        np.savez(FOLDER / f"keras3_{make.__name__}.npz", images=ramp, maps=np.asarray(maps(ramp, training=False)))


if __name__ == "__main__":
    main()
