"""How long it takes to learn from 20 x 10 photographs, to name one, and to explain one.

    python benchmarks/learning_speed.py FOLDER [--classes 20] [--photos 10] [--rounds 3]

FOLDER has one sub-folder of photographs a class, with one more than `--photos` in each. Learning is timed as a user
waits for it: reading, the features of all photographs, leave-one-out for three heads, and writing the SavedModel with
its explanations. Naming is timed in memory and explaining on the written model, each after its first call, which makes graphs.

What an explanation costs is also given in forward passes of the embedding over the images that it explains, the query
and the stored photographs whose pixels get relevance; both take turns, and the ratio is the median of the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from egt_tf import FewShotClassifier, open_explainer
from egt_tf.data.preprocessing import normalize
from egt_tf.data.sources import open_source
from egt_tf.data.support import as_image


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for name, value in (("classes", 20), ("photos", 10), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    return parser.parse_args()


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Prints the table."""
    arguments = parsed()
    images = open_source(f"folder:{arguments.folder}").split("all")
    members = [each[: arguments.photos + 1] for each in images.members[: arguments.classes]]
    files = [images.describe(index) for each in members for index in each[:-1]]
    labels = [images.class_names[number] for number, each in enumerate(members) for _ in each[:-1]]
    query = images.describe(members[0][-1])

    classifier = FewShotClassifier()
    print(f"learn {len(files)} photographs: {timed(lambda: classifier.fit(files, labels)):6.1f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        print(f"write the model:       {timed(lambda: classifier.save(folder)):6.1f} s", flush=True)
        explainer = open_explainer(folder)
        print(f"explain one, the first:{timed(lambda: explainer.explain(query)):6.2f} s", flush=True)
        pixels = as_image(query, explainer.image_size)
        classifier.predict([pixels])
        print(f"name one:              {timed(lambda: classifier.predict([pixels])):6.2f} s", flush=True)
        compare(classifier, explainer, pixels, arguments.rounds)


def compare(classifier: FewShotClassifier, explainer, pixels: np.ndarray, rounds: int) -> None:
    """An explanation beside forward passes over the images that it explains."""
    explanation = explainer.explain(pixels)
    explained = 1 + int(np.any(explanation.support_relevance != 0, axis=(0, -2, -1)).sum())
    backbone = tf.function(lambda x: classifier._embedding.backbone(x, training=False))
    batch = normalize(np.repeat(pixels[None], explained, axis=0))
    backbone(batch)
    pairs = [(timed(lambda: backbone(batch)), timed(lambda: explainer.explain(pixels))) for _ in range(rounds)]
    ratio = statistics.median(explain / forward for forward, explain in pairs)
    print(f"explain one:           {statistics.median(explain for _, explain in pairs):6.2f} s")
    print(f"that is {ratio:.1f} forward passes over the {explained} images explained, for 2 classes")


if __name__ == "__main__":
    main()
