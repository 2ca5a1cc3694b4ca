"""Reads checkpoints of the published code as named arrays. No code that a file brings with it is run."""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.errors import RunError
from egt_tf.weights import load_arrays

# Up to 2.5, and by another way up to 2.9, a file could run code though only weights were asked for.
SAFE_TORCH = (2, 10)
# The published trainers write `state`, `state_dict` (cross attention) or `model_state` (learned transformations).
STATE_KEYS = ("state", "state_dict", "model_state")
# A block registers its layers twice, by name and as members of a sequence; both are in its state.
_TWICE = re.compile(r"((?:^|\.)(?:trunk\.\d+|layer[12]))\.trunk\.([01])\.")
_TWICE_NAMES = {"0": "C", "1": "BN"}
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")
# What unpickling damaged or refused bytes fails with; torch raises its own refusals as UnpicklingError.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    AttributeError,
    TypeError,
    LookupError,
    ArithmeticError,
    ImportError,
    AssertionError,
    pickle.UnpicklingError,
    struct.error,
)


def load_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint under their published names.

    A leading "module." is dropped, so are PyTorch's counters `num_batches_tracked` and the second name of what a block
    registers twice ("layer1.trunk.0.weight" for "layer1.C.weight").

    Args:
        path: an .npz archive of named arrays, or a file that `torch.save` wrote: a state dict, or a dictionary that
            holds one under one of `STATE_KEYS`. PyTorch is needed for the latter only.

    Raises:
        RunError: the file is missing, damaged or something else, or needs Python objects beside its arrays; an array
            has two names and two values; PyTorch is not installed or known to be unsafe.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "model.npz"
        >>> np.savez(path, **{"module.trunk.0.BN.weight": np.ones(4, np.float32)})
        >>> list(load_checkpoint(path))
        ['trunk.0.BN.weight']
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"the checkpoint {path} must be a file. Received: no such file")
    arrays = load_arrays(path) if path.suffix == ".npz" else _load_torch(path)
    return _plain_names(arrays, path)


def _load_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _import_torch(path)
    try:
        with warnings.catch_warnings():
            # Of old formats and protocols, which are read or refused all the same.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        state = _state_of(content, path)
        return {name: _array(tensor) for name, tensor in state.items()}
    except RunError:
        raise
    except _DAMAGE as error:
        raise RunError(
            f"the checkpoint {path} must be a whole file of torch.save that holds arrays and numbers only. "
            f"Received: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    # PyTorch's own words advise to switch the protection off.
    found = _FORBIDDEN.search(str(error))
    return f"an object of {found[1]}, which is not loaded" if found else f"a damaged file ({type(error).__name__})"


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise RunError(
            f"reading {path} needs PyTorch, which is not installed: pip install 'egt-tf[convert]' (or save "
            "the arrays as an .npz archive)"
        ) from error
    if tuple(int(number) for number in re.findall(r"\d+", torch.__version__)[:2]) < SAFE_TORCH:
        raise RunError(
            f"reading {path} needs PyTorch >= {'.'.join(map(str, SAFE_TORCH))}; in older ones a file can "
            f"run code. Received: {torch.__version__}; pip install -U 'egt-tf[convert]'"
        )
    return torch


def _state_of(content: Any, path: Path) -> Mapping[str, Any]:
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping) or not all(hasattr(value, "numpy") for value in state.values()):
        raise RunError(
            f"the checkpoint {path} must hold a state dict, by itself or under {', '.join(STATE_KEYS)}. "
            f"Received: {_description(content)}"
        )
    return state


def _description(content: Any) -> str:
    if not isinstance(content, Mapping):
        return type(content).__name__
    return f"a dictionary of {', '.join(map(str, list(content)[:5])) or 'nothing'}"


def _array(tensor: Any) -> np.ndarray:
    # NumPy has no bfloat16.
    tensor = tensor.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _plain_names(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    plain: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        short = str(name).removeprefix("module.")
        short = _TWICE.sub(lambda match: f"{match[1]}.{_TWICE_NAMES[match[2]]}.", short)
        if short.endswith(".num_batches_tracked"):
            continue
        if short in plain and not np.array_equal(plain[short], array, equal_nan=array.dtype.kind == "f"):
            raise RunError(f"an array of {path} must have one value. Received: two for {short}, one of them as {name}")
        plain[short] = array
    return plain
