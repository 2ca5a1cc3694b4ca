"""Trains one after the other what its arguments say, in a process of its own: devices are set before TensorFlow starts.

    python distributed_run.py FOLDER DEVICES CONFIGURATIONS.json [float64]

The JSON file maps names to the contents of configurations. With DEVICES > 1 the CPU is divided into as many devices.
With float64 all is computed in double precision.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import tensorflow as tf

from egt_tf.config import config_from_dict
from egt_tf.keras_api import keras
from egt_tf.runs import RunFolder
from egt_tf.training import few_shot
from egt_tf.training.loop import train


def main(folder: str, devices: str, configurations: str, floatx: str = "float32") -> None:
    if int(devices) > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * int(devices)
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    if floatx == "float64":
        keras.backend.set_floatx(floatx)
        # No configuration asks for double precision: layers are to follow what Keras was just told.
        few_shot.layers_in = lambda precision: contextlib.nullcontext()
    for name, content in json.loads(Path(configurations).read_text()).items():
        train(config_from_dict(content, name), RunFolder(Path(folder) / name))


if __name__ == "__main__":
    main(*sys.argv[1:])
