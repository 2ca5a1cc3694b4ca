"""python -m egt_tf.explain.innvestigate_process REQUEST.npz RESPONSE.npz

Runs one analyzer of innvestigate on a backbone with a linear read-out, in TensorFlow's graph mode. See
`innvestigate_methods.py` for the other side. Neither file holds pickled objects.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorflow as tf
from tensorflow import keras

import egt_tf.backbones  # noqa: F401 (Keras must know the layers of the backbone that it reads)


def answer(request: str, response: str) -> None:
    """Reads a request and writes the maps, or the reason why there are none."""
    import innvestigate

    tf.compat.v1.disable_eager_execution()
    # Without it, a gradient through batch normalisation asks for a training flag that nobody feeds.
    keras.backend.set_learning_phase(0)
    with np.load(request, allow_pickle=False) as arrays:
        given = {name: arrays[name] for name in arrays.files}
    model = _with_readout(given)
    try:
        analyzer = innvestigate.create_analyzer(str(given["analyzer"]), model, neuron_selection_mode="index")
        # Output i reads out image i.
        maps = analyzer.analyze(given["images"], neuron_selection=list(range(len(given["images"]))))
    except Exception as error:  # whatever innvestigate raises is its reason, and is handed on
        reason = " ".join(str(error).split()) or "no reason given"
        np.savez(response, error=f"{type(error).__name__}: {reason}")
        return
    np.savez(response, maps=maps)


def _with_readout(given: dict[str, np.ndarray]) -> keras.Model:
    backbone = keras.Model.from_config(json.loads(str(given["backbone"])))
    backbone.set_weights([given[f"weight{index}"] for index in range(len(backbone.get_weights()))])
    flat = keras.layers.Flatten(name="readout_features")(backbone.output)
    readout = keras.layers.Dense(len(given["readout"]), use_bias=False, name="readout")
    model = keras.Model(backbone.input, readout(flat))
    readout.set_weights([given["readout"].T])
    return model


if __name__ == "__main__":
    answer(*sys.argv[1:])
