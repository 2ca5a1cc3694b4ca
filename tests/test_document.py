from __future__ import annotations

import html
from html.parser import HTMLParser

import pytest

from egt_tf.document import (
    Bullets,
    Code,
    Heading,
    Paragraph,
    Picture,
    Table,
    html_document,
    markdown_document,
    markdown_text,
)

HOSTILE = ("<b>|x", "a | b", '"><script>alert(1)</script>', "&amp;", "[x](y)", "`code`", "*a*", "\x1b[31m", "a\ud800")


class Balanced(HTMLParser):
    """Follows the tags of a page; `open` holds those that were not closed."""

    VOID = ("meta", "img", "!doctype")

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def blocks(text: str):
    return [
        Heading(1, text),
        Paragraph(text),
        Code(text),
        Bullets(((text, (text, text)), (text, ()))),
        Table(text, (text, "number"), ((text, "1"),), words=1),
        Picture("figures/a.png", b"png", text, text),
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_html_holds_text_as_text(text):
    page = Balanced(html_document(text, blocks(text)))
    assert page.open == []
    assert page.tags.isdisjoint({"b", "script"})
    shown = " ".join(text.encode("utf-8", "replace").decode().replace("\x1b", "\ufffd").split())
    assert sum(words == shown for words in page.words) >= 8


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_holds_text_as_text(text):
    document = markdown_document([block for block in blocks(text) if not isinstance(block, Code)])
    document.encode("utf-8")
    assert "<" not in document
    (row,) = (line for line in document.splitlines() if line.endswith("| 1 |"))
    assert row.replace("\\|", "").count("|") == 3


def test_underscores_within_words_stay_readable():
    assert markdown_text("cross_attention __init__") == "cross_attention \\_\\_init\\_\\_"


@pytest.mark.parametrize("text", ["- x", "+ x", "# x", "1. x", "2) x", "---", "=== x"])
def test_a_paragraph_is_no_list_and_no_heading(text):
    assert Paragraph(text).markdown() == text.replace(text[text[0].isdigit()], "\\" + text[text[0].isdigit()], 1)


def test_numbers_at_the_start_stay_numbers():
    assert Paragraph("0.5 of all").markdown() == "0.5 of all"


def test_code_keeps_its_lines_and_its_fence():
    code = Code("a <b>\n```\nc")
    assert code.markdown() == "````\na <b>\n```\nc\n````"
    assert html.unescape(code.html()) == "<pre><code>a <b>\n```\nc</code></pre>"
