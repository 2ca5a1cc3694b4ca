"""zennit's and lxt's relevance as oracles, in the Python of an environment with PyTorch.

    python tests/lrp/torch_oracle.py REQUEST.npz RESPONSE.npz

This file is the script; `test_torch_oracles.py` writes requests and runs it. A request holds one JSON string ("jobs")
and arrays ("0/input", "0/start", "0/weight/LAYER/0", ...); the response holds one array ("0/NAME") for each result.
Neither uses pickle. Nothing here imports TensorFlow or the package, and nothing of zennit or lxt is copied.

A job for zennit has `steps`, the layers of a Keras model in the order in which they are computed (see `Step`), and a
`composite`. A job for lxt has the name of a `function`: "vit" or one of `operation`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch

Arrays = Mapping[str, np.ndarray]


class Step(TypedDict):
    """A layer: its name, the class that it has in Keras, the names of the layers before it, and its options."""

    name: str
    kind: str
    inputs: list[str]
    options: dict[str, Any]


def stand_in_for_torchvision() -> None:
    """zennit imports three classes of torchvision, to recognise layers that no network here has.

    A torchvision that fits a PyTorch for processors alone is often not at hand.
    """
    if importlib.util.find_spec("torchvision") is not None:
        return
    classes = {
        "torchvision.ops": ["FrozenBatchNorm2d"],
        "torchvision.models.resnet": ["Bottleneck", "BasicBlock"],
    }
    for path in ("torchvision", "torchvision.models", *classes):
        module = types.ModuleType(path)
        for name in classes.get(path, []):
            setattr(module, name, type(name, (torch.nn.Module,), {}))
        sys.modules[path] = module
        parent, _, child = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


# === Networks ===


class ChannelsLastFlatten(torch.nn.Module):
    """Flattens as Keras does: row by row, the channels of a pixel side by side."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.movedim(1, -1) if x.ndim > 2 else x).flatten(1)


class AddByZennit(torch.nn.Module):
    """A sum of tensors as zennit's canonizers write it, so that its rule for sums fits."""

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.sum = Sum(dim=-1)

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        return self.sum(torch.stack(xs, dim=-1))


ACTIVATIONS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "swish": torch.nn.SiLU, "gelu": torch.nn.GELU}


def convolution(options: Mapping[str, Any], weights: Sequence[np.ndarray]) -> torch.nn.Module:
    """A convolution; kernels `(height, width, in, out)`, of depthwise ones `(height, width, in, multiplier)`."""
    height, width, inputs, outputs = weights[0].shape
    if options["depthwise"]:
        # Output `c * multiplier + m` sees channel c, as in a convolution with a group for each channel.
        kernel, groups, outputs = weights[0].reshape(height, width, 1, -1), inputs, inputs * outputs
    else:
        kernel, groups = weights[0], 1
    module = torch.nn.Conv2d(
        inputs,
        outputs,
        (height, width),
        options["strides"],
        options["padding"],
        groups=groups,
        bias=len(weights) > 1,
    )
    return with_weights(module, [kernel.transpose(3, 2, 0, 1), *weights[1:]])


def dense(options: Mapping[str, Any], weights: Sequence[np.ndarray]) -> torch.nn.Module:
    """A dense layer; kernel `(in, out)`."""
    module = torch.nn.Linear(*weights[0].shape, bias=len(weights) > 1)
    return with_weights(module, [weights[0].T, *weights[1:]])


def batch_norm(options: Mapping[str, Any], weights: Sequence[np.ndarray]) -> torch.nn.Module:
    """A batch normalisation; weights gamma, beta, mean and variance."""
    module = torch.nn.BatchNorm2d(len(weights[0]), eps=options["epsilon"])
    module = with_weights(module, weights[:2])
    module.running_mean, module.running_var = (torch.tensor(each) for each in weights[2:])
    return module


def with_weights(module: torch.nn.Module, weights: Sequence[np.ndarray]) -> torch.nn.Module:
    for name, values in zip(("weight", "bias"), weights):
        setattr(module, name, torch.nn.Parameter(torch.tensor(np.ascontiguousarray(values))))
    return module


MODULES = {
    "Conv2D": convolution,
    "Dense": dense,
    "BatchNormalization": batch_norm,
    "Activation": lambda options, weights: ACTIVATIONS[options["function"]](),
    "MaxPooling2D": lambda options, weights: torch.nn.MaxPool2d(
        options["size"], options["strides"], options["padding"]
    ),
    "AveragePooling2D": lambda options, weights: torch.nn.AvgPool2d(options["size"], options["strides"]),
    "GlobalAveragePooling2D": lambda options, weights: torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ),
    "Flatten": lambda options, weights: ChannelsLastFlatten(),
    "Add": lambda options, weights: AddByZennit(),
}


class Network(torch.nn.Module):
    """The layers of a Keras model; the first step is its input."""

    def __init__(self, steps: Sequence[Step], weights: Mapping[str, Sequence[np.ndarray]]):
        super().__init__()
        self.steps = steps[1:]
        self.input = steps[0]["name"]
        for step in in_order_of_registration(self.steps):
            self.add_module(step["name"], MODULES[step["kind"]](step["options"], weights[step["name"]]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {self.input: x}
        for step in self.steps:
            x = getattr(self, step["name"])(*(values[name] for name in step["inputs"]))
            values[step["name"]] = x
        return x


def in_order_of_registration(steps: Sequence[Step]) -> list[Step]:
    """Each normalisation right behind the layer whose output it takes: zennit folds it into the module before it."""
    normalisations = {step["inputs"][0]: step for step in steps if step["kind"] == "BatchNormalization"}
    others = [step for step in steps if step["kind"] != "BatchNormalization"]
    pairs = [(step, normalisations.get(step["name"])) for step in others]
    return [each for pair in pairs for each in pair if each is not None]


# === zennit ===


def zennit_rule(description: Sequence[Any]) -> Any:
    """A rule from its class's name and arguments."""
    from zennit import rules

    name, arguments = description
    return getattr(rules, name)(**{key: per_channel(value) for key, value in arguments.items()})


def per_channel(value: Any) -> Any:
    """A list of numbers as a tensor for each channel of images."""
    if isinstance(value, list) and value and isinstance(value[0], float):
        return torch.tensor(value, dtype=torch.float64).reshape(1, -1, 1, 1)
    return value


def zennit_composite(description: Mapping[str, Any]) -> Any:
    """One of zennit's own by its name and arguments, or one of rules for `convolution` and `dense`, and for `first`."""
    from zennit import composites
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.types import Convolution

    canonizers = [SequentialMergeBatchNorm()] if description.get("fold", True) else []
    if "name" in description:
        arguments = {key: per_channel(value) for key, value in description["arguments"].items()}
        return composites.COMPOSITES[description["name"]](**arguments, canonizers=canonizers)
    layer_map = [
        *composites.layer_map_base(),
        (Convolution, zennit_rule(description["convolution"])),
        (torch.nn.Linear, zennit_rule(description["dense"])),
    ]
    first_map = [(Convolution, zennit_rule(description["first"]))] if "first" in description else []
    return composites.SpecialFirstLayerMapComposite(layer_map, first_map, canonizers=canonizers)


def by_zennit(job: Mapping[str, Any], arrays: Arrays) -> dict[str, np.ndarray]:
    """The output, and the input's relevance for the output relevance `start` times the output."""
    weights = {
        step["name"]: [arrays[f"weight/{step['name']}/{k}"] for k in range(step["options"].get("weights", 0))]
        for step in job["steps"]
    }
    network = Network(job["steps"], weights).eval()
    x = torch.tensor(np.ascontiguousarray(np.moveaxis(arrays["input"], -1, 1)), requires_grad=True)
    with zennit_composite(job["composite"]).context(network) as hooked:
        y = hooked(x)
        (relevance,) = torch.autograd.grad(y, x, y.detach() * torch.tensor(arrays["start"]))
    return {"output": y.detach().numpy(), "relevance": relevance.movedim(1, -1).numpy()}


# === lxt ===


class UnchangedGelu(torch.autograd.Function):
    """GELU, whose relevance passes unchanged."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        # Keras rounds the root to float32, in float64 as well.
        return 0.5 * x * (1.0 + torch.erf(x / float(np.float32(2.0**0.5))))

    @staticmethod
    def backward(ctx: Any, relevance: torch.Tensor) -> torch.Tensor:
        return relevance


def layer_norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, variance_epsilon: float, epsilon: float):
    """lxt's layer normalisation, whose stabiliser its `layer_norm` has no argument for."""
    import lxt.explicit.functional as lf

    return lf.layer_norm_grad_fn.apply(x, gamma, beta, variance_epsilon, epsilon)


def affine(x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, epsilon: float) -> torch.Tensor:
    """A dense layer with Keras's kernel `(in, out)`."""
    import lxt.explicit.functional as lf

    return lf.linear_epsilon(x, kernel.T.contiguous(), bias, epsilon)


def attention(x: torch.Tensor, weights: Sequence[torch.Tensor], epsilon: float) -> torch.Tensor:
    """Keras's multi-head attention, of its weights in their order.

    The kernels are `(width, heads, size)`, that of the output `(heads, size, width)`.
    """
    import lxt.explicit.functional as lf

    width, heads, size = weights[0].shape

    def projected(kernel: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        y = affine(x, kernel.reshape(width, -1), bias.reshape(-1), epsilon)
        return y.unflatten(-1, (heads, size)).transpose(1, 2)

    q, k, v = (projected(*weights[at : at + 2]) for at in (0, 2, 4))
    logits = lf.matmul(q, k.transpose(-1, -2), False, epsilon)
    # A constant factor hands relevance on unchanged; the derivative of a plain product would scale it.
    logits = lf.mul2(logits, torch.tensor(1.0 / size**0.5, dtype=x.dtype))
    attended = lf.matmul(lf.softmax(logits, -1), v, False, epsilon)
    return affine(attended.transpose(1, 2).flatten(2), weights[6].reshape(-1, width), weights[7], epsilon)


def vit(images: torch.Tensor, w: Mapping[str, torch.Tensor], job: Mapping[str, Any]) -> torch.Tensor:
    """A vision transformer of one block, and scores; images `(n, side, side, 3)`."""
    import lxt.explicit.functional as lf

    patch, epsilon, variance_epsilon = job["patch"], job["epsilon"], job["variance_epsilon"]
    x = images.unfold(1, patch, patch).unfold(2, patch, patch)  # (n, rows, columns, 3, patch, patch)
    x = x.permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(1, 2)
    x = affine(x, w["patch_embedding/0"].flatten(0, 2), w["patch_embedding/1"], epsilon)
    x = lf.add2(x, w["position_embedding/0"].expand_as(x), False, epsilon)
    x = torch.cat([w["learned_tokens/0"].expand(len(x), -1, -1), x], dim=1)
    y = layer_norm(x, w["block01_norm1/0"], w["block01_norm1/1"], variance_epsilon, epsilon)
    x = lf.add2(x, attention(y, [w[f"block01_attention/{k}"] for k in range(8)], epsilon), False, epsilon)
    y = layer_norm(x, w["block01_norm2/0"], w["block01_norm2/1"], variance_epsilon, epsilon)
    y = UnchangedGelu.apply(affine(y, w["block01_fc1/0"], w["block01_fc1/1"], epsilon))
    y = affine(y, w["block01_fc2/0"], w["block01_fc2/1"], epsilon)
    x = lf.add2(x, y, False, epsilon)
    x = layer_norm(x, w["norm/0"], w["norm/1"], variance_epsilon, epsilon)[:, 1:]
    return affine(x.flatten(1), w["scores/0"], w["scores/1"], epsilon)


def operation(name: str, xs: Sequence[torch.Tensor], w: Sequence[torch.Tensor], job: Mapping[str, Any]) -> torch.Tensor:
    """A single function of lxt, on tensors and the weights of a Keras layer that does the same."""
    import lxt.explicit.functional as lf

    epsilon, variance_epsilon = job["epsilon"], job["variance_epsilon"]
    functions = {
        "softmax": lambda: lf.softmax(xs[0], -1),
        "matmul": lambda: lf.matmul(*xs, False, epsilon),
        "mul2": lambda: lf.mul2(*xs),
        "add2": lambda: lf.add2(*xs, False, epsilon),
        "mean": lambda: lf.mean(xs[0], 1, False, epsilon),
        "dense": lambda: affine(xs[0], *w, epsilon),
        "layer_norm": lambda: layer_norm(xs[0], *w, variance_epsilon, epsilon),
        "rms_norm": lambda: lf.rms_norm_identity(xs[0], *w, variance_epsilon),
        "attention": lambda: attention(xs[0], w, epsilon),
    }
    return functions[name]()


def by_lxt(job: Mapping[str, Any], arrays: Arrays) -> dict[str, np.ndarray]:
    """The output, and the relevance of each input for the output relevance `start`."""
    xs = [torch.tensor(arrays[f"input/{k}"], requires_grad=True) for k in range(job["inputs"])]
    prefix = "weight/"
    weights = {key.removeprefix(prefix): torch.tensor(a) for key, a in arrays.items() if key.startswith(prefix)}
    whole = job["function"] == "vit"
    y = vit(*xs, weights, job) if whole else operation(job["function"], xs, [*weights.values()], job)
    relevance = torch.autograd.grad(y, xs, torch.tensor(arrays["start"]))
    return {"output": y.detach().numpy(), **{f"relevance/{k}": r.numpy() for k, r in enumerate(relevance)}}


ORACLES = {"zennit": by_zennit, "lxt": by_lxt}


def main(request_path: str, response_path: str) -> None:
    """Answers all jobs of a request file."""
    torch.set_num_threads(1)
    stand_in_for_torchvision()
    answers = {}
    with np.load(request_path, allow_pickle=False) as request:
        for index, job in enumerate(json.loads(str(request["jobs"]))):
            prefix = f"{index}/"
            arrays = {key.removeprefix(prefix): request[key] for key in request.files if key.startswith(prefix)}
            answers.update({prefix + name: array for name, array in ORACLES[job["oracle"]](job, arrays).items()})
    np.savez(response_path, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
