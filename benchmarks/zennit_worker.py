"""What `zennit_cost.py` times of zennit, in a Python with PyTorch; nothing of TensorFlow or of the package is imported.

The networks are those of Keras layer by layer, batch normalisation folded: each convolution has a bias instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import torch
from torch import nn

from benchmarks.turns import serve
from tests.lrp.torch_oracle import AddByZennit, stand_in_for_torchvision

CLASSES = 1000


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, padding=size // 2)


class Residual(nn.Module):
    """A branch, and a shortcut past it: a 1x1 convolution where the shape changes."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.branch, self.shortcut = branch, shortcut
        self.sum, self.relu = AddByZennit(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.sum(self.shortcut(x), self.branch(x)))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Identity() if (inputs, stride) == (outputs, 1) else convolution(inputs, outputs, 1, stride)


def simple_block(inputs: int, width: int, stride: int) -> Residual:
    branch = nn.Sequential(convolution(inputs, width, 3, stride), nn.ReLU(), convolution(width, width, 3))
    return Residual(branch, shortcut(inputs, width, stride))


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """As Keras has it: the stride is in the first convolution."""
    branch = nn.Sequential(
        convolution(inputs, width, 1, stride),
        nn.ReLU(),
        convolution(width, width, 3),
        nn.ReLU(),
        convolution(width, 4 * width, 1),
    )
    return Residual(branch, shortcut(inputs, 4 * width, stride))


def residual_stages(block: Callable[[int, int, int], Residual], counts: tuple[int, ...], expansion: int) -> nn.Module:
    """Stem, stages of 64, 128, 256 and 512 channels times the expansion, mean and scores."""

    def stages() -> Iterator[nn.Module]:
        channels = 64
        for stage, count in enumerate(counts):
            for number in range(count):
                width = 64 * 2**stage
                yield block(channels, width, 2 if stage and not number else 1)
                channels = width * expansion

    stem = [convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    scores = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512 * expansion, CLASSES)]
    return nn.Sequential(*stem, *stages(), *scores)


def resnet10() -> nn.Module:
    return residual_stages(simple_block, (1, 1, 1, 1), 1)


def resnet50() -> nn.Module:
    return residual_stages(bottleneck, (3, 4, 6, 3), 4)


def vgg16() -> nn.Module:
    """For images of 224 px."""

    def layers() -> Iterator[nn.Module]:
        channels = 3
        for count, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(count):
                yield from (convolution(channels, width, 3), nn.ReLU())
                channels = width
            yield nn.MaxPool2d(2)

    dense = [nn.Linear(7 * 7 * 512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, CLASSES)]
    return nn.Sequential(*layers(), nn.Flatten(), *dense)


NETWORKS = {"resnet10": resnet10, "vgg16": vgg16, "resnet50": resnet50}


def main() -> None:
    """Takes its turns until its input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=NETWORKS)
    for argument in ("size", "batch", "threads"):
        parser.add_argument(argument, type=int)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    stand_in_for_torchvision()
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonGammaBox, EpsilonPlus

    network = NETWORKS[arguments.network]().eval()
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size)
    chosen = torch.eye(CLASSES)[[3] * arguments.batch]
    composites = {"epsilon_plus": EpsilonPlus(), "epsilon_gamma_box": EpsilonGammaBox(low=-3.0, high=3.0)}

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return network(images)

    def explaining(composite: object) -> Callable[[], torch.Tensor]:
        # zennit's hooks are registered outside of what is timed, as for many images one after the other.
        def explain() -> torch.Tensor:
            return attributor(images, chosen)[1]

        attributor = Gradient(model=network, composite=composite)
        return attributor, explain

    serve({"forward": (None, forward), **{name: explaining(each) for name, each in composites.items()}})


if __name__ == "__main__":
    main()
