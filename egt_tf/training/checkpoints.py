"""The newest states of a training, one file each, with a checksum that is checked before a file is used."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egt_tf.errors import RunError
from egt_tf.files import atomic_write, remove_partial_files
from egt_tf.training.checked_model import CheckedModel
from egt_tf.training.state import TrainingState, load_state, state_arrays
from egt_tf.weights import not_finite_arrays, weight_arrays

# A .npz archive ends with the length of its comment, which is empty.
_COMMENT_LENGTH_BYTES = 2
_DIGEST_LENGTH = 64


class Checkpoints:
    """The files `FOLDER/000123.npz`, where 123 is the number of steps that were finished.

    Args:
        folder: their folder.
        keep: number of the newest that are kept, >= 1.

    Example:
        >>> Checkpoints(Path("runs/demo/checkpoints")).newest_step()
        0
    """

    def __init__(self, folder: Path, keep: int = 3):
        self.folder, self.keep = folder, keep

    def files(self) -> list[Path]:
        """All of them, the newest last."""
        return sorted((file for file in self.folder.glob("*.npz") if file.stem.isdecimal()), key=_steps)

    def newest_step(self) -> int:
        """Steps that the newest of them had finished; 0 if there is none."""
        return max(map(_steps, self.files()), default=0)

    def save(self, model: CheckedModel, state: TrainingState) -> None:
        """Writes the state of a compiled model, whole or not at all, and removes what is too old then.

        Raises:
            RunError: a weight is not finite; nothing is written then.
            OSError: the file cannot be written.
        """
        self.check_finite(model)
        steps = int(model.optimizer.iterations.numpy())
        with atomic_write(self.folder / f"{steps:06d}.npz") as file:
            file.write(_sealed(state_arrays(model, state)))
        for old in self.files()[: -self.keep]:
            old.unlink(missing_ok=True)

    def restore(self, model: CheckedModel, older: Path, report: Callable[[str], None]) -> TrainingState:
        """Sets a compiled model to the newest state that is whole. Damaged newer ones are reported and removed.

        Args:
            model: the model.
            older: a state to take when there is no whole checkpoint; the file need not exist.
            report: gets a line for each damaged file.

        Raises:
            RunError: there is none, or it is of another model or optimizer.
        """
        damaged: list[Path] = []
        for file in reversed(self.files()):
            reason = _damage(file)
            if reason is None:
                state = load_state(file, model)
                self._tidy(damaged)
                return state
            damaged.append(file)
            report(f"the checkpoint {file} is damaged ({reason}); going on from the one before")
        if damaged and not older.is_file():
            raise RunError(
                f"a checkpoint in {self.folder} must be whole to go on from it. Received: damaged ones only "
                f"({len(damaged)}); restore one, or train into a new folder"
            )
        if not older.is_file():
            raise RunError(
                f"{self.folder} must hold a checkpoint to go on from. Received: none; train into a new folder"
            )
        state = load_state(older, model)
        self._tidy(damaged)
        return state

    def clear(self) -> None:
        """Removes all of them, for a new training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def check_finite(self, model: CheckedModel) -> None:
        """Checks the weights: an update can spoil them though all numbers of its step were finite.

        Raises:
            RunError: one is not finite.
        """
        for name in not_finite_arrays(weight_arrays(model.stored)):
            raise RunError(self.failure(f"weight {name}", int(model.optimizer.iterations.numpy())))

    def failure(self, tensor: str, step: int) -> str:
        """What a user is told when a tensor of a step is not finite."""
        files = self.files()
        kept = f"the state after step {_steps(files[-1])} is kept in {files[-1]}" if files else "no state is kept"
        return (
            f"the numbers of every step must be finite. Received: NaN or infinity in {tensor}, step {step}; {kept}."
            " Train into a new folder with a smaller training.learning_rate or with training.clip_norm"
        )

    def _tidy(self, damaged: Sequence[Path]) -> None:
        # Their names say that they are the newest, for which whole ones would be removed.
        for file in filter(Path.is_file, damaged):
            file.unlink(missing_ok=True)
        remove_partial_files(self.folder)


def _steps(file: Path) -> int:
    return int(file.stem)


def _sealed(arrays: Mapping[str, Any]) -> bytes:
    """An .npz archive whose comment is the SHA-256 of all that is before it."""
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    content = archive.getvalue()[:-_COMMENT_LENGTH_BYTES] + _DIGEST_LENGTH.to_bytes(_COMMENT_LENGTH_BYTES, "little")
    return content + hashlib.sha256(content).hexdigest().encode()


def _damage(file: Path) -> str | None:
    """Why a file is not what was written; None if it is."""
    try:
        content = file.read_bytes()
    except OSError as error:
        return error.strerror or type(error).__name__
    digest = hashlib.sha256(content[:-_DIGEST_LENGTH]).hexdigest().encode()
    return None if content[-_DIGEST_LENGTH:] == digest else "its checksum is wrong"
