"""Types of options that several commands have."""

from __future__ import annotations

from typing import Any

import click

from egt_tf.files import text_of_name


class ClassName(click.ParamType):
    """The name of a class; that of its folder, typed in a shell of any locale, is one."""

    name = "class"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return text_of_name(value)
