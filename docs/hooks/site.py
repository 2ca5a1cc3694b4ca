"""What MkDocs calls while it builds the site: pages made from the code, and links that leave the folder of the pages."""

from __future__ import annotations

import logging
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

import reference

# Files beside the folder of the pages that have a page of their own. On the forge their links lead to the files.
BESIDE = {
    "README.md": "project/readme.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "NOTICE": "project/notice.md",
    "LICENSE": "project/licence.md",
    "saved_models/README.md": "project/saved-models.md",
    "saved_models/shapes/1/README.md": "project/shapes-card.md",
    "saved_models/samples/photos/LICENSES.md": "project/sample-photographs.md",
}
_PLAIN = {"NOTICE": "Notice", "LICENSE": "Licence"}
# Code, which is left alone, or a link: its words in brackets, what it leads to, and where there.
_LINK = re.compile(r"^```.*?^```|`[^`]+`|(\[(?:[^\[\]`]|`[^`]*`|\[[^\]]*\])*\])\(([^)\s#]+)(#[^)\s]*)?\)", re.M | re.S)
_LOG = logging.getLogger("mkdocs.hooks.site")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are no files below docs/."""
    made = {"reference/commands.md": reference.commands_page(), "reference/keys.md": reference.keys_page()}
    made.update({f"reference/api/{name}": text for name, text in reference.api_pages().items()})
    for source, page in BESIDE.items():
        text = (reference.ROOT / source).read_text("utf-8")
        if source in _PLAIN:
            text = f"# {_PLAIN[source]}\n\n```text\n{text}\n```\n"
        made[page] = _relinked(text, source, page)
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links out of docs/ to the pages made of those files."""
    if page.file.generated_by:
        return markdown
    return _relinked(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def _relinked(text: str, source: str, page: str) -> str:
    """The links of a file of the repository as they are on its page.

    Args:
        text: Markdown.
        source: where it is in the repository.
        page: where it is below docs/, or would be.
    """

    def relinked(match: re.Match[str]) -> str:
        words, target, anchor = match.groups(default="")
        if not words or re.match(r"[a-z]+:", target):
            return match.group(0)
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (reference.ROOT / file).exists():
            _LOG.warning("%s links to '%s', which is not in the repository.", source, target)
        below = file.removeprefix("docs/") if file.startswith("docs/") else BESIDE.get(file)
        if below is None or (reference.ROOT / file).is_dir():
            # A folder, or a file of the repository that has no page: its name stays, without a link.
            return words[1:-1]
        return f"{words}({posixpath.relpath(below, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(relinked, text)
