"""Pages of the reference that are made from the code: commands, configuration keys, public names."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    # `egt_tf` of this checkout, wherever else one may be installed.
    sys.path.insert(0, str(ROOT))

# Rooms in the order of the reference, and what they hold for a reader.
ROOMS = {
    "lrp": "LRP: the analyzer, rules, composites",
    "explain": "Explanations of queries",
    "learning": "Classifiers of a few photos",
    "training": "Training",
    "episodic_model": "Models",
    "runs": "Runs",
    "evaluation": "Evaluation",
    "config": "Configuration",
    "data": "Images and support sets",
    "figures": "Figures",
    "export": "Export",
    "serving": "Exported models",
    "keras_api": "Keras",
}


# === Commands ===


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command of a group and of the groups in it, with the words that call it."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        elif command is not None:
            yield (*before, name), command


def commands_page() -> str:
    """Every command with its arguments, options and examples, in Markdown."""
    from egt_tf_cli.main import cli

    parts = ["# Commands\n\nMade from the commands themselves; `egt-tf COMMAND --help` says the same.\n"]
    found = dict(commands(cli))
    for title, section in cli.sections.items():
        parts.append(f"## {title}\n")
        parts += [_command_text(words, each) for words, each in found.items() if words[0] in section]
    return "\n".join(parts)


def _command_text(words: tuple[str, ...], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join(("egt-tf", *words)))
    usage = " ".join(command.collect_usage_pieces(context))
    records = (each.get_help_record(context) for each in command.get_params(context))
    rows = [f"| {_code(names)} | {_cell(text)} |" for names, text in filter(None, records)]
    examples = "\n".join(getattr(command, "examples", ()))
    return (
        f"### egt-tf {' '.join(words)}\n\n{_prose(command.help or '')}\n\n"
        f"```text\n{context.command_path} {usage}\n```\n\n"
        "| option | |\n|---|---|\n" + "\n".join(rows) + f"\n\nExamples:\n\n```sh\n{examples}\n```\n"
    )


# === Configuration ===


def keys_page() -> str:
    """Every configuration key with its type, default and meaning, in Markdown."""
    from egt_tf.config import RunConfig

    parts = [
        "# Configuration keys\n\nMade from `egt_tf.config`. [Configuration and run folders](../configuration.md) tells more "
        "of each.\n"
    ]
    for field in dataclasses.fields(RunConfig):
        section = _default(field)
        parts.append(f"## {field.name}\n\n| key | type | default | meaning |\n|---|---|---|---|")
        parts += _key_rows(field.name, section)
        parts.append("")
    return "\n".join(parts)


def _key_rows(prefix: str, section: Any) -> Iterator[str]:
    meanings = attributes_of(type(section))
    for field in dataclasses.fields(section):
        key, value = f"{prefix}.{field.name}", getattr(section, field.name)
        if dataclasses.is_dataclass(value) and prefix == "pretrain":
            yield from _key_rows(key, value)
            continue
        shown = value if isinstance(value, (bool, int, float, str, dict, list, tuple, type(None))) else str(value)
        yield f"| `{key}` | {_code(field.type)} | {_code(shown)} | {_cell(meanings.get(field.name, ''))} |"


def attributes_of(cls: type) -> dict[str, str]:
    """What the docstring of a class says of each of its attributes."""
    found: dict[str, str] = {}
    text = inspect.getdoc(cls) or ""
    for section in re.findall(r"^(?:Attributes|Args):\n((?:    .*\n?|\n)+)", text, re.M):
        for names, meaning in re.findall(r"^    (\w[\w, ]*): (.*(?:\n        .*)*)", section, re.M):
            found.update({name.strip(): " ".join(meaning.split()) for name in names.split(",")})
    return found


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


# === Public names ===


def public_names() -> dict[str, list[str]]:
    """Room -> full names of what `import egt_tf` gives from it."""
    tree = ast.parse((ROOT / "egt_tf" / "__init__.pyi").read_text("utf-8"))
    rooms: dict[str, list[str]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            room = node.module.split(".")[1]
            rooms.setdefault(room, []).extend(f"{node.module}.{alias.name}" for alias in node.names)
    return rooms


def api_pages() -> dict[str, str]:
    """File below `reference/api/` -> its Markdown, for mkdocstrings."""
    pages = {}
    for room, names in public_names().items():
        if room == "keras_api":
            continue
        parts = [f"# {ROOMS[room]}\n"]
        for name in sorted(names):
            short = name.rsplit(".", 1)[1]
            parts.append(f"## {short}\n\n`from egt_tf import {short}`\n\n::: {name}\n")
        pages[f"{room}.md"] = "\n".join(parts)
    return pages


# === Text ===


def _code(text: Any) -> str:
    # A bar in code ends no cell here, and a backslash before it would be shown.
    return "`" + str(text).replace("`", "") + "`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _prose(text: str) -> str:
    return inspect.cleandoc(text).replace("\b", "").replace("<", "&lt;")
