"""Arrays as the published code names and lays them out, at small widths."""

from __future__ import annotations

import numpy as np
import pytest


class PublishedArrays:
    """Makes state dicts; every array is random and different."""

    def __init__(self):
        self._rng = np.random.default_rng(5)

    def _draw(self, *shape):
        return self._rng.normal(scale=0.3, size=shape).astype(np.float32)

    def _norm(self, name, width, running=True):
        arrays = {f"{name}.weight": 1 + self._draw(width), f"{name}.bias": self._draw(width)}
        if running:
            arrays[f"{name}.running_mean"] = self._draw(width)
            arrays[f"{name}.running_var"] = 0.5 + np.abs(self._draw(width))
            arrays[f"{name}.num_batches_tracked"] = np.array(7)
        return arrays

    def conv4(self, width=4, prefix="feature."):
        arrays = {}
        for block in range(4):
            name = f"{prefix}trunk.{block}"
            arrays[f"{name}.C.weight"] = self._draw(width, width if block else 3, 3, 3)
            arrays[f"{name}.C.bias"] = self._draw(width)
            arrays.update(self._norm(f"{name}.BN", width))
        return arrays

    def resnet(self, blocks=(1, 1, 1, 1), widths=(4, 5, 6, 7), prefix="feature."):
        arrays = {
            f"{prefix}trunk.0.weight": self._draw(widths[0], 3, 7, 7),
            **self._norm(f"{prefix}trunk.1", widths[0]),
        }
        number, inputs = 4, widths[0]
        for count, width in zip(blocks, widths):
            for _ in range(count):
                name = f"{prefix}trunk.{number}"
                arrays[f"{name}.C1.weight"] = self._draw(width, inputs, 3, 3)
                arrays[f"{name}.C2.weight"] = self._draw(width, width, 3, 3)
                arrays.update({**self._norm(f"{name}.BN1", width), **self._norm(f"{name}.BN2", width)})
                if inputs != width:
                    arrays[f"{name}.shortcut.weight"] = self._draw(width, inputs, 1, 1)
                    arrays.update(self._norm(f"{name}.BNshortcut", width))
                number, inputs = number + 1, width
        return arrays

    def relation(self, channels=4, positions=9, hidden=3):
        name = "relation_module"
        arrays = {}
        for layer, inputs in ((1, 2 * channels), (2, channels)):
            arrays[f"{name}.layer{layer}.C.weight"] = self._draw(channels, inputs, 3, 3)
            arrays[f"{name}.layer{layer}.C.bias"] = self._draw(channels)
            arrays.update(self._norm(f"{name}.layer{layer}.BN", channels, running=False))
        return {
            **arrays,
            f"{name}.fc1.weight": self._draw(hidden, channels * positions),
            f"{name}.fc1.bias": self._draw(hidden),
            f"{name}.fc2.weight": self._draw(1, hidden),
            f"{name}.fc2.bias": self._draw(1),
        }

    def resnet12(self, widths=(4, 5, 6, 7), prefix="base."):
        arrays = {f"{prefix}conv1.weight": self._draw(widths[0], 3, 3, 3), **self._norm(f"{prefix}bn1", widths[0])}
        inputs = widths[0]
        for stage, width in enumerate(widths, start=1):
            name = f"{prefix}layer{stage}.0"
            for number, channels in ((1, inputs), (2, width), (3, width)):
                arrays[f"{name}.conv{number}.weight"] = self._draw(width, channels, 3, 3)
                arrays.update(self._norm(f"{name}.bn{number}", width))
            arrays[f"{name}.downsample.0.weight"] = self._draw(width, inputs, 1, 1)
            arrays.update(self._norm(f"{name}.downsample.1", width))
            inputs = width
        return arrays


@pytest.fixture
def published() -> PublishedArrays:
    return PublishedArrays()
