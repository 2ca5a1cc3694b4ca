"""egt-tf evaluate"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egt_tf.data.splits import SPLIT_CHOICES
from egt_tf.ties import ties_text
from egt_tf.wording import accuracy_text

from .attack import ATTACKED_EPISODES, EPISODES, AttackOptions, attack_options, measure_attack
from .commands import Command
from .completion import RunPath, SourceName
from .paths import check_inputs, check_source, is_exported
from .progress import stage_progress

if TYPE_CHECKING:
    from egt_tf.config import EpisodeConfig
    from egt_tf.evaluation.accuracy import Accuracy


@click.command(
    cls=Command,
    short_help="Measure accuracy on classes that were never seen.",
    examples=(
        "egt-tf evaluate runs/first --data synthetic:texture",
        "egt-tf evaluate runs/first --data folder:photos --shots 1 --split novel",
    ),
)
@click.argument("run", metavar="RUN|MODEL", type=RunPath())
@click.option(
    "--data",
    "source",
    type=SourceName(),
    metavar="SOURCE",
    help="folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic:NAME; that of the training by default.",
)
@click.option("--split", default="novel", show_default=True, type=click.Choice(SPLIT_CHOICES))
@click.option("--ways", type=click.IntRange(2), help="Classes an episode; as trained by default.")
@click.option("--shots", type=click.IntRange(1), help="Support images a class; as trained by default.")
@click.option("--queries", type=click.IntRange(1), default=15, show_default=True, help="Query images a class.")
@click.option(
    "--episodes",
    type=click.IntRange(1),
    help=f"{EPISODES} by default, {ATTACKED_EPISODES} with --attack, which takes long.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the episodes; equal seeds give equal episodes for every model.",
)
@click.option(
    "--transductive",
    is_flag=True,
    help="Let the surest queries join the support set with the classes they were given, then score again.",
)
@click.option("--rounds", type=click.IntRange(0), help="How often they do; 2 by default.")
@click.option(
    "--candidates",
    type=click.IntRange(1),
    help="Queries of an episode that join in the first round, twice as many in the second; 35 by default.",
)
@click.option("--without-duplicates", is_flag=True, help="A round replaces what the rounds before it added.")
@attack_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="JSON file; by default in the run folder, of a model in the current one.",
)
def evaluate(
    run: Path,
    source: str | None,
    split: str,
    ways: int | None,
    shots: int | None,
    queries: int,
    episodes: int | None,
    seed: int,
    transductive: bool,
    rounds: int | None,
    candidates: int | None,
    without_duplicates: bool,
    attack: AttackOptions,
    out: Path | None,
) -> None:
    """Measure the accuracy of a run or an exported model, with its 95 % interval, on episodes of unseen classes.

    A model answers each query by itself, and needs --data; episodes are 5-way 5-shot unless told otherwise.

    The calibration error says how far its probabilities are from the share that is right, over all queries.
    """
    options = _transduction_options(rounds, candidates, without_duplicates)
    if options and not transductive:
        raise click.UsageError("--rounds, --candidates and --without-duplicates say how --transductive works; add it")
    is_model = is_exported(run)
    attack.check(transductive, is_model)
    if is_model and (source is None or transductive):
        raise click.UsageError("a model needs --data SOURCE, and cannot be --transductive; evaluate its run for that")
    check_inputs(None if is_model else run)
    if source is not None:
        check_source(source)
    from egt_tf.config import EpisodeConfig, RunConfig, WeightedSource
    from egt_tf.data.mixture import open_mixture
    from egt_tf.data.sampling import narrow_lines
    from egt_tf.evaluation.accuracy import evaluate as measure
    from egt_tf.evaluation.attack_trial import AttackTrial
    from egt_tf.evaluation.attacks import ATTACKS
    from egt_tf.evaluation.report import episodes_identity, evaluation_record, save_evaluation
    from egt_tf.evaluation.transductive import Transduction
    from egt_tf.runs import RunFolder
    from egt_tf.serving.evaluation import evaluate_exported
    from egt_tf.serving.exported_model import ExportedModel

    transduction = Transduction(**options) if transductive else None
    run_folder = RunFolder(run)
    config = RunConfig() if is_model else run_folder.config()
    episode = EpisodeConfig(ways or config.episode.ways, shots or config.episode.shots, queries)
    sources = (WeightedSource(source),) if source else config.data.train_sources
    images = open_mixture(sources, split)
    attacked = attack.attack is not None
    episodes = episodes or (ATTACKED_EPISODES if attacked else EPISODES)
    identity = episodes_identity(images, episode, episodes, seed)
    source_name = ", ".join(each.source for each in sources)
    if attacked:
        trial = AttackTrial(
            run=str(run),
            source=source_name,
            split=split,
            episode=episode,
            episodes=episodes,
            seed=seed,
            episodes_id=identity,
            attack=ATTACKS.get(attack.arguments),
            attack_support=attack.attack_support,
        )
        measure_attack(run_folder, images, trial, attack, out)
        return
    with stage_progress("episodes") as show_episodes, stage_progress("images") as show_images:
        if is_model:
            accuracy = evaluate_exported(ExportedModel(run), images, episode, episodes, seed, show_episodes)
        else:
            accuracy = measure(
                run_folder.load_model(),
                images,
                episode,
                episodes,
                seed,
                progress=show_episodes,
                image_progress=show_images,
                transduction=transduction,
            )
    # Before the file is written: a full disk must not lose the result.
    click.echo(f"{images.name}, {transduction or 'inductive'}, {_result(accuracy, episode, episodes)}")
    for line in narrow_lines(images, episode.ways):
        click.echo(line)
    click.echo(accuracy.calibration)
    if accuracy.tied:
        click.echo(ties_text(accuracy.tied))
    click.echo(f"identity of the episodes: {identity}")
    record = evaluation_record(run, source_name, split, episode, seed, accuracy, transduction, identity)
    default = Path(f"{record['name']}.json") if is_model else run_folder.evaluation_file(record["name"])
    path = save_evaluation(record, out or default)
    click.echo(f"written: {path}")


def _transduction_options(rounds: int | None, candidates: int | None, without_duplicates: bool) -> dict[str, Any]:
    """What was said of how transduction works; the rest is left to its defaults."""
    said = {"rounds": rounds, "candidates": candidates, "duplicates": False if without_duplicates else None}
    return {key: value for key, value in said.items() if value is not None}


def _result(accuracy: Accuracy, episode: EpisodeConfig, episodes: int) -> str:
    return (
        f"{episode.ways}-way {episode.shots}-shot, {episode.queries} queries a class, {episodes} episodes: "
        f"{accuracy_text(accuracy.mean, accuracy.interval, chance=1 / episode.ways)}"
    )
