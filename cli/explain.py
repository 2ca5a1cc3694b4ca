"""egt-tf explain"""

from __future__ import annotations

from pathlib import Path

import click

from egt_tf.errors import ExportError, RunError

from .box import describe_packaged, packaged_model, packaged_sample
from .lines import picture_names, prediction_line, say_left_out

_RUNS = "runs"


@click.command(short_help="Draw which pixels spoke for a prediction and against it.")
@click.argument("images", nargs=-1, metavar="IMAGE...", type=click.Path(path_type=Path))
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    help="A run folder; the newest in runs/ by default, and without any the model that comes with egt-tf.",
)
@click.option(
    "--model",
    "exported",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="An exported model in place of a run, such as saved_models/first.",
)
@click.option(
    "--support",
    "support_folder",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="One sub-folder of images a class; the stored support set by default.",
)
@click.option(
    "--target", metavar="CLASS|all", help="Explain this class (or all); the prediction and the runner-up by default."
)
@click.option("--method", metavar="NAME", help="How to explain; the composite of the run's guidance by default.")
@click.option("--compare", metavar="NAME,NAME,...", help="Draw several methods side by side instead.")
@click.option(
    "--sample", is_flag=True, help="Explain an image that comes with egt-tf, by the model that comes with it."
)
@click.option("--list-methods", is_flag=True, help="Show the methods, a line each, and exit.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The figure (.png) of a single image; IMAGE-explained.png in the current folder by default.",
)
def explain(
    images: tuple[Path, ...],
    folder: Path | None,
    exported: Path | None,
    support_folder: Path | None,
    target: str | None,
    method: str | None,
    compare: str | None,
    sample: bool,
    list_methods: bool,
    out: Path | None,
) -> None:
    """Classify images by a support set and draw which pixels spoke for and against it."""
    if list_methods:
        return _list_methods()
    if sample and (images or folder or exported):
        raise click.UsageError("--sample brings an image and a model; leave IMAGE, --run and --model out")
    described = None
    if sample:
        images, exported = (packaged_sample(),), packaged_model()
        described = describe_packaged(exported)
    _check_options(images, folder, exported, method, compare, out)
    figures = [out] if out is not None else picture_names(images, "explained")
    from egt_tf.runs import has_run

    if exported is None and folder is None and not (method or compare) and not has_run(_RUNS):
        exported = packaged_model()
        described = describe_packaged(exported, f"there is no run in {_RUNS}/")
    if exported is not None:
        _explain_by_exported(images, figures, exported, described, support_folder, target)
    else:
        _explain_by_run(images, figures, folder, support_folder, target, method, compare)


def _check_options(images, folder, exported, method, compare, out):
    if not images:
        raise click.UsageError("name at least one IMAGE to explain, or try --sample")
    if method and compare:
        raise click.UsageError("--method explains by one method, --compare by several; give one of the two")
    if exported is not None and (folder or method or compare):
        raise click.UsageError(
            "--model brings its own weights and its own method; --run, --method and --compare are for runs"
        )
    if out is not None and len(images) > 1:
        raise click.UsageError(f"--out names one figure. Received: {len(images)} images")
    if out is not None and out.suffix.lower() != ".png":
        raise click.UsageError(f"--out must end in .png. Received: {out}")
    if out is not None and out.resolve() == images[0].resolve():
        raise click.UsageError(f"--out must not be the image itself. Received: {out}")


def _explain_by_run(images, figures, folder, support_folder, target, method, compare):
    from egt_tf.data.support import load_image, load_support
    from egt_tf.explain.methods import get_method
    from egt_tf.explain.query import explain_image
    from egt_tf.figures.comparison import draw_comparison
    from egt_tf.figures.explanation import save
    from egt_tf.runs import RunFolder, newest_run

    run = newest_run(_RUNS) if folder is None else RunFolder(folder)
    names = [name.strip() for name in compare.split(",")] if compare else [method or run.config().guidance.composite]
    methods = [get_method(name) for name in names]
    model = run.load_model()
    prepared = [method.prepared(model) for method in methods]
    support = load_support(_support_folder(run, support_folder), model.image_size)
    queries = [load_image(image, model.image_size) for image in images]
    which_run = "the newest run" if folder is None else "the run"
    _say_support(f"{which_run} {run.path}", support, support_folder)
    for image, query, figure in zip(images, queries, figures, strict=True):
        explanations = [
            explain_image(each, support, query, target, method, image.name, run.path.resolve().name)
            for each, method in zip(prepared, methods, strict=True)
        ]
        if compare:
            draw_comparison(explanations, figure)
        else:
            save(explanations[0], figure)
        _say_prediction(image, explanations[0], figure)


def _explain_by_exported(images, figures, exported, described, support_folder, target):
    from egt_tf.data.support import load_image, load_support
    from egt_tf.figures.explanation import save
    from egt_tf.serving.explainer import ExportedExplainer
    from egt_tf.serving.exported_model import ExportedModel

    explainer = ExportedExplainer(ExportedModel(exported))
    support = explainer.support if support_folder is None else load_support(support_folder, explainer.image_size)
    if support is None:
        raise ExportError(f"the model {explainer.model.path} has no stored support set; give one: --support FOLDER")
    queries = [load_image(image, explainer.image_size) for image in images]
    _say_support(described or f"the model {explainer.model.path}", support, support_folder)
    for image, query, figure in zip(images, queries, figures, strict=True):
        explanation = explainer.explain(support, query, target, image.name)
        save(explanation, figure)
        _say_prediction(image, explanation, figure)


def _say_prediction(image, explanation, figure):
    predicted = explanation.predicted
    line = prediction_line(image, explanation.class_names[predicted], explanation.probabilities[predicted])
    click.echo(f"{line}  figure: {figure}")


def _support_folder(run, support_folder):
    if support_folder is not None:
        return support_folder
    if not run.support_folder.is_dir():
        raise RunError(f"the run {run.path} has no stored support set; give one: --support FOLDER")
    return run.support_folder


def _say_support(model, support, support_folder):
    where = "its stored support set" if support_folder is None else f"the support set {support_folder}"
    click.echo(f"using {model} and {where}: {support.ways} classes, {support.shots} images each")
    say_left_out(support.left_out, support.shots)


def _list_methods():
    from egt_tf.explain.methods import all_methods

    for method in all_methods():
        click.echo(f"{method.name:36s} {method.summary}")
