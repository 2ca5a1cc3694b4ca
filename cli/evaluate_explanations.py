"""egt-tf evaluate-explanations"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.data.splits import SPLIT_CHOICES

from .lines import table
from .paths import check_inputs, check_source
from .progress import duration, stage_progress

if TYPE_CHECKING:
    from egt_tf.episodic_model import EpisodicModel
    from egt_tf.evaluation.explanations import JudgedQuery
    from egt_tf.explain import Method

# Of one family each, the first to trust first; without those that take minutes an image.
_METHODS = (
    "epsilon_plus,epsilon_gamma_box,fsc,lrp.sequential_preset_a,grad_cam,integrated_gradients,smoothgrad,"
    "gradient,input_times_gradient,guided_backprop"
)


@click.command(short_help="Measure how good explanations by several methods are.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--data",
    "source",
    metavar="SOURCE",
    required=True,
    help="folder:DIR, filelist:FILE.json, tfds:NAME, domain:NAME or synthetic:NAME.",
)
@click.option("--split", default="novel", show_default=True, type=click.Choice(SPLIT_CHOICES))
@click.option("--methods", default=_METHODS, metavar="NAME,NAME,...", help="Ten by default; explain --list-methods.")
@click.option("--measures", metavar="NAME,NAME,...", help="All that the source allows by default.")
@click.option("--ways", type=click.IntRange(2), help="Classes an episode; as trained by default.")
@click.option("--shots", type=click.IntRange(1), help="Support images a class; as trained by default.")
@click.option("--queries", type=click.IntRange(1), default=30, show_default=True, help="Query images altogether.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the episodes and the changes.")
@click.option("--quick", is_flag=True, help="Fewer windows, fills and changes: see docs/metrics.md.")
@click.option(
    "--randomize",
    type=click.IntRange(1),
    metavar="N",
    help="Also explain N of the queries while layers get random weights, from the scores down.",
)
@click.option("--out", type=click.Path(path_type=Path), help="A folder; by default in the run folder.")
def evaluate_explanations(
    run: Path,
    source: str,
    split: str,
    methods: str,
    measures: str | None,
    ways: int | None,
    shots: int | None,
    queries: int,
    seed: int,
    quick: bool,
    randomize: int | None,
    out: Path | None,
) -> None:
    """Judge explanations of a run's predictions by the same queries and the same changes for all methods.

    Each query is explained for the class that the model predicts. The last row is the control: maps of random numbers.
    """
    check_inputs(run)
    check_source(source)
    from egt_tf.config import EpisodeConfig
    from egt_tf.data.sources import open_source
    from egt_tf.errors import ConfigError
    from egt_tf.evaluation.explanation_measures import EXACT, QUICK
    from egt_tf.evaluation.explanation_report import table_rows, to_csv, to_json
    from egt_tf.evaluation.explanations import RANDOM, ExplanationJudge, chosen_measures, draw_queries
    from egt_tf.explain import get_method
    from egt_tf.figures.curves import curves_figure
    from egt_tf.files import atomic_write, write_json
    from egt_tf.runs import RunFolder

    folder = RunFolder(run)
    config = folder.config()
    episode = EpisodeConfig(ways or config.episode.ways, shots or config.episode.shots, 1)
    chosen = [get_method(name) for name in _names(methods)]
    images = open_source(source).split(split)
    wanted = chosen_measures(_names(measures) if measures else None, images.mask is not None)
    effort = (QUICK if quick else EXACT).seeded(seed)
    target = out or run / "explanations"
    if target.exists() and not target.is_dir():
        raise ConfigError(f"--out must be a folder. Received: the file {target}")
    model = folder.load_model()
    drawn = list(draw_queries(images, episode, queries, seed, model.image_size))
    judge = ExplanationJudge(model, chosen, wanted, effort, seed)
    click.echo("one query of every method is timed")
    click.echo(f"{queries} queries, {len(chosen)} methods: about {duration(judge.seconds(drawn[0], queries))}")
    with stage_progress("queries") as show:
        found = judge(drawn, show)
    rows = [(name, *cells) for name, *cells in table_rows(found)]
    click.echo(table(("method", *(f"{each.name} ({each.better})" for each in wanted)), rows))
    target.mkdir(parents=True, exist_ok=True)
    circumstances = {
        "run": str(run),
        "data": source,
        "split": split,
        "ways": episode.ways,
        "shots": episode.shots,
        "seed": seed,
        "quick": quick,
    }
    write_json(target / "explanations.json", to_json(found, circumstances))
    with atomic_write(target / "explanations.csv") as file:
        file.write(to_csv(found).encode())
    written = [target / "explanations.json", target / "explanations.csv"]
    if found.curves is not None:
        picture = curves_figure(
            dict(zip(found.methods, found.curves, strict=True)),
            RANDOM,
            f"{images.name}: the score while the most relevant windows are filled with noise",
            "windows filled",
            "score over that of the whole image",
        )
        with atomic_write(target / "perturbation.png") as file:
            file.write(picture)
        written.append(target / "perturbation.png")
    if randomize:
        written += _randomize(model, chosen, drawn[:randomize], seed, target)
    click.echo(f"written: {', '.join(map(str, written))}")


def _randomize(
    model: EpisodicModel, methods: list[Method], queries: list[JudgedQuery], seed: int, target: Path
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
    )
    files = {"randomization.csv": randomization_csv(found).encode(), "randomization.png": picture}
    for name, content in files.items():
        with atomic_write(target / name) as file:
            file.write(content)
    return [target / name for name in files]


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
