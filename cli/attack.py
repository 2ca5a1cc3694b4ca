"""egt-tf evaluate --attack: its options, and what they do."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egt_tf.errors import ConfigError

from .lines import table
from .progress import echo_over, stage_progress
from .types import Numbers, Share

if TYPE_CHECKING:
    from egt_tf.data.image_set import ImageSet
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.evaluation.attack_trial import AttackTrial
    from egt_tf.runs import RunFolder

EPISODES, ATTACKED_EPISODES = 600, 20

_OPTIONS = (
    click.option(
        "--attack",
        type=click.Choice(["fgsm", "pgd", "random"]),
        help="Change the pixels of the queries to mislead the model; random knows nothing of it.",
    ),
    click.option("--epsilon", type=Share(), help="Largest change of a pixel in [0, 1]; 4/255 by default."),
    click.option("--steps", type=int, help="Of pgd; 20 by default."),
    click.option("--restarts", type=int, help="Of pgd: random starts, of which the worst is taken; 1 by default."),
    click.option(
        "--samples",
        type=int,
        help="Noise that an answer is the mean of, and as many for each gradient; 10 by default, 1 without noise.",
    ),
    click.option("--attack-support", is_flag=True, help="Change the support images, too."),
    click.option(
        "--degrees",
        type=Numbers(),
        metavar="NUMBERS",
        help="Attack with these degrees of noise, 0,0.05,...,0.5, in turn: a table and a figure.",
    ),
)


def attack_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to a command, which gets them as one `AttackOptions` called `attack`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> Any:
        names = [field.name for field in dataclasses.fields(AttackOptions)]
        return command(attack=AttackOptions(**{name: given.pop(name) for name in names}), **given)

    return functools.reduce(lambda inner, option: option(inner), reversed(_OPTIONS), with_options)


@dataclasses.dataclass(frozen=True)
class AttackOptions:
    """What was said of an attack; None where nothing was.

    Attributes:
        attack, epsilon, steps, restarts, samples, attack_support, degrees: see `_OPTIONS`.
    """

    attack: str | None
    epsilon: float | None
    steps: int | None
    restarts: int | None
    samples: int | None
    attack_support: bool
    degrees: list[float] | None

    def check(self, transductive: bool, is_model: bool) -> None:
        """Checks what does not go together."""
        said = [name for name, value in dataclasses.asdict(self).items() if value is not None and value is not False]
        if self.attack is None and said:
            raise click.UsageError(f"--{said[0].replace('_', '-')} says how --attack works; add it")
        if self.attack is not None and transductive:
            raise click.UsageError("--attack is for queries by themselves; leave out --transductive")
        if self.attack is not None and is_model:
            raise click.UsageError("an exported model has no gradients to attack it by; evaluate its run for that")

    @property
    def arguments(self) -> dict[str, Any]:
        """The attack as `ATTACKS` takes it."""
        said = {"name": self.attack, "epsilon": self.epsilon, "steps": self.steps, "restarts": self.restarts}
        return {name: value for name, value in said.items() if value is not None}


def measure_attack(
    run: RunFolder, images: ImageSet, trial: AttackTrial, options: AttackOptions, out: Path | None
) -> None:
    """Attacks a run, at its own degree of noise or at several, and prints and writes what came of it.

    Args:
        run: its folder.
        images: to draw the episodes from.
        trial: what is measured.
        options: what was said of the attack.
        out: the JSON file; None: in the run folder.
    """
    from egt_tf.evaluation.attack_report import result_lines
    from egt_tf.evaluation.attack_trend import measured
    from egt_tf.evaluation.report import save_evaluation

    model, episode = run.load_model(), trial.episode
    shape = f"{episode.ways}-way {episode.shots}-shot, {episode.queries} queries a class, {trial.episodes} episodes"
    click.echo(f"{images.name}, {trial.attack}, {shape}")
    if options.degrees is not None:
        _measure_trend(run, model, images, trial, options, out)
        return
    with stage_progress("episodes") as show:
        record = measured(model, images, trial, options.samples, show)
    for line in result_lines(record):
        click.echo(line)
    click.echo(f"identity of the episodes: {trial.episodes_id}")
    click.echo(f"written: {save_evaluation(record, out or run.attack_file(record['name']))}")


def _measure_trend(
    run: RunFolder, model: EpisodicModel, images: ImageSet, trial: AttackTrial, options: AttackOptions, out: Path | None
) -> None:
    from egt_tf.evaluation.attack_report import trend_figure, trend_rows
    from egt_tf.evaluation.attack_trend import trend
    from egt_tf.evaluation.report import save_evaluation
    from egt_tf.files import atomic_write

    degrees = options.degrees or []
    if out is not None and out.suffix == ".png":
        raise ConfigError(f"--out must be the JSON file, beside which the figure goes. Received: {out}")
    records: list[dict[str, Any]] = []
    # A line of progress for all degrees together.
    with stage_progress("episodes") as show:

        def show_all(done: int, total: int) -> None:
            show(len(records) * total + done, len(degrees) * total)

        for record in trend(model, images, trial, degrees, run.attack_file, options.samples, show_all):
            records.append(record)
            echo_over(f"degree {'  '.join(trend_rows([record])[0])}")
    click.echo(table(("degree", "accuracy", "under attack", "attack success"), trend_rows(records)))
    click.echo(f"identity of the episodes: {trial.episodes_id}")
    name = dataclasses.replace(trial, samples=records[-1]["samples"]).trend_name(degrees)
    path = save_evaluation({"name": name, "degrees": degrees, "results": records}, out or run.attack_file(name))
    picture = path.with_suffix(".png")
    with atomic_write(picture) as file:
        file.write(trend_figure(records, f"{images.name}: {trial.attack}"))
    click.echo(f"written: {path}, {picture}")
