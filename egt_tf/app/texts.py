"""What the page says, as HTML; names of classes and files are escaped."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from egt_tf.explain.stored_photos import StoredAnswer
from egt_tf.ties import tie_text, tied_classes

WELCOME = """# What does this photo show?

Give a few photos of each kind of bird, plant or anything else, then a new photo: the page names it, says how sure that is,
and shows which parts of the photo spoke for it. Nothing leaves this computer.
"""
CLASSES = """## 1. What there is to choose from

Name a class, drop a few photos of it, add them; then the next class. Photos can be added to a class later by its name."""
TRY_SAMPLES = "Try it with sample photos"
IMAGE = """## 2. A new photo

Drop a photo. In the figure, red is what spoke for a class and blue what spoke against it, both in the new photo and in those
it was compared with."""
DOWNLOAD = """## 3. Take it with you

A zip file with all that was learnt: one for `egt-tf predict --model` and for servers, or one for telephones, without photos.
It takes a minute to make."""

# Of photos that were not taken, so many are named.
_LISTED = 5

CSS = """
.gradio-container { max-width: 1180px !important; margin: auto !important; }
#examples .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
.egt-answer { font-size: 1.35rem; font-weight: 600; padding: .3rem .1rem; }
.egt-small { font-size: .95rem; font-weight: 400; opacity: .8; }
.egt-classes { display: flex; flex-wrap: wrap; gap: .4rem; padding: .2rem 0; }
.egt-classes span { border: 1px solid var(--border-color-primary); border-radius: 999px; padding: .15rem .7rem;
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
.egt-warning { color: var(--error-text-color, #b91c1c); overflow-wrap: anywhere; margin: .2rem 0; }
.egt-report summary { cursor: pointer; }
.egt-report li { margin: .2rem 0; overflow-wrap: anywhere; }
"""


def classes_html(classes: Mapping[str, int]) -> str:
    """The classes and how many photos each has.

    Example:
        >>> "<b>bee</b> 2 photos" in classes_html({"bee": 2})
        True
    """
    if not classes:
        return '<div class="egt-small">No classes yet. Name the first one and give it a few photos.</div>'
    chips = [
        f"<span><b>{html.escape(name)}</b> {count} photo{'' if count == 1 else 's'}</span>"
        for name, count in classes.items()
    ]
    return f'<div class="egt-classes">{"".join(chips)}</div>'


def report_html(left_out: Sequence[str], tested: tuple[int, int] | None, lines: Sequence[str]) -> str:
    """What was learnt: what a visitor must know, and behind a click all that `egt-tf learn` says.

    Args:
        left_out, tested, lines: of a `Session`.

    Example:
        >>> report_html(["bee/a.jpg: cannot be read"], None, [])
        '<p class="egt-warning">Not taken: bee/a.jpg: cannot be read</p>'
    """
    warnings = [f"Not taken: {html.escape(each)}" for each in left_out[:_LISTED]]
    if len(left_out) > _LISTED:
        warnings.append(f"Not taken: {len(left_out) - _LISTED} more")
    parts = [f'<p class="egt-warning">{each}</p>' for each in warnings]
    if tested is not None:
        right, count = tested
        parts.append(
            f"<p><b>{right} of {count} right:</b> each photo was hidden once and named by all the others. "
            "New photos taken like these should do about as well.</p>"
        )
    if lines:
        items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
        parts.append(f'<details class="egt-report"><summary>All that was measured</summary><ul>{items}</ul></details>')
    return "".join(parts)


def no_answer_html(is_ready: bool) -> str:
    """What stands where the answer will be.

    Args:
        is_ready: whether there are classes to choose from.
    """
    missing = "a photo" if is_ready else "two classes with photos"
    return f'<div class="egt-small">The answer comes here. It takes {missing}.</div>'


def answer_html(answer: StoredAnswer, class_names: Sequence[str]) -> str:
    """What the image was taken for, in a sentence.

    Example:
        >>> import numpy as np
        >>> "None of these" in answer_html(StoredAnswer(np.array([0.3, 0.7]), known=False), ("ant", "bee"))
        True
    """
    tied = tied_classes(answer.probabilities)
    best = int(answer.probabilities.argmax())
    nearest, percent = html.escape(class_names[best]), f"{100 * answer.probabilities[best]:.0f} %"
    if len(tied) > 1:
        names = tie_text([class_names[index] for index in tied], len(class_names))
        return _answer("No prediction", html.escape(names))
    if answer.known is False:
        return _answer("None of these", f"nearest: {nearest}; its probability then says nothing")
    unsure = "; with one photo of each class, whether it shows any of them is not asked" if answer.known is None else ""
    return _answer(nearest, f"{percent}{unsure}")


def _answer(large: str, small: str) -> str:
    return f'<div class="egt-answer">{large} <span class="egt-small">{small}</span></div>'
