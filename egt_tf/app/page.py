"""The page, built with Gradio, which is an extra: imported when the page is built."""

from __future__ import annotations

import functools
import html
import os
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from egt_tf.app import texts
from egt_tf.app.session import METHODS, Session
from egt_tf.app.web import HOST, import_gradio, own_hosts_only
from egt_tf.errors import EgtError
from egt_tf.figures.explanation import draw_explanation

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
class _Teaching:
    """Components of the first part."""

    name: Any
    photos: Any
    add: Any
    folder: Any
    add_folder: Any
    samples: Any
    summary: Any
    gallery: Any
    report: Any
    removal: Any
    removable: Any
    remove: Any

    @property
    def seen(self) -> list[Any]:
        """What changes when classes do."""
        return [self.summary, self.gallery, self.report, self.removal, self.removable]


@dataclass(frozen=True)
class _Asking:
    """Components of the second part."""

    image: Any
    samples: Any
    answer: Any
    probabilities: Any
    method: Any
    again: Any
    figure: Any

    @property
    def seen(self) -> list[Any]:
        """What changes when classes do."""
        return [self.method, self.again, self.answer, self.probabilities, self.figure]


def serve(port: int, new_session: Callable[[], Session], samples: Samples | None, open_browser: bool = False) -> None:
    """Shows the page on this machine until Ctrl-C or a signal to end; what was uploaded is deleted then.

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
    # As Ctrl-C: what stops containers must leave no photos behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="egt-tf-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = _Builder(gr, new_session, samples, Path(folder)).build()
        page.queue(default_concurrency_limit=1, max_size=32)
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
            app_kwargs={"middleware": [own_hosts_only()]},
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
        """Gradio's blocks, with what is to happen when something is done on them."""
        gr = self.gr
        with gr.Blocks(title="egt-tf", analytics_enabled=False, delete_cache=(_DELETE_AFTER, _DELETE_AFTER)) as page:
            session = gr.State(None)
            gr.Markdown(texts.WELCOME)
            teaching = self._teaching()
            asking = self._asking()
            self._download(session)
            seen = [*teaching.seen, *asking.seen]
            page.load(self._start, None, [session, *seen], api_visibility="private")
            self._connect_teaching(session, teaching, seen)
            self._connect_asking(session, asking)
        return page

    def _teaching(self) -> _Teaching:
        gr = self.gr
        gr.Markdown(texts.CLASSES)
        with gr.Row():
            with gr.Column():
                samples = gr.Button(texts.TRY_SAMPLES, visible=self.samples is not None, elem_id="samples")
                name = gr.Textbox(label="Name of the class", placeholder="blackbird", elem_id="name")
                photos = gr.File(label="Photos of it", file_count="multiple", height=150, elem_id="photos")
                add = gr.Button("Add these photos", variant="primary", elem_id="add")
                with gr.Accordion("Or take a folder of this computer", open=False, elem_id="folders"):
                    folder = gr.Textbox(
                        label="Folder with one sub-folder of photos for each class",
                        placeholder="/home/me/birds",
                        elem_id="folder",
                    )
                    add_folder = gr.Button("Add this folder", elem_id="add-folder")
            with gr.Column():
                summary = gr.HTML(elem_id="classes")
                gallery = gr.Gallery(
                    show_label=False,
                    columns=_SHOWN,
                    height=260,
                    object_fit="cover",
                    interactive=False,
                    buttons=[],
                    elem_id="examples",
                )
                with gr.Row(visible=False) as removal:
                    removable = gr.Dropdown(show_label=False, choices=[], elem_id="removable", min_width=120)
                    remove = gr.Button("Remove this class", elem_id="remove", min_width=120)
        report = gr.HTML(elem_id="report")
        return _Teaching(
            name, photos, add, folder, add_folder, samples, summary, gallery, report, removal, removable, remove
        )

    def _asking(self) -> _Asking:
        gr = self.gr
        gr.Markdown(texts.IMAGE)
        with gr.Row():
            with gr.Column():
                image = gr.File(label="The new photo", height=150, elem_id="image")
                samples = self._sample_images()
            with gr.Column():
                answer = gr.HTML(elem_id="answer")
                probabilities = gr.Label(show_label=False, show_heading=False, visible=False, elem_id="probabilities")
                method = gr.Dropdown(label="How to explain it", choices=[], visible=False, elem_id="method")
                again = gr.Button("Ask again", visible=False, elem_id="again")
        figure = gr.Image(
            show_label=False,
            interactive=False,
            format="png",
            visible=False,
            buttons=["download", "fullscreen"],
            elem_id="figure",
        )
        return _Asking(image, samples, answer, probabilities, method, again, figure)

    def _sample_images(self) -> Any:
        """Small pictures to click on."""
        gr = self.gr
        images = [] if self.samples is None else [[str(path)] for path in self.samples.images]
        return gr.Dataset(
            components=[gr.Image(type="filepath", render=False)],
            samples=images,
            type="index",
            label="Or one of these, which go with the sample photos",
            samples_per_page=len(images) or 1,
            visible=bool(images),
            elem_id="sample-images",
        )

    def _download(self, session: Any) -> None:
        gr = self.gr
        gr.Markdown(texts.DOWNLOAD)
        with gr.Row():
            name = gr.Textbox(label="Name of the model", value="my-classes", elem_id="model-name")
            photos = gr.Checkbox(label="With the photos, for explanations", value=True, elem_id="with-photos")
        with gr.Row():
            buttons = {
                "saved_model": gr.Button("For this computer or a server", elem_id="make-saved_model"),
                "lite": gr.Button("For telephones (LiteRT)", elem_id="make-lite"),
            }
        file = gr.File(label="The file", interactive=False, visible=False, elem_id="download")
        for form, button in buttons.items():
            make = self._told(functools.partial(self._write, form))
            button.click(make, [session, name, photos], [file], **_ONE_AT_A_TIME)

    # === What leads to what ===

    def _connect_teaching(self, session: Any, part: _Teaching, seen: list[Any]) -> None:
        taught = [part.name, part.photos, *seen]
        part.add.click(self._told(self._add), [session, part.name, part.photos], taught, **_ONE_AT_A_TIME)
        part.add_folder.click(self._told(self._add_folder), [session, part.folder], seen, **_ONE_AT_A_TIME)
        part.samples.click(self._told(self._add_samples), [session], seen, **_ONE_AT_A_TIME)
        part.remove.click(self._told(self._remove), [session, part.removable], seen, **_ONE_AT_A_TIME)

    def _connect_asking(self, session: Any, part: _Asking) -> None:
        shown = [part.answer, part.probabilities, part.figure]
        asked = [
            part.image.upload(self._told(self._show), [session, part.image], shown, **_ONE_AT_A_TIME),
            part.samples.click(self._told(self._show_sample), [session, part.samples], shown, **_ONE_AT_A_TIME),
            part.again.click(self._told(self._ask), [session], shown, **_ONE_AT_A_TIME),
        ]
        explain = self._told(self._explain)
        for event in asked:
            event.success(explain, [session, part.method], [part.figure], **_ONE_AT_A_TIME)
        part.method.input(explain, [session, part.method], [part.figure], **_ONE_AT_A_TIME)

    # === What is done ===

    def _start(self) -> tuple[Any, ...]:
        session = self.new_session()
        return session, *self._seen(session)

    def _add(self, session: Session, name: str, files: list[str] | None) -> tuple[Any, ...]:
        session.add(name, files or [])
        return "", None, *self._seen(session)

    def _add_folder(self, session: Session, folder: str) -> tuple[Any, ...]:
        session.add_folder(folder)
        return self._seen(session)

    def _add_samples(self, session: Session) -> tuple[Any, ...]:
        if self.samples is not None:
            session.add_folder(self.samples.classes)
        return self._seen(session)

    def _remove(self, session: Session, name: str | None) -> tuple[Any, ...]:
        session.remove(name or "")
        return self._seen(session)

    def _show(self, session: Session, file: str | None) -> tuple[Any, ...]:
        if file is not None:
            session.show(file)
        return self._ask(session)

    def _show_sample(self, session: Session, index: int) -> tuple[Any, ...]:
        return self._show(session, None if self.samples is None else str(self.samples.images[index]))

    def _ask(self, session: Session) -> tuple[Any, ...]:
        answer, names = session.answer(), list(session.classes)
        values = {name: float(value) for name, value in zip(names, answer.probabilities, strict=True)}
        # The figure is seen from now on, so that it is seen to be in the making.
        figure = self.gr.Image(None, visible=True)
        return texts.answer_html(answer, names), self.gr.Label(values, visible=True), figure

    def _explain(self, session: Session, method: str) -> Any:
        return self.gr.Image(draw_explanation(session.explain(method)).pixels(), visible=True)

    def _write(self, form: str, session: Session, name: str, photos: bool) -> Any:
        # A folder of its own: two visitors may give the same name.
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return self.gr.File(str(session.write(folder, name, form, photos)), visible=True)

    def _seen(self, session: Session) -> tuple[Any, ...]:
        """The values of `_Teaching.seen` and `_Asking.seen`; an answer from before is gone."""
        gr, names = self.gr, list(session.classes)
        methods = [(METHODS.get(method, method), method) for method in session.methods]
        examples = session.examples(_SHOWN)
        return (
            texts.classes_html(session.classes),
            gr.Gallery(examples, visible=bool(examples)),
            texts.report_html(session.left_out, session.tested, session.report()),
            gr.Row(visible=bool(names)),
            gr.Dropdown(names, value=names[0] if names else None, interactive=True),
            gr.Dropdown(methods, value=methods[0][1], interactive=True, visible=session.is_ready),
            gr.Button(visible=session.is_ready),
            texts.no_answer_html(session.is_ready),
            gr.Label(None, visible=False),
            gr.Image(None, visible=False),
        )

    def _told(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with errors that a visitor can act on in a box on the page."""
        error_box = functools.partial(self.gr.Error, title="This did not work", duration=None, print_exception=False)

        def told(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except EgtError as error:
                raise error_box(html.escape(str(error))) from error
            except OSError as error:
                raise error_box(html.escape(error.strerror or str(error))) from error
            except MemoryError as error:
                raise error_box("out of memory: fewer photos need less") from error

        return told
