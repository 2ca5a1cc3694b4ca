"""egt-tf tune-composite"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egt_tf.data.splits import SPLIT_CHOICES
from egt_tf.errors import ConfigError, as_number

from .commands import Command
from .completion import RunPath, SourceName
from .lines import table
from .paths import check_inputs, check_source, is_exported
from .progress import stage_progress

if TYPE_CHECKING:
    from egt_tf.config import EpisodeConfig
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.evaluation.composite_tuning import Tuning
    from egt_tf.explain import Method

# What people scan by eye for networks of today; conv_gamma is of convolutions, dense_gamma of dense layers.
_GRID = ("conv_gamma=0,0.1,0.25,1,100", "dense_gamma=0,0.05,0.25")


@click.command(
    cls=Command,
    short_help="Choose a composite's numbers by measuring.",
    examples=(
        "egt-tf tune-composite runs/first --data synthetic:sketch --quick",
        "egt-tf tune-composite runs/first --data folder:photos --measure aupc",
    ),
)
@click.argument("run", metavar="RUN|MODEL", type=RunPath())
@click.option(
    "--data",
    "source",
    type=SourceName(),
    metavar="SOURCE",
    required=True,
    help="folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic:NAME.",
)
@click.option("--split", default="val", show_default=True, type=click.Choice(SPLIT_CHOICES))
@click.option("--composite", default="vit_gamma", show_default=True, metavar="NAME", help="Whose arguments are tried.")
@click.option(
    "--grid",
    multiple=True,
    metavar="ARGUMENT=NUMBER,NUMBER,...",
    help=f"Values of an argument; may be given several times. {' and '.join(_GRID)} by default.",
)
@click.option("--against", default="epsilon_plus", show_default=True, metavar="NAME", help="What it is compared with.")
@click.option("--measure", default="deletion", show_default=True, type=click.Choice(["aupc", "deletion", "insertion"]))
@click.option(
    "--queries", type=click.IntRange(4), default=40, show_default=True, help="Half to choose, half to compare."
)
@click.option("--ways", type=click.IntRange(2), help="Classes an episode; as trained by default, of a model 5.")
@click.option("--shots", type=click.IntRange(1), help="Support images a class; as trained by default, of a model 5.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the episodes.")
@click.option("--quick", is_flag=True, help="Fewer windows and fills: see docs/metrics.md.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The composite's file; RUN/composite.json by default, of a model NAME_composite.json.",
    metavar="FILE",
)
def tune_composite(
    run: Path,
    source: str,
    split: str,
    composite: str,
    grid: tuple[str, ...],
    against: str,
    measure: str,
    queries: int,
    ways: int | None,
    shots: int | None,
    seed: int,
    quick: bool,
    out: Path | None,
) -> None:
    """Choose the numbers of a composite by how well its maps do, and write it for --method FILE.

    It is chosen on one half of the queries; how much better it is than --against is measured on the other half. MODEL
    must be one of `egt-tf learn`, whose network can be read from it.
    """
    is_model = is_exported(run)
    check_inputs(None if is_model else run)
    check_source(source)
    target = out or (Path(f"{run.resolve().name}_composite.json") if is_model else run / "composite.json")
    if target.suffix != ".json" or target.is_dir():
        raise ConfigError(f"--out must be a file that ends in .json. Received: {target}")
    from egt_tf.data.sources import open_source
    from egt_tf.evaluation.composite_tuning import grid_of, tune
    from egt_tf.evaluation.explanation_measures import EXACT, MEASURES, QUICK
    from egt_tf.evaluation.judged_queries import draw_queries
    from egt_tf.explain import get_method
    from egt_tf.explain.composite_files import write_composite
    from egt_tf.lrp.presets import COMPOSITES

    arguments = grid_of(_grid(grid or _GRID))
    candidates = [_candidate(composite, each) for each in arguments]
    compared = get_method(against)
    images = open_source(source).split(split)
    model, trained = _learned(run) if is_model else _trained(run)
    episode = dataclasses.replace(trained, ways=ways or trained.ways, shots=shots or trained.shots, queries=1)
    drawn = list(draw_queries(images, episode, queries, seed, model.image_size))
    with stage_progress("queries") as show:
        effort = (QUICK if quick else EXACT).seeded(seed)
        found = tune(model, candidates, compared, drawn, MEASURES[measure], effort, seed, show)
    click.echo(table(("composite", f"{measure} ({MEASURES[measure].better})"), _rows(found)))
    gain = f"{found.gain:+.4g} +- {found.interval:.2g} of {measure} on {len(found.gains)} other queries"
    click.echo(f"chosen: {found.candidates[found.best]}; {found.verdict} {against}: gain {gain}")
    about = {
        "composite": composite,
        "arguments": arguments[found.best],
        "measure": measure,
        "against": against,
        "gain": _defined(found.gain),
        "interval": _defined(found.interval),
        "grid": list(grid or _GRID),
        "run": str(run),
        "data": source,
        "split": split,
        "ways": episode.ways,
        "shots": episode.shots,
        "queries": queries,
        "seed": seed,
        "quick": quick,
    }
    chosen = COMPOSITES.get({"name": composite, **arguments[found.best]})
    write_composite(target, chosen, candidates[found.best].canonize, about)
    used = f"--support FOLDER --method {target}" if is_model else f"--run {run} --method {target}"
    click.echo(f"written: {target}; egt-tf explain IMAGE {used}")


def _trained(run: Path) -> tuple[EpisodicModel, EpisodeConfig]:
    """The model of a run and the episodes it was trained on."""
    from egt_tf.runs import RunFolder

    folder = RunFolder(run)
    return folder.load_model(), folder.config().episode


def _learned(path: Path) -> tuple[EpisodicModel, EpisodeConfig]:
    """The network and the head of a learned model, and episodes for it."""
    from egt_tf.config import EpisodeConfig
    from egt_tf.learning import FewShotClassifier
    from egt_tf.serving.contract import version_folder
    from egt_tf.serving.learned import is_learned

    if not is_learned(version_folder(path)):
        raise ConfigError(
            f"a model explains by the method in its graph, and its layers are closed. Received: {path}, which `egt-tf "
            "export` wrote; name the run it was exported from"
        )
    return FewShotClassifier.load(path).model, EpisodeConfig(ways=5, shots=5, queries=1)


def _grid(given: tuple[str, ...]) -> dict[str, list[float]]:
    """The values of each argument."""
    values: dict[str, list[float]] = {}
    for text in given:
        name, _, listed = text.partition("=")
        numbers = [as_number(each) for each in listed.split(",")]
        if None in numbers or name in values:
            raise ConfigError(f"--grid must be ARGUMENT=NUMBER,NUMBER,..., once for each argument. Received: {text}")
        values[name] = [number for number in numbers if number is not None]
    return values


def _defined(number: float) -> float | None:
    """JSON has no such thing as not a number."""
    return number if math.isfinite(number) else None


def _candidate(composite: str, arguments: dict[str, Any]) -> Method:
    from egt_tf.explain import get_method
    from egt_tf.lrp.presets import COMPOSITES

    # One that is no composite is told here.
    COMPOSITES.member(composite)
    method = get_method({"name": composite, **arguments})
    said = " ".join(f"{name}={value:g}" for name, value in arguments.items())
    return dataclasses.replace(method, name=f"{composite} {said}")


def _rows(found: Tuning) -> list[tuple[str, str]]:
    rows = []
    for name, values in zip(found.candidates, found.values, strict=True):
        defined = values[values == values]
        spread = 1.96 * defined.std(ddof=1) / len(defined) ** 0.5 if len(defined) > 1 else float("nan")
        rows.append((name, f"{defined.mean():.4f} +- {spread:.4f}" if len(defined) else "not defined"))
    return rows
