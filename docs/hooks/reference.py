"""Pages of the reference that are made from the code: commands, configuration keys, public names."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
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
    "measures": "Measures of explanations",
    "learning": "Classifiers of a few photos",
    "heads": "Heads",
    "backbones": "Backbones",
    "episodic_model": "Models",
    "training": "Training",
    "study": "Studies",
    "runs": "Runs",
    "evaluation": "Evaluation",
    "config": "Configuration",
    "data": "Images and support sets",
    "figures": "Figures",
    "export": "Export",
    "serving": "Exported models",
    "published": "Published checkpoints",
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
    records = (each.get_help_record(context) for each in command.params)
    # An argument has no text of its own; the usage names it.
    rows = [f"| {_code(names)} | {_cell(text)} |" for names, text in filter(None, records) if text]
    examples = "\n".join(getattr(command, "examples", ()))
    return (
        f"### egt-tf {' '.join(words)}\n\n{_prose(command.help or '')}\n\n"
        f"```text\n{context.command_path} {usage}\n```\n\n"
        + ("\n".join(("| option | meaning |", "|---|---|", *rows)) + "\n\n" if rows else "")
        + f"Examples:\n\n```sh\n{examples}\n```\n"
    )


# === Configuration ===


def keys_page() -> str:
    """Every configuration key with its type, default and meaning, in Markdown."""
    from egt_tf.config import RunConfig

    parts = [
        "# Configuration keys\n\nMade from `egt_tf.config`; None there is `null` in YAML. [Configuration and run "
        "folders](../configuration.md) tells more of each.\n"
    ]
    for field in dataclasses.fields(RunConfig):
        section = _default(field)
        parts.append(f"## {field.name}\n\n| key and type | default | meaning |\n|---|---|---|")
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
        shown = _code(_as_yaml(value))
        yield f"| `{key}`<br>{_code(field.type)} | {shown} | {_cell(meanings.get(field.name, ''))} |"


def _as_yaml(value: Any) -> str:
    """A default as it is written in a configuration: parts that are a name and arguments as the name alone."""
    if isinstance(value, dict) and set(value) == {"name"}:
        return str(value["name"])
    return json.dumps(value) if isinstance(value, (bool, type(None), tuple)) else str(value)


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


def public_names() -> dict[str, dict[str, str]]:
    """Room -> public name -> its full name in the module that it comes from.

    Public is what `import egt_tf` gives, and what a room gives (its `__all__`).
    """
    shown: dict[str, dict[str, str]] = {room: {} for room in ROOMS}
    for module, name in _imported(ROOT / "egt_tf" / "__init__.pyi"):
        room = module.split(".")[1]
        if room in shown:
            shown[room][name] = f"{module}.{name}"
    for room, names in shown.items():
        names.update({name: f"{module}.{name}" for module, name in _room_names(ROOT / "egt_tf" / room)})
    return shown


def at_the_top() -> set[str]:
    """Names that `import egt_tf` gives."""
    return {name for _, name in _imported(ROOT / "egt_tf" / "__init__.pyi")}


def _room_names(folder: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of what a room gives; names that are imported on first use are in a file for type checkers."""
    files = [folder / "__init__.pyi", folder / "__init__.py"]
    for file in [each for each in files if each.is_file()][:1]:
        listed = _listed(file)
        yield from ((module, name) for module, name in _imported(file) if listed is None or name in listed)


def _imported(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("egt_tf."):
            yield from ((node.module, alias.name) for alias in node.names)


def _listed(file: Path) -> list[str] | None:
    """`__all__` of a module, None where it has none."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return ast.literal_eval(node.value)
    return None


def api_pages() -> dict[str, str]:
    """File below `reference/api/` -> its Markdown, for mkdocstrings."""
    top, pages = at_the_top(), {}
    for room, names in public_names().items():
        parts = [f"# {ROOMS[room]}\n"]
        # What most people need first.
        for name in sorted(names, key=lambda each: (each not in top, each)):
            source = "egt_tf" if name in top else f"egt_tf.{room}"
            parts.append(f"## {name}\n\n`from {source} import {name}`\n\n::: {names[name]}\n")
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
