"""The model card of an exported version: where it comes from, what it was measured to do, how to ask it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from egt_tf.backbones.batch_noise import noise_layers
from egt_tf.backbones.weights_origin import weights_origin
from egt_tf.config import RunConfig
from egt_tf.environment import made_by
from egt_tf.errors import RunError
from egt_tf.export.calibration import Calibration
from egt_tf.export.saved_model import ServableModel
from egt_tf.export.signatures import has_prototypes
from egt_tf.run_table import read_evaluation
from egt_tf.runs import RunFolder
from egt_tf.serving.contract import FLOATS
from egt_tf.wording import accuracy_text


@dataclasses.dataclass(frozen=True)
class ModelSource:
    """What a model card says beside what the model itself shows.

    Attributes:
        name: of the model.
        run: where it was trained.
        support: what the stored support set is called, or None.
        calibration: what answering one query at a time was measured to cost, or None.
        warm_up: whether the version holds warm-up requests.
    """

    name: str
    run: RunFolder
    support: str | None
    calibration: Calibration | None
    warm_up: bool


def model_card(ready: ServableModel, source: ModelSource) -> str:
    """The card as Markdown.

    Raises:
        RunError: an evaluation or another file of the run is damaged.
    """
    config = source.run.config()
    sections = {
        "": _summary(config, source),
        "Accuracy": _accuracy(source),
        "Signatures": signature_lines(ready),
        "Known limits": _limits(ready, source),
        "Licence": [
            "The package that made this model is licensed under BSD-2-Clause. That says nothing about the "
            "images it was trained on, nor about those of the stored support set, whose features and pictures "
            "come with it: their licences decide how it may be used."
        ],
    }
    return card_text(source.name, sections)


def card_text(name: str, sections: Mapping[str, Sequence[str]]) -> str:
    """A card of sections, title -> lines; the first may have no title."""
    return f"# {name}\n" + "".join(
        (f"\n## {title}\n" if title else "") + "\n" + "\n".join(lines) + "\n" for title, lines in sections.items()
    )


def table_lines(rows: Mapping[str, str]) -> list[str]:
    """A table without a heading, a row for each key."""
    # A name may hold what ends a cell.
    return [
        "| | |",
        "|---|---|",
        *(f"| {key} | {' '.join(value.replace('|', '/').split())} |" for key, value in rows.items()),
    ]


def _summary(config: RunConfig, source: ModelSource) -> list[str]:
    conversion = _conversion(source.run)
    rows = {
        "task": "few-shot image classification: names the class of a query by a few labelled images of each class",
        "head": named_part(config.model.head),
        "backbone": named_part(config.model.backbone),
        **weights_row(config.model.backbone),
        "images": f"{config.data.image_size} x {config.data.image_size} pixels, RGB",
        **(_training(config) if conversion is None else _of_checkpoint(conversion)),
        "composite of relevance": named_part(config.guidance.composite),
        "stored support set": source.support or "none: `serving_default` and `explain` are left out",
        "made by": made_by(),
        "run": f"`{source.run.path.resolve().name}`",
    }
    return table_lines(rows)


def _training(config: RunConfig) -> dict[str, str]:
    sources = ", ".join(f"`{each.source}`" for each in config.data.train_sources)
    return {
        "training data": f"{sources}, split `base`",
        "training": f"{config.episode.ways}-way {config.episode.shots}-shot episodes, {config.training.epochs} "
        f"epochs at most, guidance `{config.guidance.mode}`",
    }


def _of_checkpoint(conversion: Mapping[str, Any]) -> dict[str, str]:
    trained = "" if conversion.get("trained_head", True) else "; its head was not in it and is NOT trained"
    return {
        "training data": "not known: the weights were converted",
        "training": f"converted from `{conversion.get('checkpoint')}`, SHA-256 {conversion.get('sha256')}{trained}",
    }


def _conversion(run: RunFolder) -> Mapping[str, Any] | None:
    """Where a converted run comes from; None for a trained one."""
    try:
        return json.loads(run.environment_file.read_text(encoding="utf-8")).get("origin")
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError) as error:
        raise RunError(f"{run.environment_file} must be a JSON object. Received: {error}") from error


def weights_row(backbone: str | Mapping[str, Any]) -> dict[str, str]:
    """The row of a summary on the published weights that a backbone started with; empty where it had none."""
    origin = weights_origin(backbone)
    return {} if origin is None else {"weights it started with": origin}


def named_part(part: Any) -> str:
    """A part as a configuration names it, with its arguments."""
    if isinstance(part, str):
        return f"`{part}`"
    arguments = ", ".join(f"{key}={value}" for key, value in part.items() if key != "name")
    return f"`{part['name']}`" + (f" ({arguments})" if arguments else "")


def _accuracy(source: ModelSource) -> list[str]:
    rows = [read_evaluation(file) for file in source.run.evaluation_files()]
    lines = ["The run holds no evaluation: its accuracy was not measured."]
    if rows:
        lines = [
            "With all queries of an episode scored together (mean and 95 % interval over the episodes):",
            "",
            "| data | split | episodes | inference | accuracy |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| `{row.source}` | {row.split} | {row.episodes} of {row.ways}-way {row.shots}-shot | "
            f"{row.inference} | {accuracy_text(row.accuracy, row.interval, chance=1 / row.ways)} |"
            for row in rows
        ]
    return [*lines, "", *_one_by_one(source.calibration)]


def _one_by_one(calibration: Calibration | None) -> list[str]:
    if calibration is None:
        return [
            "A server answers every query as if it were alone. What that costs against scoring whole episodes was "
            "not measured (`egt-tf export --calibrate SOURCE` does)."
        ]
    interval = calibration.difference_interval
    spread = "" if interval is None else f" +- {100 * interval:.2f}"
    return [
        f"A server answers every query as if it were alone. On the same {len(calibration.together.episodes)} "
        f"episodes of `{calibration.source}`, split {calibration.split}, {calibration.episode.ways}-way "
        f"{calibration.episode.shots}-shot: {calibration.one_by_one} one by one, {calibration.together} with the "
        f"queries of an episode scored together; difference {100 * calibration.difference:+.2f}{spread} "
        "percentage points."
    ]


def signature_lines(ready: ServableModel) -> list[str]:
    """What the model can be asked, with names, types and shapes."""
    if _is_portable(ready):
        lines = [
            "Made for engines beside TensorFlow: images are float32 of grey levels 0..255, `targets` are class "
            "indices or -1 for the predicted class, and the classes are numbered as in "
            "`assets/class_names.txt`.",
            "",
        ]
    else:
        lines = [
            "`NAME_floats` takes float32 `(n, size, size, 3)` of grey levels 0..255 where NAME takes the bytes of "
            "JPEG or PNG files. A size that the request decides is written `?`.",
            "",
        ]
    for name, signature in sorted(ready.signatures.items()):
        if not name.endswith(FLOATS):
            lines += [
                f"- `{name}`: {signature.summary}",
                f"  - inputs: {_shapes({spec.name: spec for spec in signature.inputs})}",
                f"  - outputs: {_shapes(signature.concrete.structured_outputs)}",
            ]
    if not has_prototypes(ready.model.model.head) and not _is_portable(ready):
        lines += [
            "",
            "`prototypes` and `classify_with_prototypes` are left out: this head needs the support images themselves.",
        ]
    return lines


def _is_portable(ready: ServableModel) -> bool:
    return "embed" not in ready.signatures


def _shapes(tensors: Mapping[str, Any]) -> str:
    return "; ".join(
        f"`{name}` {tensor.dtype.name} ({', '.join('?' if s is None else str(s) for s in tensor.shape)}"
        f"{',' if len(tensor.shape) == 1 else ''})"
        for name, tensor in sorted(tensors.items())
    )


def _limits(ready: ServableModel, source: ModelSource) -> list[str]:
    head = ready.model.model.head
    lines = [
        "- The most probable class is named even if the image shows none of the classes.",
        "- Probabilities are not calibrated.",
        "- Relevance says which pixels the prediction used, not whether it is right.",
    ]
    if not _is_portable(ready):
        lines.append(f"- Only JPEG and PNG of at most {ready.limits.size} are decoded.")
    together = "" if _is_portable(ready) else ", support images and queries together"
    lines.append(f"- A request may hold at most {ready.limits.max_images} images{together}.")
    if head.uses_batch_statistics:
        lines.append(
            "- The head normalises by the statistics of an episode; the support images are the filler queries "
            "beside a query, so a support set of very few images gives poor statistics."
        )
    if source.run.config().model.backbone.get("noise") is not None:
        lines.append(_noise_limit(ready))
    if head.needs_ways:
        lines.append(f"- Episodes must have {head.ways} classes.")
    if not source.warm_up:
        lines.append(
            "- No warm-up requests: tensorflow-serving-api was not installed where this was exported, and the "
            "first request of each signature takes longer."
        )
    return lines


def _noise_limit(ready: ServableModel) -> str:
    if noise_layers(ready.model.model.backbone):
        return (
            "- The noise of the backbone is drawn anew for every image of every request: equal requests get other "
            "answers. The stored support set was embedded once."
        )
    return (
        "- The noise of the backbone is a constant: equal requests get equal answers, and who has this model knows it."
    )
