"""A page about one run: self-contained HTML, equal for equal facts. Pure functions."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from egt_tf.config import config_to_dict, config_to_yaml
from egt_tf.document import Code, Heading, HtmlBlock, Paragraph, Table, html_document
from egt_tf.report.blocks import STYLE, Contents, Damaged, Facts, Fold, Groups, Lead, Note, Section
from egt_tf.report.commands import repeat_command
from egt_tf.report.example_section import examples_section
from egt_tf.report.facts import Part, RunFacts, RunKind
from egt_tf.report.result_sections import attacks_section, evaluations_section, judged_section
from egt_tf.report.training_section import training_section
from egt_tf.wording import accuracy_text


def run_page(facts: RunFacts) -> str:
    """The whole page.

    Args:
        facts: what it says; every string in it is escaped.

    Returns:
        HTML without scripts that needs no other file and no network; it has no time of its own, so that equal facts give
        equal pages.

    Example:
        >>> from egt_tf.config import RunConfig
        >>> page = run_page(RunFacts("a <b>", "runs/a <b>", RunConfig(), RunKind.TRAINED))
        >>> page.count("<h1>a &lt;b&gt;</h1>"), page.count("<b>")
        (1, 0)
    """
    sections = (
        training_section(facts),
        evaluations_section(facts),
        examples_section(facts),
        judged_section(facts),
        attacks_section(facts),
        _configuration_section(facts),
        _environment_section(facts),
    )
    blocks: list[HtmlBlock] = [
        Heading(1, facts.name),
        Lead(_sentence(facts)),
        *_problem_notes(facts),
        Facts(_key_facts(facts)),
        Contents(sections),
        *sections,
    ]
    return html_document(f"{facts.name} - egt-tf", blocks, STYLE)


def _problem_notes(facts: RunFacts) -> list[HtmlBlock]:
    parts = sorted({problem.part.value for problem in facts.problems})
    return [Damaged(f"not everything could be read: {', '.join(parts)}; see there.")] if parts else []


# === What it is ===


def _sentence(facts: RunFacts) -> str:
    """What the run is, in one sentence."""
    config = facts.config
    sources = ", ".join(each.source for each in config.data.train_sources)
    backbone = config.model.backbone["name"]
    if facts.kind is RunKind.PRETRAINED:
        return f"A backbone, {backbone}, pre-trained as an ordinary classifier of the base classes of {sources}."
    classifier = f"A few-shot classifier, the head {config.model.head['name']} on the backbone {backbone}"
    if facts.kind is RunKind.CONVERTED:
        return f"{classifier}, converted from a checkpoint of the published code."
    student = f", as a student of {config.student.teacher}" if config.student.teacher is not None else ""
    return (
        f"{classifier}, trained on {sources} in {config.episode.ways}-way {config.episode.shots}-shot episodes"
        f"{student}, {_guidance(facts)}."
    )


def _guidance(facts: RunFacts) -> str:
    guidance = facts.config.guidance
    if guidance.mode == "none":
        return "without guidance"
    how = "guided by explanations" if guidance.mode == "guided" else "on guided predictions alone"
    return f"{how} (composite {guidance.composite['name']}, weights {guidance.weights['name']})"


def _key_facts(facts: RunFacts) -> dict[str, str]:
    best, found = facts.best, {}
    if best is not None:
        accuracy = accuracy_text(best["val_accuracy"], best.get("val_interval"), digits=1)
        found["best validation"] = accuracy.replace("+-", "±")
        if facts.kind is not RunKind.PRETRAINED:
            found["by chance"] = f"{100 / facts.config.episode.ways:.2g} %"
        found["best epoch"] = f"{best['epoch']:g}"
    if facts.kind is not RunKind.CONVERTED:
        found["epochs"] = f"{len(facts.epochs)} of {facts.epochs_planned}"
    found["images"] = f"{facts.config.data.image_size} x {facts.config.data.image_size}"
    found["evaluations"] = f"{len(facts.evaluations)}"
    started = None if facts.environment is None else facts.environment.rows.get("started")
    return found if started is None else {**found, "started": started[:10]}


# === Configuration ===


def _configuration_section(facts: RunFacts) -> Section:
    tables = Groups([(_table(section, values),) for section, values in config_to_dict(facts.config).items()])
    yaml_text = Code(config_to_yaml(facts.config))
    text = Fold("The same as YAML, which a training takes (--config FILE)", (yaml_text,), printed=False)
    return Section("configuration", "Configuration", (Fold("Every value", (tables,)), text))


def _table(section: str, values: Mapping[str, Any]) -> Table:
    return Table(section, ("key", "value"), [(key, _value(value)) for key, value in values.items()], words=2)


def _value(value: Any) -> str:
    """As YAML has it, on one line."""
    # A scalar alone is followed by the end of the document.
    return yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=math.inf).split("\n...")[0].strip()


# === Environment ===


def _environment_section(facts: RunFacts) -> Section:
    return Section("environment", "Environment, and how to repeat it", tuple(_environment_blocks(facts)))


def _environment_blocks(facts: RunFacts) -> Iterator[HtmlBlock]:
    yield from map(Damaged, facts.damaged(Part.ENVIRONMENT))
    environment = facts.environment
    if environment is None:
        yield Note("What the run was made with was not recorded.")
    else:
        yield Table("What the run was made with.", ("what", "value"), list(environment.rows.items()), words=2)
        if environment.checkpoint is not None:
            yield Table("The checkpoint.", ("what", "value"), list(environment.checkpoint.items()), words=2)
        if environment.command:
            program, *arguments = environment.command
            yield Paragraph("It was started by")
            yield Code(shlex.join([Path(program).name, *arguments]))
    yield Paragraph("The same again, into another folder:")
    yield Code(repeat_command(facts))
