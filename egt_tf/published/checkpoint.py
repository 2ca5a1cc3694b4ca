"""Reads checkpoints of the published code as named arrays. No code that a file brings with it is run."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from egt_tf.errors import RunError
from egt_tf.weight_files import read_weights
from egt_tf.weights import load_arrays

# A block registers its layers twice, by name and as members of a sequence; both are in its state.
_TWICE = re.compile(r"((?:^|\.)(?:trunk\.\d+|layer[12]))\.trunk\.([01])\.")
# A module of its own around a model, or around a part of it: of DataParallel, torch.compile, FSDP and checkpointing.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_TWICE_NAMES = {"0": "C", "1": "BN"}


def load_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint under their published names.

    What wrappers put into names is dropped wherever it is ("module." of data parallel models, "_orig_mod." of compiled
    ones, ...), so are PyTorch's counters `num_batches_tracked` and the second name of what a block
    registers twice ("layer1.trunk.0.weight" for "layer1.C.weight").

    Args:
        path: an .npz archive of named arrays, or one of the files that `egt_tf.weight_files.read_weights` reads: of
            torch.save or of safetensors.

    Raises:
        RunError: the file is missing, damaged or something else, or needs Python objects beside its arrays; an array
            has two names and two values.

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
    arrays = load_arrays(path) if path.suffix == ".npz" else read_weights(path)
    return _plain_names(arrays, path)


def _plain_names(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    plain: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        short = ".".join(part for part in str(name).split(".") if part not in _WRAPPERS)
        short = _TWICE.sub(lambda match: f"{match[1]}.{_TWICE_NAMES[match[2]]}.", short)
        if short.endswith(".num_batches_tracked"):
            continue
        if short in plain and not np.array_equal(plain[short], array, equal_nan=array.dtype.kind == "f"):
            raise RunError(f"an array of {path} must have one value. Received: two for {short}, one of them as {name}")
        plain[short] = array
    return plain
