"""The part of the page about the training: curves of loss and accuracy, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from egt_tf.document import HtmlBlock, Table
from egt_tf.report.blocks import Chart, Charts, Damaged, Fold, Note, Section
from egt_tf.report.charts import Axes, Line, line_chart
from egt_tf.report.commands import go_on_command
from egt_tf.report.facts import Part, RunFacts, RunKind

# What epochs measure, with what it is called; the first that a run has are drawn.
LOSSES: Mapping[str, str] = {
    "loss": "all together",
    "plain_loss": "plain",
    "guided_loss": "guided",
    "challenger_loss": "challenger",
    "teacher_loss": "from the teacher",
    "unseen_loss": "on the other domain",
    "auxiliary_loss": "auxiliary",
    "val_loss": "validation",
}
ACCURACIES: Mapping[str, str] = {"val_accuracy": "validation", "accuracy": "training"}
_MOST_LINES = 4


def training_section(facts: RunFacts) -> Section:
    """Curves over the epochs, with their numbers folded away."""
    return Section("training", "Training", tuple(_blocks(facts)))


def _blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.TRAINING))
    if facts.kind is RunKind.CONVERTED:
        yield Note("The weights were converted from a checkpoint: there are no epochs to show.")
        return
    if not facts.epochs:
        yield Note("No epoch is finished yet; go on with", go_on_command(facts))
        return
    if len(facts.epochs) < facts.epochs_planned:
        yield Note(
            f"{len(facts.epochs)} of {facts.epochs_planned} epochs are shown. If the training does not run any more, "
            "go on with",
            go_on_command(facts),
        )
    yield Charts(tuple(_charts(facts)))
    yield Fold("The numbers of every epoch", (_table(facts.epochs),))


def _charts(facts: RunFacts) -> Iterator[Chart]:
    losses = _lines(facts.epochs, _drawn_losses(facts.epochs))
    if losses:
        svg = line_chart(_described("Loss", losses), losses, Axes("epoch", "loss", whole_x=True))
        yield Chart(svg, "Loss of the training, mean over each epoch.")
    accuracies = _lines(facts.epochs, ACCURACIES, scale=100.0)
    if accuracies:
        chance = None if facts.kind is RunKind.PRETRAINED else (100 / facts.config.episode.ways, "chance")
        svg = line_chart(
            _described("Accuracy in %", accuracies),
            accuracies,
            Axes("epoch", "accuracy in %", (0.0, 100.0), chance, whole_x=True),
        )
        band = " The band is the 95 % interval over the validation episodes." if _has_intervals(facts) else ""
        yield Chart(svg, f"Accuracy of the validation after each epoch, and of the training during it.{band}")


def _drawn_losses(epochs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    """Those that are not zero all the time, as many as there are colours."""
    there = {key: name for key, name in LOSSES.items() if any(epoch.get(key) for epoch in epochs)}
    return dict(list(there.items())[:_MOST_LINES])


def _lines(epochs: Sequence[Mapping[str, float]], names: Mapping[str, str], scale: float = 1.0) -> list[Line]:
    lines = []
    for key, name in names.items():
        rows = [epoch for epoch in epochs if key in epoch]
        if rows:
            points = [(epoch["epoch"], scale * epoch[key]) for epoch in rows]
            halves = [_scaled(epoch.get("val_interval"), scale) for epoch in rows] if key == "val_accuracy" else ()
            lines.append(Line(name, points, halves))
    return lines


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _has_intervals(facts: RunFacts) -> bool:
    return any("val_interval" in epoch for epoch in facts.epochs)


def _described(what: str, lines: Sequence[Line]) -> str:
    """Where each line begins and ends."""
    parts = [f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines]
    return f"{what} over {len(lines[0].points)} epochs: {', '.join(parts)}"


def _table(epochs: Sequence[Mapping[str, float]]) -> Table:
    keys = list(dict.fromkeys(key for epoch in epochs for key in epoch if key != "epoch"))
    rows = [
        (f"{epoch['epoch']:g}", *(f"{epoch[key]:.4g}" if key in epoch else "-" for key in keys)) for epoch in epochs
    ]
    return Table(
        "What each epoch measured, as it stands in metrics.jsonl; seconds without the validation.",
        ("epoch", *(key.replace("_", " ") for key in keys)),
        rows,
        words=0,
    )
