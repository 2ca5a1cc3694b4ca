"""Which kinds of images are told apart: the share of images of each source that look unlike a few of another.

    python benchmarks/likeness.py SOURCE [SOURCE ...] [--reference 25] [--images 100] [--size 84] [--draws 10] [--seed 0]

SOURCE is a folder with one sub-folder of images a class, or `synthetic:NAME`. A row is the reference: so many images of
a source, as they come with a model. A column is the source of the images that are asked about, in per cent called
unlike; those of the diagonal are other images of the same source. Means over several draws of the reference.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from egt_tf.data.likeness import unlike
from egt_tf.data.preprocessing import resized_centre
from egt_tf.data.sources import open_source


def drawn_images(specification: str, count: int, size: int, seed: int) -> np.ndarray:
    """So many images of a source, no image twice, as a model sees them: uint8 `(count, size, size, 3)`."""
    images = open_source(specification).split("all")
    chosen = np.random.default_rng(seed).permutation(np.concatenate(images.members))[:count]
    return np.stack([resized_centre(images.read(int(index)), size).numpy() for index in chosen])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--reference", type=int, default=25)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--size", type=int, default=84)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {}
    for source in options.sources:
        specification = source if ":" in source else f"folder:{source}"
        found[source.rstrip("/").rpartition("/")[2]] = drawn_images(
            specification, options.reference + options.images, options.size, options.seed
        )
    print(f"{'reference':20s}", *(f"{name:>18s}" for name in found))
    rng = np.random.default_rng(options.seed)
    for name, images in found.items():
        draws = [rng.permutation(len(images)) for _ in range(options.draws)]
        shares = [
            np.mean(
                [100 * unlike(asked[draw[options.reference :]], images[draw[: options.reference]]) for draw in draws]
            )
            for asked in found.values()
        ]
        print(f"{name:20s}", *(f"{share:18.0f}" for share in shares), flush=True)


if __name__ == "__main__":
    main()
