"""Types of options whose values the shell completes, without TensorFlow, which takes seconds to import."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from egt_tf.explain.purposes import PURPOSES
from egt_tf.runs import RunFolder

_ROOT = Path("runs")


def begun_by(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """The names that begin so, and whatever files do."""
    # Click's script for bash forgets what came before a file.
    return [CompletionItem(incomplete, type="file"), *_items(incomplete, names)]


def _items(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class RunPath(click.Path):
    """The path of a run folder, or of what stands in its place; those in runs/ are completed."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        folders = sorted(_ROOT.iterdir()) if _ROOT.is_dir() else []
        return begun_by(incomplete, (str(path) for path in folders if RunFolder(path).config_file.is_file()))


class _Text(click.ParamType):
    """Text as it was typed."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value


class SourceName(_Text):
    """The specification of a data source; domains, and what a folder or a list may be, are completed."""

    name = "source"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from egt_tf.data.domains import DOMAINS
        from egt_tf.data.synthetic import DRAWN_DOMAINS

        scheme, _, location = incomplete.partition(":")
        if scheme not in _PATHS:
            location = ""
        paths = [f"{scheme}:{path}" for scheme, fits in _PATHS.items() for path in _beginning(location, fits)]
        domains = [*(f"domain:{name}" for name in DOMAINS), *(f"synthetic:{name}" for name in DRAWN_DOMAINS)]
        return _items(incomplete, (*domains, *paths, "tfds:"))


_PATHS: Mapping[str, Callable[[Path], bool]] = {
    "folder": Path.is_dir,
    "filelist": lambda path: path.is_dir() or path.suffix == ".json",
}


def _beginning(begun: str, fits: Callable[[Path], bool]) -> list[str]:
    """Paths that begin so and fit, without hidden ones."""
    folder, _ = os.path.split(begun)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    paths = [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return [path for path in paths if path.startswith(begun) and fits(Path(path))]


class MethodName(_Text):
    """A method that explains, or the file of a composite."""

    name = "method"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return begun_by(incomplete, PURPOSES)


class MethodNames(_Text):
    """Several methods with commas between them, of which the last is completed."""

    name = "methods"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, _ = incomplete.rpartition(",")
        return _items(incomplete, (f"{before}{comma}{name}" for name in PURPOSES if name not in before.split(",")))


def complete_domain(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Named domains of that beginning."""
    from egt_tf.data.domains import DOMAINS

    return _items(incomplete, DOMAINS)
