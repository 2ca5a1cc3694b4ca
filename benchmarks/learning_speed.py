"""Seconds to learn 20 classes of 10 photographs, and to predict and explain one, in this process after start-up.

    python benchmarks/learning_speed.py [--classes 20] [--photos 10] [--side 1600]

The photographs are drawn images of SIDE pixels, written as JPEG files: reading and shrinking them is part of the time.
`predict` and `explain` are the medians of several calls of the written model, whose first call is printed beside them.
Passes are what `explain` takes against one forward pass of the embedding over the images that it explains.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

import egt_tf
from egt_tf.data.synthetic import draw
from egt_tf.learning.embedding import Embedding
from egt_tf.serving.classification import classify_file

CALLS = 5


def write_photos(folder: Path, classes: int, photos: int, side: int) -> None:
    """JPEG files, one sub-folder a class."""
    for index in range(classes):
        (folder / f"class{index:02d}").mkdir(parents=True)
        for number in range(photos):
            image = Image.fromarray(draw("shapes", index, number, size=224)[0]).resize((side, side))
            image.save(folder / f"class{index:02d}" / f"{number}.jpg", quality=90)


def seconds(call: Callable[[], object]) -> float:
    """That a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def report(what: str, call: Callable[[], object]) -> float:
    """Prints the first call and the median of the next ones, which is returned."""
    first, median = seconds(call), statistics.median(seconds(call) for _ in range(CALLS))
    print(f"{what:32s} {median:8.3f} s   (first call {first:.3f} s)")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--side", type=int, default=1600)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, model = Path(temporary, "photos"), Path(temporary, "model")
        write_photos(folder, arguments.classes, arguments.photos, arguments.side)
        classifier = egt_tf.FewShotClassifier()
        print(f"{arguments.classes} classes of {arguments.photos} photographs of {arguments.side} px")
        print(f"{'learn':32s} {seconds(lambda: classifier.fit(folder)):8.3f} s")
        print(f"{'write the model':32s} {seconds(lambda: classifier.save(model)):8.3f} s")
        image = next(folder.glob("class00/*.jpg"))
        exported = egt_tf.ExportedModel(model)
        explainer = egt_tf.open_explainer(model)
        report("predict a file", lambda: classify_file(exported, image))
        explain = report("explain a file", lambda: explainer.explain(image))
        found = explainer.explain(image)
        # Those that had a part: the others cost nothing.
        counted = int(np.count_nonzero(np.abs(found.support_relevance).sum(axis=(0, -2, -1))))
        pixels = np.repeat(found.query_image[None], 1 + counted, axis=0)
        embedding: Embedding = classifier._embedding
        forward = report(f"embed {1 + counted} images", lambda: embedding.features(pixels))
        print(f"explain: {explain / forward:.1f} forward passes over the {1 + counted} images that it explains")


if __name__ == "__main__":
    main()
