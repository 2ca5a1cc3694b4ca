"""The Python blocks of the documentation run, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import tensorflow as tf

from egt_tf.backbones import resnet10
from egt_tf.keras_api import keras
from egt_tf.lrp import LRP

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "explaining.md").read_text(encoding="utf-8")


def test_explaining():
    backbone = resnet10(32, stem="small", widths=(4, 4, 4, 4), seed=0)
    scores = keras.layers.Dense(10)(keras.layers.Flatten()(backbone.output))
    names = {"model": keras.Model(backbone.input, scores), "images": np.ones((2, 32, 32, 3), np.float32)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "docs/explaining.md", "exec"), names)  # our own text, not input
    assert names["relevance"].shape == (2, 32, 32, 3)
    assert names["several"].shape == (3, 2, 32, 32, 3)
    assert names["composite"].entries[0].first
    inputs = keras.Input((4,))
    own = keras.Model(inputs, names["Scale"]()(names["SwapHalves"]()(inputs)))
    own.set_weights([np.array([1.0, 2.0, 3.0, 4.0])])
    x = np.array([[1.0, 1.0, 2.0, 2.0]], np.float32)
    # Scores 2, 4, 3, 4 from the inputs 2, 2, 1, 1: each goes back to where its input was swapped from.
    np.testing.assert_allclose(LRP(own, neuron_selection_mode="all").analyze(x), [[3.0, 4.0, 2.0, 4.0]], rtol=0.02)
    tf.debugging.assert_equal(own(x), [[2.0, 4.0, 3.0, 4.0]])
