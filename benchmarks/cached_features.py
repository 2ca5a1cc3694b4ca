"""What the training loop costs beside the step itself, where the maps of a frozen backbone are computed once.

    python benchmarks/cached_features.py [--head relation ...] [--epochs 16] [--steps 20] [--json FILE]

5-way 5-shot 8-query, maps of 7x7x64 (Conv4 at 112 px, frozen), one episode a step. After every epoch of the training
as `egt-tf train` does it, the bare step of an equal model, compiled by `tf.function`, runs as often on maps that are in
memory, so that the machine's speed drifts for both alike; the ratio is the median of the epochs' ratios. The first epoch
traces and is left out. Validation and checkpoints between two epochs are not counted, as in the `seconds` of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WAYS, SHOTS, QUERIES, SIDE = 5, 5, 8, 112
HEADS = {
    "relation": {"head": "relation", "composite": "fsc"},
    "cross_attention": {"head": "cross_attention", "composite": "fsc_can"},
}
MODES = {"plain": "none", "guided": "guided"}


def write_images(folder: Path) -> None:
    """Files of noise: what is on them does not matter."""
    from egt_tf.files import write_png

    rng = np.random.default_rng(0)
    for number in range(400):
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        write_png(folder / f"class{number % 20:02d}" / f"{number:03d}.png", pixels)


def configuration(images: Path, head: str, mode: str, epochs: int, steps: int):
    """The run of one case."""
    from egt_tf.config import config_from_dict

    return config_from_dict(
        {
            "data": {"train": f"folder:{images}", "image_size": SIDE},
            "episode": {"ways": WAYS, "shots": SHOTS, "queries": QUERIES},
            "model": {"backbone": {"name": "conv4", "trainable": False}, "head": HEADS[head]["head"]},
            "guidance": {"mode": MODES[mode], "composite": HEADS[head]["composite"]},
            "training": {
                "epochs": epochs,
                "episodes_per_epoch": steps,
                "validation_episodes": 1,
                "figure_every": 0,
                "strategy": "default",
            },
        },
        "the benchmark",
    )


def bare_step(model):
    """The compiled training step of an equal model on maps in memory."""
    import tensorflow as tf

    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.training.guided_model import GuidedModel

    copy = GuidedModel(
        EpisodicModel.from_config(model.classifier.get_config()),
        model.loss_weights.plain,
        model.loss_weights.guided,
        model.composite_identifier,
    )
    copy.compile(optimizer=type(model.optimizer).from_config(model.optimizer.get_config()))
    rng = np.random.default_rng(0)

    def maps(count):
        shape = (1, WAYS * count, *copy.classifier.backbone.input_shape[1:])
        return tf.constant(np.abs(rng.normal(size=shape)).astype(np.float32))

    labels = tf.constant(np.repeat(np.arange(WAYS), QUERIES)[None].astype(np.int32))
    support_labels = tf.constant(np.repeat(np.eye(WAYS, dtype=np.float32), SHOTS, 0)[None])
    data = (
        {"support_images": maps(SHOTS), "support_labels": support_labels, "query_images": maps(QUERIES)},
        labels,
        labels,
    )
    step = tf.function(copy.train_step)
    return lambda: float(step(data)["loss"])


def compare(config, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of a step of the loop and of the bare step, after each epoch but the first."""
    from egt_tf.keras_api import keras
    from egt_tf.runs import RunFolder
    from egt_tf.training.loop import train
    from egt_tf_cli.progress import training_progress

    steps, times = config.training.episodes_per_epoch, {"loop": [], "bare": []}

    class Bare(keras.callbacks.Callback):
        """Runs the bare step as often as the epoch had steps."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.step = bare_step(self.model)
                self.step()
                self.step()
                return
            began = time.perf_counter()
            for _ in range(steps):
                self.step()
            times["bare"].append(1000 * (time.perf_counter() - began) / steps)
            times["loop"].append(1000 * logs["seconds"] / steps)

    progress = training_progress(config.training.epochs, 1, "episodes", lambda line: None)
    train(config, RunFolder(folder / "run"), callbacks=[Bare(), progress])
    return times


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_images(images)
        for head in arguments.head:
            for mode in arguments.mode:
                config = configuration(images, head, mode, arguments.epochs, arguments.steps)
                times = compare(config, Path(folder) / f"{head}-{mode}")
                ratios = np.array(times["loop"]) / np.array(times["bare"])
                results[f"{head} {mode}"] = {"ratio": float(np.median(ratios)), **times}
                print(
                    f"{head:16s} {mode:7s} loop {np.median(times['loop']):6.1f} ms  bare step "
                    f"{np.median(times['bare']):6.1f} ms  ratio {np.median(ratios):.2f}",
                    flush=True,
                )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
