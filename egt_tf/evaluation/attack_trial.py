"""What is attacked, and how: one measurement, told from every other."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

from egt_tf.config import EpisodeConfig
from egt_tf.episodic_model import EpisodicModel
from egt_tf.evaluation.attacks import Attack
from egt_tf.evaluation.report import file_name
from egt_tf.weights import weight_arrays


@dataclasses.dataclass(frozen=True)
class AttackTrial:
    """What is attacked, and how: all that tells one measurement from another.

    Attributes:
        run: the run folder.
        source, split: of the images.
        episode: ways, shots and queries a class.
        episodes, seed: of the episodes.
        episodes_id: see `egt_tf.evaluation.report.episodes_identity`.
        attack: how the pixels are changed.
        attack_support: whether the support images are changed, too.
        samples: of an answer.
        degree: of the noise; None for a backbone without.
        weights: see `weights_identity`.

    Example:
        >>> from egt_tf.evaluation.attacks import fgsm
        >>> trial = AttackTrial("runs/a", "s", "novel", EpisodeConfig(), 20, 0, "", fgsm())
        >>> trial.name[:58]
        's-novel-5way-5shot-16query-20episodes-seed0-fgsm_epsilon_4'
    """

    run: str
    source: str
    split: str
    episode: EpisodeConfig
    episodes: int
    seed: int
    episodes_id: str
    attack: Attack
    attack_support: bool = False
    samples: int = 1
    degree: float | None = None
    weights: str = ""

    @property
    def name(self) -> str:
        """Fit for a file."""
        return self._named("" if self.degree is None else f"-degree{self.degree:g}")

    def trend_name(self, degrees: Sequence[float]) -> str:
        """The same of a trend over degrees of noise."""
        return self._named(f"-degrees{','.join(f'{each:g}' for each in degrees)}")

    def _named(self, degree: str) -> str:
        shape = f"{self.episode.ways}way-{self.episode.shots}shot-{self.episode.queries}query"
        support = "-support" if self.attack_support else ""
        words = f"{self.episodes}episodes-seed{self.seed}-{self.attack}-{self.samples}samples{support}{degree}"
        return file_name(f"{self.source}-{self.split}-{shape}-{words}")

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        flat = {**dataclasses.asdict(self), **dataclasses.asdict(self.episode)}
        return {"name": self.name, **{key: value for key, value in flat.items() if key != "episode"}}


def weights_identity(model: EpisodicModel) -> str:
    """A hash of all weights of a model: the first 12 hexadecimal digits of SHA-256.

    Example:
        >>> len(weights_identity(EpisodicModel.build_from("conv4", "prototype", 16, seed=1)))
        12
    """
    digest = hashlib.sha256()
    for name, array in weight_arrays(model).items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + array.tobytes())
    return digest.hexdigest()[:12]
