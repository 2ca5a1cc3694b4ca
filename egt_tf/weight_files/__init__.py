"""Weights that other programs wrote: files of torch.save and .safetensors, read without them, as named arrays.

No code of a file runs: pickles are interpreted by `objects`, which knows the few names of state dicts and calls none.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.errors import RunError
from egt_tf.weight_files.objects import printable
from egt_tf.weight_files.reading import check_present
from egt_tf.weight_files.safetensors import read_safetensors
from egt_tf.weight_files.torch import read_torch

__all__ = ["STATE_KEYS", "check_present", "read_safetensors", "read_torch", "read_weights"]

# The published trainers write `state`, `state_dict` (cross attention) or `model_state` (learned transformations), others
# `model`.
STATE_KEYS = ("state", "state_dict", "model_state", "model")


def read_weights(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a weight file by name.

    Args:
        path: a .safetensors file, or a file that `torch.save` wrote, in either of its formats: a state dict, or a
            dictionary that holds one under one of `STATE_KEYS`.

    Returns:
        The arrays by their names in the file; float32 where the file has halves or bfloat16.

    Raises:
        RunError: the file is missing, damaged or something else, or needs Python objects beside its arrays.

    Example:
        >>> read_weights("gone.pth")
        Traceback (most recent call last):
        egt_tf.errors.RunError: the weight file gone.pth must be a file. Received: no such file
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    content = read_torch(path)
    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), Mapping)), content)
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(value, np.ndarray) for value in state.values())
    ):
        raise RunError(
            f"the weight file {path} must hold a state dict, by itself or under {', '.join(STATE_KEYS)}. "
            f"Received: {_description(content)}"
        )
    return {str(name): array for name, array in state.items()}


def _description(content: Any) -> str:
    if not isinstance(content, Mapping):
        return type(content).__name__
    return f"a dictionary of {printable(', '.join(map(str, list(content)[:5]))) or 'nothing'}"
