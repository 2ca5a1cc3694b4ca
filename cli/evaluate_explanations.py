"""egt-tf evaluate-explanations"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from egt_tf.data.splits import SPLIT_CHOICES
from egt_tf.errors import ConfigError

from .commands import Command
from .completion import MethodNames, RunPath, SourceName
from .lines import table
from .paths import check_inputs, check_source, is_exported
from .progress import duration, stage_progress

if TYPE_CHECKING:
    from egt_tf.config import EpisodeConfig
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.evaluation.explained_model import Explained
    from egt_tf.evaluation.explanations import ExplanationQuality
    from egt_tf.evaluation.judged_queries import JudgedQuery
    from egt_tf.explain import Method

# Of one family each, the first to trust first; without those that take minutes an image.
_METHODS = (
    "epsilon_plus,epsilon_gamma_box,fsc,lrp.sequential_preset_a,grad_cam,integrated_gradients,smoothgrad,"
    "gradient,input_times_gradient,guided_backprop"
)


@click.command(
    cls=Command,
    short_help="Measure how good explanations by several methods are.",
    examples=(
        "egt-tf evaluate-explanations runs/first --data synthetic:sketch --quick",
        "egt-tf evaluate-explanations runs/first --data folder:photos --queries 10",
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
@click.option("--split", default="novel", show_default=True, type=click.Choice(SPLIT_CHOICES))
@click.option(
    "--methods",
    type=MethodNames(),
    metavar="NAME,NAME,...",
    help="Ten by default; explain --list-methods. A model has its own.",
)
@click.option("--measures", metavar="NAME,NAME,...", help="All that the source allows by default.")
@click.option("--ways", type=click.IntRange(2), help="Classes an episode; as trained by default, of a model 5.")
@click.option("--shots", type=click.IntRange(1), help="Support images a class; as trained by default, of a model 5.")
@click.option("--queries", type=click.IntRange(1), default=30, show_default=True, help="Query images altogether.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the episodes and the changes.")
@click.option("--quick", is_flag=True, help="Fewer windows, fills and changes: see docs/metrics.md.")
@click.option(
    "--randomize",
    type=click.IntRange(1),
    metavar="N",
    help="Also explain N of the queries while layers get random weights, from the scores down.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="A folder; by default in the run folder, of a model NAME_explanations.",
)
def evaluate_explanations(
    run: Path,
    source: str,
    split: str,
    methods: str | None,
    measures: str | None,
    ways: int | None,
    shots: int | None,
    queries: int,
    seed: int,
    quick: bool,
    randomize: int | None,
    out: Path | None,
) -> None:
    """Judge explanations of a run's or an exported model's predictions, by the same queries and changes for all methods.

    Each query is explained for the class that the model predicts. The last row is the control: maps of random numbers.
    """
    is_model = is_exported(run)
    if is_model and (methods or randomize):
        raise ConfigError(
            "a model explains by the method in its graph, and its layers are closed: leave --methods and --randomize out, "
            "or judge the run it was exported from"
        )
    check_inputs(None if is_model else run)
    check_source(source)
    from egt_tf.config import EpisodeConfig
    from egt_tf.data.sources import open_source
    from egt_tf.evaluation.explanation_measures import EXACT, QUICK
    from egt_tf.evaluation.explanation_report import table_rows
    from egt_tf.evaluation.explanations import ExplanationJudge, chosen_measures
    from egt_tf.evaluation.judged_queries import draw_queries

    images = open_source(source).split(split)
    wanted = chosen_measures(_names(measures) if measures else None, images.mask is not None)
    target = out or (Path(f"{run.resolve().name}_explanations") if is_model else run / "explanations")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out must be a folder. Received: the file {target}")
    subject = _of_model(run) if is_model else _of_run(run, _names(methods or _METHODS))
    episode = EpisodeConfig(ways or subject.episode.ways, shots or subject.episode.shots, 1)
    explained = subject.explained
    drawn = list(draw_queries(images, episode, queries, seed, explained.image_size))
    judge = ExplanationJudge(explained, wanted, (QUICK if quick else EXACT).seeded(seed), seed)
    click.echo("one query of every method is timed")
    count = len(explained.methods)
    click.echo(
        f"{queries} queries, {count} method{'s' * (count > 1)}: about {duration(judge.seconds(drawn[0], queries))}"
    )
    with stage_progress("queries") as show:
        found = judge(drawn, show)
    rows = [(name, *cells) for name, *cells in table_rows(found)]
    click.echo(table(("method", *(f"{each.name} ({each.better})" for each in wanted)), rows))
    circumstances = {
        "run": str(run),
        "data": source,
        "split": split,
        "ways": episode.ways,
        "shots": episode.shots,
        "seed": seed,
        "quick": quick,
    }
    written = _write(found, circumstances, images.name, target)
    if randomize and subject.model is not None:
        written += _randomize(subject.model, subject.methods, drawn[:randomize], seed, target)
    click.echo(f"written: {', '.join(map(str, written))}")


def _write(found: ExplanationQuality, circumstances: dict[str, Any], name: str, target: Path) -> list[Path]:
    """The files of what was found; `name` is that of the data."""
    from egt_tf.evaluation.explanation_report import to_csv, to_json
    from egt_tf.evaluation.explanations import RANDOM
    from egt_tf.figures.curves import curves_figure
    from egt_tf.files import atomic_write, write_json

    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "explanations.json", to_json(found, circumstances))
    files = {"explanations.csv": to_csv(found).encode()}
    if found.curves is not None:
        files["perturbation.png"] = curves_figure(
            dict(zip(found.methods, found.curves, strict=True)),
            RANDOM,
            f"{name}: the score while the most relevant windows are filled with noise",
            "windows filled",
            "score over that of the whole image",
        )
    for file_name, content in files.items():
        with atomic_write(target / file_name) as file:
            file.write(content)
    return [target / file_name for file_name in ("explanations.json", *files)]


@dataclasses.dataclass(frozen=True)
class _Subject:
    """What is judged, and the episodes that it was trained on; of a run the model and the methods too."""

    explained: Explained
    episode: EpisodeConfig
    model: EpisodicModel | None = None
    methods: tuple[Method, ...] = ()


def _of_run(run: Path, methods: list[str]) -> _Subject:
    from egt_tf.evaluation.explained_model import ExplainedModel
    from egt_tf.runs import RunFolder

    from .methods import named_method

    chosen = tuple(named_method(name) for name in methods)
    folder = RunFolder(run)
    config, model = folder.config(), folder.load_model()
    return _Subject(ExplainedModel(model, chosen), config.episode, model, chosen)


def _of_model(path: Path) -> _Subject:
    from egt_tf.config import RunConfig
    from egt_tf.serving.explained_model import ExplainedExport
    from egt_tf.serving.explainer import ExportedExplainer
    from egt_tf.serving.exported_model import ExportedModel

    model = ExportedModel(path)
    return _Subject(ExplainedExport(model, ExportedExplainer(model).method_name), RunConfig().episode)


def _randomize(
    model: EpisodicModel, methods: Sequence[Method], queries: list[JudgedQuery], seed: int, target: Path
) -> list[Path]:
    """How much of the maps is left while layers lose their weights; the files that say so."""
    from egt_tf.evaluation.explanation_report import randomization_csv
    from egt_tf.evaluation.randomization import randomize
    from egt_tf.figures.curves import curves_figure
    from egt_tf.files import atomic_write

    with stage_progress("layers") as show:
        found = randomize(model, methods, queries, seed, show)
    picture = curves_figure(
        {name: rows.T for name, rows in zip(found.methods, found.correlations, strict=True)},
        "",
        f"what is left of the maps while {len(found.layers)} layers lose their weights",
        f"layers with random weights, from {found.layers[0]} to {found.layers[-1]}",
        "rank correlation with the trained model's map",
        range(1, len(found.layers) + 1),
    )
    files = {"randomization.csv": randomization_csv(found).encode(), "randomization.png": picture}
    for name, content in files.items():
        with atomic_write(target / name) as file:
            file.write(content)
    return [target / name for name in files]


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
