"""Documents of few kinds of blocks, written as Markdown and as one self-contained page of HTML.

All text is plain: whatever has a meaning in Markdown or HTML is escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

# What a page may load: pictures that it holds itself.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """\
:root { color-scheme: light dark; --ink: #1a1c20; --muted: #5c626b; --page: #ffffff; --line: #d3d6da; --tint: #f3f5f7; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --muted: #a3a9b2; --page: #16181c; --line: #3a3f46; --tint: #22262b; }
}
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; margin: 2rem 0 0.75rem; }
h1 { margin-top: 0; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
caption { caption-side: top; text-align: left; color: var(--muted); padding-bottom: 0.4rem; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
thead th { border-bottom-width: 2px; vertical-align: bottom; }
tbody tr:hover { background: var(--tint); }
.number { text-align: right; }
pre { padding: 0.75rem; background: var(--tint); overflow-x: auto; }
figure { margin: 1rem 0; }
figure img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); border-radius: 4px; }
figcaption { color: var(--muted); }
@media print {
  :root { --ink: #000000; --muted: #444444; --page: #ffffff; --line: #bbbbbb; --tint: #f3f5f7; color-scheme: light; }
  body { max-width: none; padding: 0; font-size: 0.8rem; }
  .table, pre { overflow: visible; }
  table { font-size: 0.65rem; }
  th, td { white-space: normal; overflow-wrap: break-word; padding: 0.15rem 0.4rem; }
  pre { white-space: pre-wrap; }
  h1, h2, h3, caption { break-after: avoid; }
  tr, figure { break-inside: avoid; }
}
"""


class HtmlBlock(Protocol):
    """A part of a page."""

    def html(self) -> str:
        """The block as HTML."""


class Block(HtmlBlock, Protocol):
    """A part of a document."""

    def markdown(self) -> str:
        """The block as Markdown, without a blank line around it."""


@dataclasses.dataclass(frozen=True)
class Heading:
    """A title above a part of the document.

    Attributes:
        level: 1 is that of the document.
        text: one line.

    Example:
        >>> Heading(2, "Costs of <b>").markdown(), Heading(2, "Costs of <b>").html()
        ('## Costs of &lt;b&gt;', '<h2>Costs of &lt;b&gt;</h2>')
    """

    level: int
    text: str

    def markdown(self) -> str:
        return f"{'#' * self.level} {markdown_text(self.text)}"

    def html(self) -> str:
        return f"<h{self.level}>{html_text(self.text)}</h{self.level}>"


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Text that is set as one paragraph.

    Example:
        >>> Paragraph("3 < 4, and\\n*so* on").markdown()
        '3 &lt; 4, and \\\\*so\\\\* on'
    """

    text: str

    def markdown(self) -> str:
        return _line_start(markdown_text(self.text))

    def html(self) -> str:
        return f"<p>{html_text(self.text)}</p>"


@dataclasses.dataclass(frozen=True)
class Code:
    """What is typed, with its line breaks.

    Example:
        >>> Code("ls -l").markdown()
        '```\\nls -l\\n```'
    """

    text: str

    def markdown(self) -> str:
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", self.text)), default=0))
        return f"{fence}\n{_encodable(self.text)}\n{fence}"

    def html(self) -> str:
        return f"<pre><code>{html.escape(_encodable(self.text))}</code></pre>"


@dataclasses.dataclass(frozen=True)
class Bullets:
    """A list.

    Attributes:
        items: a line, and the lines of the list below it.

    Example:
        >>> print(Bullets((("fruit", ("apple", "pear")),)).markdown())
        - fruit
          - apple
          - pear
    """

    items: Sequence[tuple[str, Sequence[str]]]

    def markdown(self) -> str:
        lines = []
        for text, below in self.items:
            lines.append(f"- {_line_start(markdown_text(text))}")
            lines += [f"  - {_line_start(markdown_text(line))}" for line in below]
        return "\n".join(lines)

    def html(self) -> str:
        return _list(html_text(text) + (_list(map(html_text, below)) if below else "") for text, below in self.items)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows, a sentence.
        header: of each column.
        rows: cells of each row, as many as there are columns.
        words: so many columns at the left hold words; the others hold numbers and are set to the right.

    Example:
        >>> print(Table("Heights.", ("who", "cm"), (("a|b", "170"),), words=1).markdown())
        Heights.
        <BLANKLINE>
        | who | cm |
        |---|---:|
        | a\\|b | 170 |
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int

    def markdown(self) -> str:
        rule = "".join("|---" if column < self.words else "|---:" for column in range(len(self.header)))
        lines = [self._markdown_row(self.header), f"{rule}|", *map(self._markdown_row, self.rows)]
        return f"{Paragraph(self.caption).markdown()}\n\n" + "\n".join(lines)

    def html(self) -> str:
        rows = "\n".join(self._html_row(row, "td") for row in self.rows)
        return (
            # It may be wider than the screen: then it is scrolled, by the keyboard too.
            f'<div class="table" role="region" aria-label="{html_text(self.caption)}" tabindex="0">'
            f"<table><caption>{html_text(self.caption)}</caption>\n<thead>"
            f"{self._html_row(self.header, 'th')}</thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        )

    def _markdown_row(self, cells: Sequence[str]) -> str:
        return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"

    def _html_row(self, cells: Sequence[str], tag: str) -> str:
        scope = ' scope="col"' if tag == "th" else ""
        kinds = ["" if column < self.words else ' class="number"' for column in range(len(cells))]
        row = "".join(f"<{tag}{scope}{k}>{html_text(c)}</{tag}>" for k, c in zip(kinds, cells, strict=True))
        return f"<tr>{row}</tr>"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure with its caption.

    Attributes:
        path: where the Markdown finds it, relative to its own file; of letters, digits and "/._-" only.
        png: content of the file; HTML holds it.
        title: what it shows, in few words.
        caption: how to read it, in sentences.

    Example:
        >>> Picture("figures/a.png", b"", "Costs", "In seconds.").markdown()
        '![Costs](figures/a.png)\\n\\nCosts. In seconds.'
    """

    path: str
    png: bytes
    title: str
    caption: str

    def markdown(self) -> str:
        caption = Paragraph(f"{self.title}. {self.caption}")
        return f"![{markdown_text(self.title)}]({self.path})\n\n{caption.markdown()}"

    def html(self) -> str:
        data = base64.b64encode(self.png).decode("ascii")
        return (
            f'<figure><img alt="{html_text(self.title)}" src="data:image/png;base64,{data}">\n'
            f"<figcaption>{html_text(f'{self.title}. {self.caption}')}</figcaption></figure>"
        )


def markdown_document(blocks: Sequence[Block]) -> str:
    """The blocks as a file of Markdown.

    Example:
        >>> markdown_document([Heading(1, "Title"), Paragraph("Text.")])
        '# Title\\n\\nText.\\n'
    """
    return "\n\n".join(block.markdown() for block in blocks) + "\n"


def html_document(title: str, blocks: Sequence[HtmlBlock], style: str = "") -> str:
    """The blocks as a page that needs no other file and no network, for light and dark screens and for paper.

    The page forbids itself to load anything and to run any script.

    Args:
        title: of the window.
        blocks: in their order.
        style: further CSS, behind that of all documents.

    Example:
        >>> html_document("Title", [Paragraph("Text.")]).splitlines()[-3]
        '<p>Text.</p>'
    """
    body = "\n".join(block.html() for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html_text(title)}</title>\n<style>\n{_STYLE}{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body></html>\n"
    )


def html_text(text: str) -> str:
    """Plain text as one line of HTML, also within quotes.

    Example:
        >>> html_text('<b>|x "y"')
        '&lt;b&gt;|x &quot;y&quot;'
    """
    return html.escape(_one_line(text), quote=True)


def markdown_text(text: str) -> str:
    """Plain text as a part of a line of Markdown, also within a table.

    Example:
        >>> markdown_text("<b>|x cross_attention _y_")
        '&lt;b&gt;\\\\|x cross_attention \\\\_y\\\\_'
    """
    # Within a word an underscore is none but itself.
    marks = re.sub(r"[\\`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\\g<0>", _one_line(text))
    return html.escape(marks, quote=False)


def _line_start(markdown: str) -> str:
    """Escapes what would make a line a heading, a list or a rule."""
    return re.sub(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=[-+#=]))", r"\1\\", markdown)


def _one_line(text: str) -> str:
    return _encodable(" ".join(text.split()))


def _encodable(text: str) -> str:
    """Without half characters, which names of files may hold, and without the control characters of terminals."""
    readable = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\ufffd", text)
    return readable.encode("utf-8", "replace").decode("utf-8")


def _list(items: Iterable[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{item}</li>" for item in items) + "\n</ul>"
