"""egt-tf explain"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.ties import tie_text
from egt_tf.wording import accuracy_text

from .bundled import bundled_model, bundled_sample, describe_bundled
from .commands import Command
from .completion import MethodName, MethodNames, RunPath
from .lines import counts_text, picture_names, prediction_line, say_left_out, warn_of_unlike
from .methods import named_method
from .paths import check_images, check_inputs
from .progress import stage_progress
from .types import ClassName

if TYPE_CHECKING:
    from egt_tf.data.support import SupportSet
    from egt_tf.explain import EpisodeExplanation, Explainer
    from egt_tf.runs import RunFolder

_RUNS = "runs"


@click.command(
    cls=Command,
    short_help="Draw which pixels spoke for a prediction.",
    examples=(
        "egt-tf explain new.png --run runs/first",
        "egt-tf explain new.jpg --support photos --method epsilon_plus",
        "egt-tf explain --sample --compare fsc,grad_cam,gradient",
    ),
)
@click.argument("images", nargs=-1, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option(
    "--run",
    type=RunPath(),
    metavar="RUN",
    help="A run folder; the newest finished one in runs/ by default. Without any, the pre-trained embedding if there is "
    "--support, else the model that comes with egt-tf.",
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported model in place of a run, such as saved_models/first.",
)
@click.option(
    "--support",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="One sub-folder of images a class; the stored support set by default.",
)
@click.option(
    "--target",
    type=ClassName(),
    metavar="CLASS|all",
    help="Explain this class, or all unless one is called so; the prediction and the runner-up by default.",
)
@click.option(
    "--method",
    type=MethodName(),
    metavar="NAME|FILE",
    help="How to explain: a name, or a file of tune-composite; the composite of the run's guidance by default.",
)
@click.option(
    "--set",
    "arguments",
    multiple=True,
    metavar="KEY=VALUE",
    help="An argument of the --method, as in sigma=0.3; may be given several times.",
)
@click.option(
    "--start",
    type=click.Choice(["log_odds", "margin"]),
    help="Begin at the log-odds of the class, or at the margin between its score and its strongest rival's.",
)
@click.option(
    "--compare", type=MethodNames(), metavar="NAME,NAME,...", help="Draw several methods side by side instead."
)
@click.option(
    "--sample", is_flag=True, help="Explain an image that comes with egt-tf, by the model that comes with it."
)
@click.option(
    "--list-methods", is_flag=True, help="Show what each method is good for, the first to trust first, and exit."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="The figure (.png) of a single image, or a folder for all figures; the current folder by default, where "
    "IMAGE-explained.png, or IMAGE-compared.png, never replaces another picture.",
)
def explain(
    images: tuple[Path, ...],
    run: Path | None,
    model: Path | None,
    support: Path | None,
    target: str | None,
    method: str | None,
    arguments: tuple[str, ...],
    start: str | None,
    compare: str | None,
    sample: bool,
    list_methods: bool,
    out: Path | None,
) -> None:
    """Classify images by a support set and draw which pixels spoke for and against it."""
    if list_methods:
        _list_methods()
        return
    if sample and (images or run or model):
        raise click.UsageError("--sample brings an image and a model; leave IMAGE, --run and --model out")
    if sample:
        images, model = (bundled_sample(),), bundled_model()
    if arguments and not method:
        raise click.UsageError("--set gives an argument to the --method; name one")
    for argument in arguments:
        if "=" not in argument or argument.startswith("name="):
            raise click.UsageError(
                f"--set must be written KEY=VALUE, with an argument of the method. Received: {argument}"
            )
    _check_options(images, run, model, method, start, compare, out)
    check_images(images)
    check_inputs(run, model, support)
    from egt_tf.data.support import load_image
    from egt_tf.explain import chosen_support
    from egt_tf.figures import draw_comparison, save_figure

    names = [name.strip() for name in compare.split(",")] if compare else [method]
    # A misspelt one is told before anything is read.
    for name in names:
        if name is not None:
            named_method(name, arguments)
    asked = bool(method or start or compare)
    by_run = run is None and model is None and _has_usable_run(asked, needed=asked and support is None)
    if run is None and model is None and support is not None and not by_run:
        explainer, description = _learn(support)
        support_set = chosen_support(explainer)
    else:
        explainer, description = _open(sample, run, model, by_run)
        support_set = chosen_support(explainer, support)
    queries = [load_image(image, explainer.image_size) for image in images]
    where = "its stored support set" if support is None else f"the support set {support}"
    click.echo(f"using {description} and {where}: {_classes_text(support_set)}")
    say_left_out(support_set.left_out, support_set.shots)
    if out is not None and out.suffix.lower() == ".png":
        figures = [out]
    else:
        figures = picture_names(images, "compared" if compare else "explained", out or Path())
    knows_strangers = False
    for image, query, figure in zip(images, queries, figures, strict=True):
        with stage_progress("levels of noise") as show:
            methods = [None if name is None else named_method(name, arguments, show) for name in names]
            explanations = [explainer.explain(query, support_set, target, each, image.name, start) for each in methods]
        first = explanations[0]
        if compare:
            draw_comparison(explanations, figure)
        else:
            save_figure(first, figure)
        click.echo(f"{_prediction(image, first)}  figure: {figure}")
        knows_strangers = knows_strangers or first.known is not None
    # A learnt model says itself where an image shows none of its classes.
    if not knows_strangers:
        warn_of_unlike(images, queries, explainer.support)


def _check_options(
    images: Sequence[Path],
    run: Path | None,
    model: Path | None,
    method: str | None,
    start: str | None,
    compare: str | None,
    out: Path | None,
) -> None:
    if not images:
        raise click.UsageError("name at least one IMAGE to explain, or try --sample")
    if method and compare:
        raise click.UsageError("--method explains by one method, --compare by several; give one of the two")
    if model is not None and (run or method or start or compare):
        raise click.UsageError(
            "--model brings its own weights and its own method; --run, --method, --start and --compare are for runs, and "
            "for the photos of --support"
        )
    is_figure = out is not None and out.suffix.lower() == ".png"
    if is_figure and len(images) > 1:
        raise click.UsageError(f"--out must be a folder for several images. Received: {out} for {len(images)} images")
    if out is not None and not is_figure and (out.suffix if not out.exists() else not out.is_dir()):
        raise click.UsageError(f"--out must end in .png, or be a folder. Received: {out}")
    if out is not None and out.resolve() == images[0].resolve():
        raise click.UsageError(f"--out must not be the image itself. Received: {out}")


def _has_usable_run(asked: bool, needed: bool) -> bool:
    """Whether the newest run is used.

    Args:
        asked: for something that the bundled model cannot do; then an unfinished one is used, too.
        needed: nothing else can; that there is none is told where it is opened.
    """
    from egt_tf.runs import has_run, newest_run

    return needed or (has_run(_RUNS) and (asked or newest_run(_RUNS).is_finished()))


def _open(sample: bool, run: Path | None, model: Path | None, by_run: bool) -> tuple[Explainer, str]:
    """What explains, and what it is called.

    Args:
        sample: whether `model` is the bundled model, asked for as such.
        run: its folder, or None.
        model: an exported model, or None.
        by_run: whether the newest run is used where neither is given.
    """
    from egt_tf.explain import RunExplainer
    from egt_tf.runs import RunFolder, newest_run
    from egt_tf.serving import ExportedExplainer, ExportedModel

    if model is not None:
        exported = ExportedExplainer(ExportedModel(model))
        return exported, describe_bundled(model) if sample else exported.description
    if run is not None:
        named = RunExplainer(RunFolder(run))
        return named, named.description
    if by_run:
        newest = newest_run(_RUNS)
        return RunExplainer(newest), f"the newest run {newest.path} ({_quality(newest)}; --run RUN takes another)"
    bundled = bundled_model()
    return ExportedExplainer(ExportedModel(bundled)), describe_bundled(bundled, _why_no_run())


def _why_no_run() -> str:
    from egt_tf.runs import has_run, newest_run

    if not has_run(_RUNS):
        return f"there is no run in {_RUNS}/"
    return f"no run in {_RUNS}/ is finished; --run {newest_run(_RUNS).path} takes the newest"


def _quality(run: RunFolder) -> str:
    """How far a run got and how good it is."""
    epochs, config = run.metrics(), run.config()
    if not epochs:
        return "not trained here"
    best = max(epochs, key=lambda epoch: epoch["val_accuracy"])
    accuracy = accuracy_text(best["val_accuracy"], best.get("val_interval"), digits=1)
    chance = f"{100 / config.episode.ways:.2g} % by chance"
    return f"{len(epochs)} of {config.training.epochs} epochs, validation {accuracy}, {chance}"


def _learn(support: Path) -> tuple[Explainer, str]:
    """A classifier of the classes of a folder, and what it is called; nothing is trained."""
    from egt_tf.learning import FewShotClassifier

    with stage_progress("photos") as show:
        classifier = FewShotClassifier().fit(support, progress=show)
    for remark in classifier.left_out_:
        click.echo(f"left out: {remark}")
    return classifier, f"{classifier.description} (pre-trained, not trained here; {_why_no_run()})"


def _prediction(image: Path, explanation: EpisodeExplanation) -> str:
    """What the image was taken for, and whether relevance says anything about it."""
    best, tied = explanation.predicted, [explanation.class_names[index] for index in explanation.tied]
    tie = tie_text(tied, len(explanation.class_names)) if len(tied) > 1 else None
    line = prediction_line(
        image, explanation.class_names[best], explanation.probabilities[best], explanation.known, tie
    )
    return line if explanation.has_relevance else f"{line}; no relevance: no pixel counts"


def _classes_text(support: SupportSet) -> str:
    """How many classes there are and how many images each has."""
    if not any(support.sizes):
        return f"{support.ways} classes without their photos, so that the image alone is explained"
    return f"{support.ways} classes, {counts_text(support.sizes)}"


def _list_methods() -> None:
    from egt_tf.explain.methods import PURPOSES, all_methods, purpose

    first = list(PURPOSES)
    methods = sorted(all_methods(), key=lambda method: first.index(method.name) if method.name in first else len(first))
    for method in methods:
        click.echo(f"{method.name:36s} {purpose(method)}")
