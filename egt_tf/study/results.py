"""What the cells of a study measured, as rows and as files."""

from __future__ import annotations

import dataclasses
from typing import Any

from egt_tf.errors import RunError

# The setting of a study that names none; not worth saying.
DEFAULT_SETTING = "default"


@dataclasses.dataclass(frozen=True, order=True)
class CellName:
    """Which cell of the grid.

    Attributes:
        setting: name of one of the study's settings; "default" where it names none.
        head: name of one of its heads.
        shots: support images a class, in training and in testing.
        arm: name of one of its arms.
        seed: of the training.

    Example:
        >>> CellName("default", "cosine", 5, "plain", 1).path
        'default/cosine/5shot/plain/seed1'
    """

    setting: str
    head: str
    shots: int
    arm: str
    seed: int

    @property
    def path(self) -> str:
        """A relative path that no other cell of the study has."""
        return f"{self.setting}/{self.head}/{self.shots}shot/{self.arm}/seed{self.seed}"


@dataclasses.dataclass(frozen=True)
class TargetResult:
    """What a trained cell reached on one target.

    Attributes:
        accuracies: of each test episode, in [0, 1]; the same episodes for all cells of the study with as many shots.
        episodes_id: tells sets of episodes apart, see `egt_tf.evaluation.report.episodes_identity`.
        calibration_error: expected calibration error with 15 bins, in [0, 1].
        negative_log_likelihood: of the true class, in nats.

    Example:
        >>> TargetResult((0.5, 0.75), "abc", 0.1, 1.2).accuracy
        0.625
    """

    accuracies: tuple[float, ...]
    episodes_id: str
    calibration_error: float
    negative_log_likelihood: float

    @property
    def accuracy(self) -> float:
        """Mean over the test episodes."""
        return sum(self.accuracies) / len(self.accuracies)


@dataclasses.dataclass(frozen=True)
class CellResult:
    """All that is known of a finished cell.

    Attributes:
        name: which cell.
        episodes: training episodes.
        curve: pairs of finished training episodes and the accuracy on one of the targets, in [0, 1], one for each epoch.
        seconds_per_step: of training; comparable within one machine only.
        targets: by the target's name.

    Example:
        >>> target = TargetResult((0.5, 0.7), "abc", 0.1, 1.2)
        >>> cell = CellResult(CellName("default", "cosine", 5, "plain", 1), 100, ((100, 0.6),), 0.02, {"cub": target})
        >>> cell_from_dict(cell_to_dict(cell), "an example") == cell
        True
    """

    name: CellName
    episodes: int
    curve: tuple[tuple[int, float], ...]
    seconds_per_step: float
    targets: dict[str, TargetResult]


def cell_to_dict(cell: CellResult) -> dict[str, Any]:
    """JSON types that `cell_from_dict` turns into an equal result."""
    values = dataclasses.asdict(cell)
    return {**values.pop("name"), **values}


def cell_from_dict(values: Any, origin: str) -> CellResult:
    """The result that `cell_to_dict` made the values from.

    Args:
        values: content of a JSON file.
        origin: where they come from, for the message.

    Raises:
        RunError: they are no such result.
    """
    try:
        values = dict(values)
        name = CellName(**{field.name: values.pop(field.name) for field in dataclasses.fields(CellName)})
        targets = {
            target: TargetResult(**{**result, "accuracies": tuple(map(float, result["accuracies"]))})
            for target, result in values.pop("targets").items()
        }
        curve = tuple((int(episodes), float(accuracy)) for episodes, accuracy in values.pop("curve"))
        cell = CellResult(name=name, targets=targets, curve=curve, **values)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise RunError(f"{origin} must be the result of a study's cell. Received: {error}") from error
    if not all(result.accuracies for result in cell.targets.values()):
        raise RunError(f"{origin} must have accuracies of at least one episode. Received: none")
    return cell
