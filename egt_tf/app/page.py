"""The page, built with Gradio, which is an extra: imported when the page is built."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from egt_tf.app import texts
from egt_tf.app.session import METHODS, Session
from egt_tf.errors import ConfigError, EgtError
from egt_tf.figures.explanation import draw_explanation

HOST = "127.0.0.1"
MAX_FILE_SIZE = "50mb"
# Files that were shown or made are deleted when they are this old, looked for as often, in seconds.
_DELETE_AFTER = 3600
# Photos of each class on the page.
_SHOWN = 4
# What computes takes its turn; the others see their place in the queue.
_ONE_AT_A_TIME = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}


@dataclass(frozen=True)
class Samples:
    """Photos to try the page with.

    Attributes:
        classes: a folder with one sub-folder a class.
        images: files to ask about.
    """

    classes: Path
    images: tuple[Path, ...]


@dataclass(frozen=True)
class _View:
    """What changes when classes do."""

    classes: Any
    photos: Any
    report: Any
    removable: Any
    method: Any
    answer: Any
    probabilities: Any
    figure: Any

    def components(self) -> list[Any]:
        return [getattr(self, field.name) for field in fields(self)]


def import_gradio() -> ModuleType:
    """Gradio, told to ask nobody outside.

    Raises:
        ConfigError: it is not installed.
    """
    # Read when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import gradio
    except ImportError as error:
        raise ConfigError("the page takes Gradio; install it: pip install 'egt-tf[app]'") from error
    return gradio


def serve(port: int, new_session: Callable[[], Session], samples: Samples | None, open_browser: bool = False) -> None:
    """Shows the page on this machine until Ctrl-C; what was uploaded is deleted then.

    Args:
        port: of 127.0.0.1.
        new_session: what each visitor starts from.
        samples: photos to try the page with; None: none are offered.
        open_browser: whether a browser is opened on the page.

    Raises:
        ConfigError: Gradio is not installed.
        OSError: the port is taken.
    """
    gr = import_gradio()
    with tempfile.TemporaryDirectory(prefix="egt-tf-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = _Builder(gr, new_session, samples, Path(folder)).build()
        page.queue(default_concurrency_limit=1, max_size=32, api_open=False)
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            quiet=True,
            max_file_size=MAX_FILE_SIZE,
            footer_links=[],
            ssr_mode=False,
            enable_monitoring=False,
            # Of the system: none are fetched.
            theme=gr.themes.Soft(primary_hue="emerald", font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            css=texts.CSS,
        )


class _Builder:
    """Builds the page and answers what is done on it."""

    def __init__(self, gr: ModuleType, new_session: Callable[[], Session], samples: Samples | None, folder: Path):
        self.gr, self.new_session, self.samples, self.folder = gr, new_session, samples, folder

    # === Layout ===

    def build(self) -> Any:
        gr = self.gr
        with gr.Blocks(title="egt-tf", analytics_enabled=False, delete_cache=(_DELETE_AFTER, _DELETE_AFTER)) as page:
            session = gr.State(None)
            gr.Markdown(texts.WELCOME)
            gr.Markdown(texts.CLASSES)
            with gr.Row():
                with gr.Column():
                    name = gr.Textbox(label="Name of the class", placeholder="blackbird", max_length=60)
                    photos = gr.File(label="Photos of it (a few are enough)", file_count="multiple", height=150)
                    add = gr.Button("Add these photos", variant="primary")
                with gr.Column():
                    classes, report = gr.HTML(), gr.HTML()
            gr.Markdown(texts.IMAGE)
            image = gr.File(label="A photo to be named", height=150)
            answer = gr.HTML()
            probabilities = gr.Label(label="How probable each class is", show_heading=False, visible=False)
            method = gr.Dropdown(label="Explained by", choices=[], interactive=True)
            figure = gr.Image(label="Which pixels spoke for it", interactive=False, format="png")
            view = _View(classes, gr.State(), report, gr.State(), method, answer, probabilities, figure)
            page.load(self._start, None, [session, *view.components()])
            add.click(self._told(self._add), [session, name, photos], [name, photos, *view.components()], **_ONE_AT_A_TIME)
            image.upload(self._told(self._show), [session, image], [answer, probabilities], **_ONE_AT_A_TIME).success(
                self._told(self._explain), [session, method], [figure], **_ONE_AT_A_TIME
            )
        return page

    # === What is done ===

    def _start(self) -> tuple[Any, ...]:
        session = self.new_session()
        return session, *self._seen(session)

    def _add(self, session: Session, name: str, files: list[str] | None) -> tuple[Any, ...]:
        session.add(name, files or [])
        return "", None, *self._seen(session)

    def _show(self, session: Session, file: str | None) -> tuple[Any, ...]:
        session.show(file)
        answer, names = session.answer(), list(session.classes)
        values = {name: float(value) for name, value in zip(names, answer.probabilities, strict=True)}
        return texts.answer_html(answer, names), self.gr.Label(values, visible=True)

    def _explain(self, session: Session, method: str) -> np.ndarray:
        return draw_explanation(session.explain(method)).pixels()

    def _seen(self, session: Session) -> tuple[Any, ...]:
        """The values of a `_View`."""
        gr, names = self.gr, list(session.classes)
        methods = [(METHODS.get(method, method), method) for method in session.methods]
        return (
            texts.classes_html(session.classes),
            None,
            texts.report_html(session.report()),
            None,
            gr.Dropdown(choices=methods, value=methods[0][1]),
            "",
            gr.Label(visible=False),
            None,
        )

    def _told(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with errors that a visitor can act on in a box on the page."""

        @functools.wraps(function)
        def told(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except (EgtError, OSError) as error:
                raise self.gr.Error(str(error), title="This did not work", duration=None, print_exception=False) from error

        return told
