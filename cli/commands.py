"""Commands whose help ends with examples, and groups of them in sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Command(click.Command):
    """A click command with examples at the end of its help.

    Args:
        examples: whole command lines, as typed.
        **kwargs: as for `click.Command`.
    """

    def __init__(self, *args: Any, examples: Sequence[str], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                # As it is: wrapped, it could not be copied.
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


def write_sections(
    ctx: click.Context, formatter: click.HelpFormatter, group: click.Group, sections: Mapping[str, Sequence[str]]
) -> None:
    """The commands of a group with their short help, section by section, aligned across all of them."""
    width = max((len(name) for names in sections.values() for name in names), default=0)
    for title, names in sections.items():
        with formatter.section(title):
            commands = [(name, group.get_command(ctx, name)) for name in names]
            limit = formatter.width - 6 - width
            formatter.write_dl(
                [(name.ljust(width), each.get_short_help_str(limit)) for name, each in commands if each is not None]
            )
