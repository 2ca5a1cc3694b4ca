"""egt-tf app"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from egt_tf.errors import ExportError

from .bundled import sample_photos
from .commands import Command
from .paths import check_inputs

if TYPE_CHECKING:
    from egt_tf.app.page import Samples


@click.command(
    cls=Command,
    short_help="Learn, classify and explain on a local page.",
    examples=(
        "egt-tf app",
        "egt-tf app --model saved_models/photos --port 8000",
    ),
)
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="NAME[/VERSION]",
    help="Start from a model of `egt-tf learn`; without classes by default.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="The port of 127.0.0.1 to serve on."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def app(model: Path | None, port: int, no_browser: bool) -> None:
    """Show a local page: give photos of each class, drop a new photo, see its class and which pixels spoke for it.

    Only this computer can open the page, and nothing leaves it. Ctrl-C ends it and deletes what was uploaded.
    """
    check_inputs(model=model)
    from egt_tf.app.web import HOST, check_port, import_gradio

    check_port(port)
    import_gradio()
    from egt_tf.app.page import serve
    from egt_tf.app.session import Session
    from egt_tf.learning import FewShotClassifier

    classifier = None if model is None else FewShotClassifier.load(model)
    click.echo(f"the page is at http://{HOST}:{port} (Ctrl-C ends it)")
    serve(port, functools.partial(Session, classifier), _samples(), open_browser=not no_browser)


def _samples() -> Samples | None:
    from egt_tf.app.page import Samples

    with contextlib.suppress(ExportError):
        classes, images = sample_photos()
        return Samples(classes, images)
    return None
