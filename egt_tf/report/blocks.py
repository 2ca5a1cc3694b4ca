"""Parts of a page that only HTML has: sections, folds, charts, pictures side by side."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping, Sequence

from egt_tf.document import HtmlBlock, html_text
from egt_tf.report import charts

STYLE = (
    charts.STYLE
    + """\
section { margin-top: 2.5rem; }
.lead { font-size: 1.1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 9rem), 1fr)); gap: 0.75rem;
  margin: 1.5rem 0; padding: 0; }
.facts div { padding: 0.6rem 0.8rem; background: var(--tint); border-radius: 4px; min-width: 0; }
.facts dt { color: var(--muted); font-size: 0.85rem; }
.facts dd { margin: 0; font-weight: 600; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; padding: 0; list-style: none; }
a { color: var(--c0); }
.note, .damaged { padding: 0.6rem 0.8rem; background: var(--tint); border-left: 4px solid var(--muted); }
.damaged { border-color: var(--c1); }
.table { container-type: inline-size; }
.table caption { position: sticky; left: 0; max-width: 100cqi; }
.groups { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 0 1rem; }
.groups > div { min-width: 0; }
.table thead th { white-space: normal; }
.table th, .table td { padding: 0.2rem 0.5rem; }
.groups td:not(.number) { white-space: normal; }
details { margin: 1rem 0; }
summary { cursor: pointer; padding: 0.4rem 0; font-weight: 600; }
:root { --darkest: 70%; }
@media (prefers-color-scheme: dark) { :root { --darkest: 45%; } }
@media print { :root { --darkest: 70%; } }
.matrix td { --part: calc(var(--share) * var(--darkest)); background: color-mix(in srgb, var(--c1) var(--part), transparent); }
.matrix td.right { background: color-mix(in srgb, var(--c2) var(--part), transparent); }
.matrix tbody th { font-weight: 600; }
.example { margin: 1.5rem 0; padding: 1rem; border: 1px solid var(--line); border-radius: 6px; }
.example h3 { margin: 0 0 0.75rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.tiles figure { margin: 0; width: 10.5rem; max-width: calc(33.333% - 0.5rem); }
.tiles figure img { display: block; width: 100%; }
.tiles.small { gap: 0.35rem; flex-wrap: nowrap; }
.tiles.small figure { flex: 0 1 4.8rem; min-width: 0; max-width: none; }
.tiles figcaption, .bars { font-size: 0.85rem; line-height: 1.35; }
.bars { border: 0; min-width: min(13rem, 100%); flex: 1; }
.bars td { border: 0; padding: 0.1rem 0.5rem 0.1rem 0; white-space: normal; overflow-wrap: anywhere; }
.bars .number { white-space: nowrap; }
.bars tr:hover { background: none; }
.bar { display: block; height: 0.7rem; background: var(--c0); min-width: 1px; }
.bar-cell { width: 40%; }
@media (max-width: 30rem) {
  body { padding: 1rem; }
  .example { padding: 0.6rem; }
  .table th, .table td { padding: 0.2rem 0.3rem; }
  .table td:not(.number) { white-space: normal; min-width: 5rem; }
}
@media print {
  p:has(+ pre) { break-after: avoid; }
  nav, .screen { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .example, .facts div, .charts figure { break-inside: avoid; }
  .charts, .groups { grid-template-columns: 1fr 1fr; }
  .tiles figure { width: 7rem; } .tiles.small figure { flex-basis: 3.6rem; }
  .bar, .matrix td { print-color-adjust: exact; }
}
"""
)


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page with a title that the contents lead to.

    Attributes:
        anchor: of letters and "-".
        title: one line.
        blocks: what it holds.

    Example:
        >>> Section("runs", "Runs", ()).html()
        '<section id="runs" aria-labelledby="runs-title"><h2 id="runs-title">Runs</h2>\\n\\n</section>'
    """

    anchor: str
    title: str
    blocks: Sequence[HtmlBlock]

    def html(self) -> str:
        return (
            f'<section id="{self.anchor}" aria-labelledby="{self.anchor}-title">'
            f'<h2 id="{self.anchor}-title">{html_text(self.title)}</h2>\n{_joined(self.blocks)}\n</section>'
        )


@dataclasses.dataclass(frozen=True)
class Contents:
    """Links to sections."""

    sections: Sequence[Section]

    def html(self) -> str:
        items = "".join(f'<li><a href="#{each.anchor}">{html_text(each.title)}</a></li>' for each in self.sections)
        return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


@dataclasses.dataclass(frozen=True)
class Lead:
    """The sentence below the title.

    Example:
        >>> Lead("A run.").html()
        '<p class="lead">A run.</p>'
    """

    text: str

    def html(self) -> str:
        return f'<p class="lead">{html_text(self.text)}</p>'


@dataclasses.dataclass(frozen=True)
class Note:
    """What is not there, and the command that makes it.

    Attributes:
        text: a sentence.
        command: what is typed; empty for none.

    Example:
        >>> Note("Not evaluated yet:", "egt-tf evaluate a").html()
        '<p class="note">Not evaluated yet: <code>egt-tf evaluate a</code></p>'
    """

    text: str
    command: str = ""

    def html(self) -> str:
        command = f" <code>{html_text(self.command)}</code>" if self.command else ""
        return f'<p class="note">{html_text(self.text)}{command}</p>'


@dataclasses.dataclass(frozen=True)
class Damaged:
    """What is wrong with a file.

    Example:
        >>> Damaged("no JSON").html()
        '<p class="damaged"><strong>Damaged:</strong> no JSON</p>'
    """

    text: str

    def html(self) -> str:
        return f'<p class="damaged"><strong>Damaged:</strong> {html_text(self.text)}</p>'


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and values, side by side.

    Example:
        >>> Facts({"head": "relation"}).html()
        '<dl class="facts">\\n<div><dt>head</dt><dd>relation</dd></div>\\n</dl>'
    """

    values: Mapping[str, str]

    def html(self) -> str:
        items = "\n".join(
            f"<div><dt>{html_text(name)}</dt><dd>{html_text(value)}</dd></div>" for name, value in self.values.items()
        )
        return f'<dl class="facts">\n{items}\n</dl>'


@dataclasses.dataclass(frozen=True)
class Fold:
    """What is shown when its line is chosen, and on paper.

    Attributes:
        title: its line.
        blocks: what it holds.
        printed: whether paper has it.

    Example:
        >>> Fold("More", ()).html()
        '<details><summary>More</summary>\\n\\n</details>'
    """

    title: str
    blocks: Sequence[HtmlBlock]
    printed: bool = True

    def html(self) -> str:
        kind = "" if self.printed else ' class="screen"'
        return f"<details{kind}><summary>{html_text(self.title)}</summary>\n{_joined(self.blocks)}\n</details>"


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart with its caption.

    Attributes:
        svg: see `egt_tf.report.charts`.
        caption: how to read it.

    Example:
        >>> Chart("<svg></svg>", "Costs.").html()
        '<figure><svg></svg>\\n<figcaption>Costs.</figcaption></figure>'
    """

    svg: str
    caption: str

    def html(self) -> str:
        return f"<figure>{self.svg}\n<figcaption>{html_text(self.caption)}</figcaption></figure>"


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts side by side, where there is room."""

    items: Sequence[Chart]

    def html(self) -> str:
        return f'<div class="charts">\n{_joined(self.items)}\n</div>'


@dataclasses.dataclass(frozen=True)
class Matrix:
    """Shares by row and column, the larger the darker; those on the diagonal in another colour.

    Attributes:
        caption: what it shows.
        corner: what rows and columns are.
        names: of rows and columns alike.
        shares: in [0, 1], row by row; None where there is none.

    Example:
        >>> Matrix("c", "true", ("a",), ((0.5,),)).html().count("50 %")
        1
    """

    caption: str
    corner: str
    names: Sequence[str]
    shares: Sequence[Sequence[float | None]]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{html_text(name)}</th>' for name in (self.corner, *self.names))
        rows = "\n".join(
            f'<tr><th scope="row">{html_text(name)}</th>'
            + "".join(self._cell(share, row == column) for column, share in enumerate(shares))
            + "</tr>"
            for row, (name, shares) in enumerate(zip(self.names, self.shares, strict=True))
        )
        caption = html_text(self.caption)
        return (
            f'<div class="table" role="region" aria-label="{caption}" tabindex="0"><table class="matrix">'
            f"<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
        )

    def _cell(self, share: float | None, right: bool) -> str:
        kind = "number right" if right else "number"
        if share is None:
            return f'<td class="{kind}" style="--share: 0">-</td>'
        return f'<td class="{kind}" style="--share: {share:.3f}">{100 * share:.0f} %</td>'


@dataclasses.dataclass(frozen=True)
class Tile:
    """A small picture with its caption.

    Attributes:
        content: of a PNG or JPEG file.
        alt: what it shows, for those who do not see it.
        caption: below it; empty for none.

    Example:
        >>> Tile(b"\\xff\\xd8", "a bee", "").html()
        '<figure><img alt="a bee" src="data:image/jpeg;base64,/9g="></figure>'
    """

    content: bytes
    alt: str
    caption: str

    def html(self) -> str:
        kind = "png" if self.content.startswith(b"\x89PNG") else "jpeg"
        data = base64.b64encode(self.content).decode("ascii")
        caption = f"<figcaption>{html_text(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure><img alt="{html_text(self.alt)}" src="data:image/{kind};base64,{data}">{caption}</figure>'


@dataclasses.dataclass(frozen=True)
class Bars:
    """Shares by name, as bars with their numbers.

    Attributes:
        caption: what they are.
        rows: name, share in [0, 1], and the share in words.

    Example:
        >>> Bars("probabilities", (("ant", 0.25, "25 %"),)).html().count("25 %")
        1
    """

    caption: str
    rows: Sequence[tuple[str, float, str]]

    def html(self) -> str:
        rows = "\n".join(
            f'<tr><td>{html_text(name)}</td><td class="bar-cell"><span class="bar" style="width: {100 * share:.1f}%">'
            f'</span></td><td class="number">{html_text(words)}</td></tr>'
            for name, share, words in self.rows
        )
        return f'<table class="bars"><caption>{html_text(self.caption)}</caption><tbody>\n{rows}\n</tbody></table>'


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Small pictures, and what stands beside them."""

    items: Sequence[HtmlBlock]
    small: bool = False

    def html(self) -> str:
        return f'<div class="tiles{" small" if self.small else ""}">\n{_joined(self.items)}\n</div>'


@dataclasses.dataclass(frozen=True)
class Groups:
    """Groups of blocks side by side, where there is room.

    Example:
        >>> Groups(((Lead("A run."),),)).html()
        '<div class="groups">\\n<div>\\n<p class="lead">A run.</p>\\n</div>\\n</div>'
    """

    items: Sequence[Sequence[HtmlBlock]]

    def html(self) -> str:
        groups = "\n".join(f"<div>\n{_joined(blocks)}\n</div>" for blocks in self.items)
        return f'<div class="groups">\n{groups}\n</div>'


@dataclasses.dataclass(frozen=True)
class Card:
    """One explained example.

    Example:
        >>> Card("bee", ()).html()
        '<article class="example"><h3>bee</h3>\\n\\n</article>'
    """

    title: str
    blocks: Sequence[HtmlBlock]

    def html(self) -> str:
        return f'<article class="example"><h3>{html_text(self.title)}</h3>\n{_joined(self.blocks)}\n</article>'


def _joined(blocks: Sequence[HtmlBlock]) -> str:
    return "\n".join(block.html() for block in blocks)
