"""A LiteRT file of a learnt classifier on photographs: does it answer as the SavedModel that it is written with?

    python benchmarks/lite.py FOLDER [--classes 10] [--shots 5] [--photographs 200] [--head auto] [--image-size 224]

FOLDER holds photographs, one sub-folder a class; by default it is flowers17 in $EGT_TF_BENCHMARK_DIR. A classifier is
learnt from the first photographs of the first classes, as `egt-tf learn` does, and is asked about further ones of the
same classes: the SavedModel gets the files and decodes, resizes and crops them itself, the LiteRT file gets what
`egt_tf.load_image` makes of them, as a telephone would have to. Exit code 1 if a class differs or a probability by more
than 0.001.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from egt_tf.data.sources import open_source
from egt_tf.data.support import load_image
from egt_tf.export.lite import TOLERANCE, LiteModel
from egt_tf.learning import FewShotClassifier
from egt_tf.serving.contract import LITE
from egt_tf.serving.exported_model import ExportedModel


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("EGT_TF_BENCHMARK_DIR")
    parser.add_argument("folder", type=Path, nargs="?", default=default and Path(default, "flowers17"))
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--photographs", type=int, default=200)
    parser.add_argument("--head", default="auto")
    parser.add_argument("--image-size", type=int, default=224)
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("name a FOLDER of photographs, or set EGT_TF_BENCHMARK_DIR")
    return arguments


def photographs(arguments: argparse.Namespace) -> tuple[list[str], list[str], list[str]]:
    """Files to learn from, their classes, and further files, class after class in turn."""
    source = open_source(f"folder:{arguments.folder}")
    members = source.split("all").members[: arguments.classes]
    known = [source.describe(int(index)) for each in members for index in each[: arguments.shots]]
    labels = [source.class_names[k] for k, each in enumerate(members) for _ in each[: arguments.shots]]
    further = [[source.describe(int(index)) for index in each[arguments.shots :]] for each in members]
    return known, labels, list(_in_turn(further))[: arguments.photographs]


def _in_turn(lists: list[list[str]]) -> Iterator[str]:
    for position in range(max(map(len, lists))):
        yield from (each[position] for each in lists if position < len(each))


def main() -> int:
    """Prints the comparison."""
    arguments = parsed()
    known, labels, asked = photographs(arguments)
    classifier = FewShotClassifier(head=arguments.head, image_size=arguments.image_size).fit(known, labels)
    with tempfile.TemporaryDirectory() as folder:
        version = classifier.save(Path(folder, "lite"), photos=False, lite=True)
        print(f"{classifier.description}, {len(known)} photographs of {len(set(labels))} classes")
        print(f"{LITE}: {(version / LITE).stat().st_size / 1e6:.1f} MB")
        model, lite = ExportedModel(version), LiteModel((version / LITE).read_bytes(), delegates=True)
        expected = np.stack(
            [model.ask("serving_default", {"images": [Path(file).read_bytes()]})["probabilities"][0] for file in asked]
        )
    images = [load_image(file, arguments.image_size) for file in asked]
    lite.ask(images[0])
    began = time.perf_counter()
    actual = np.stack([lite.ask(image)["probabilities"] for image in images])
    seconds = time.perf_counter() - began
    same = int((actual.argmax(1) == expected.argmax(1)).sum())
    difference = float(np.abs(actual - expected).max())
    print(f"same class for {same} of {len(asked)} photographs; largest difference of a probability {difference:.2g}")
    print(f"{1000 * seconds / len(asked):.1f} ms an image")
    return int(same < len(asked) or difference > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
