"""Writes docs/synthetic/<domain>.png: a few classes of every synthetic domain, the last row with its masks.

python benchmarks/contact_sheets.py [--out docs/synthetic]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from egt_tf.data.synthetic import CLASS_NAMES, DRAWN_DOMAINS, draw
from egt_tf.files import atomic_write

SHOWN = (
    "diamond-in-triangle",
    "triangle-in-square",
    "cross-above-diamond",
    "arrow-above-heart",
    "heart-beside-diamond",
    "two-domes-beside-diamond",
    "two-drops-beside-cross",
    "three-stars-around-dome",
)
TILE, GAP, HEADER, ROWS = 84, 8, 50, 6
INK, MASK_EDGE = (30, 30, 40), (255, 0, 160)
LARGEST = 280_000  # bytes; a noisy sheet that is larger in full colour gets a palette
PALETTE = 128


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the pixels just outside the mask painted."""
    grown = np.zeros_like(mask)
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        grown |= np.roll(mask, (dy, dx), axis=(0, 1))
    return np.where((grown & ~mask)[..., None], np.uint8(MASK_EDGE), image)


def heading(name: str) -> str:
    """The class name broken before the last component and before the word that says where."""
    *front, where, main = name.split("-")
    return "\n".join(["-".join(front) + "-", f"{where}-", main])


def contact_sheet(domain: str, names: tuple[str, ...]) -> Image.Image:
    """One column a class, one row an instance."""
    step = TILE + GAP
    sheet = Image.new("RGB", (GAP + step * len(names), HEADER + step * ROWS), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for column, name in enumerate(names):
        left = GAP + step * column
        middle = (left + TILE / 2, GAP)
        pen.multiline_text(middle, heading(name), INK, font, anchor="ma", align="center", spacing=2)
        for row in range(ROWS):
            image, mask = draw(domain, CLASS_NAMES.index(name), row)
            tile = outlined(image, mask) if row == ROWS - 1 else image
            sheet.paste(Image.fromarray(tile), (left, HEADER + step * row))
    return sheet


def png(sheet: Image.Image) -> bytes:
    """The sheet in full colour if that is small enough, else with a palette."""
    full = _encoded(sheet)
    return full if len(full) <= LARGEST else _encoded(sheet.quantize(PALETTE))


def _encoded(sheet: Image.Image) -> bytes:
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/synthetic"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for domain in DRAWN_DOMAINS:
        path = out / f"{domain}.png"
        with atomic_write(path) as file:
            file.write(png(contact_sheet(domain, SHOWN)))
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
