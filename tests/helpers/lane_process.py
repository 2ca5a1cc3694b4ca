"""What a process of the other lane is asked for; a script that needs nothing of the tests.

python lane_process.py killed CONFIG RUN STEPS
    begins a training that ends like a killed one after so many steps
python lane_process.py explained MODEL IMAGE OUT.npz
    explains an image by a run or an exported model: probabilities and relevance
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

import egt_tf
from egt_tf.keras_api import keras


class Killed(keras.callbacks.Callback):
    """Ends the process after a number of steps; nothing gets to clean up."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if int(self.model.optimizer.iterations.numpy()) >= self.steps:
            os._exit(9)


def killed(config: str, run: str, steps: str) -> None:
    """Trains until the end comes."""
    egt_tf.train(egt_tf.load_config(config), egt_tf.RunFolder(Path(run)), callbacks=[Killed(int(steps))])


def explained(model: str, image: str, out: str) -> None:
    """Writes what is seen of one image."""
    explainer = egt_tf.open_explainer(model)
    found = explainer.explain(egt_tf.load_image(image, explainer.image_size), explainer.support)
    np.savez(
        out,
        probabilities=found.probabilities,
        query_relevance=found.query_relevance,
        support_relevance=found.support_relevance,
    )


if __name__ == "__main__":
    {"killed": killed, "explained": explained}[sys.argv[1]](*sys.argv[2:])
