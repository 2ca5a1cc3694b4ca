"""The documentation as a site: its menu, and the reference that is made from the code."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import egt_tf
from egt_tf.config import RunConfig, config_to_dict
from tests.helpers.chromium import chromium_path, open_browser

ROOT = Path(__file__).resolve().parents[1]
# Where the hits of a search lead to.
_FOUND = """[...document.querySelectorAll('.md-search-result__link')].map(link => link.href)"""


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("site_reference", ROOT / "docs" / "hooks" / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _menu(entries: list) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _menu(value)


def _site() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def test_every_page_is_in_the_menu(reference):
    menu = list(_menu(_site()["nav"]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("studies/")} <= set(menu)
    assert {page for page in menu if page.startswith("reference/api/")} == {
        f"reference/api/{name}" for name in reference.api_pages()
    }
    assert len(menu) == len(set(menu))


def test_the_reference_has_every_command_with_its_options(reference):
    from egt_tf_cli.main import cli

    page = reference.commands_page()
    found = dict(reference.commands(cli))
    assert ("data", "check") in found
    for words, command in found.items():
        assert f"\n### egt-tf {' '.join(words)}\n" in page
        section = page.partition(f"\n### egt-tf {' '.join(words)}\n")[2].partition("\n### ")[0]
        for option in command.params:
            assert option.param_type_name == "argument" or f"`{option.opts[-1]}" in section or option.opts[0] in section
        assert all(example in section for example in command.examples)


def test_the_reference_says_what_every_configuration_key_means(reference):
    page = reference.keys_page()
    for section, keys in config_to_dict(RunConfig()).items():
        for key in keys:
            nested = dataclasses.is_dataclass(getattr(getattr(RunConfig(), section), key))
            wanted = f"| `{section}.{key}." if nested else f"| `{section}.{key}`<br>"
            assert wanted in page
    for line in page.splitlines():
        if line.startswith("| `"):
            assert line.rpartition(" | ")[2].strip(" |"), f"no meaning: {line}"


def test_the_reference_has_every_public_name_and_no_other(reference):
    """What `import egt_tf` gives, but the alias of Keras, and what the rooms that are shown give."""
    shown = reference.public_names()
    named = {name for names in shown.values() for name in names}
    given = (set(getattr(importlib.import_module(f"egt_tf.{room}"), "__all__", ())) for room in shown)
    assert named == (set(egt_tf.__all__) - {"__version__", "keras"}).union(*given)


def test_the_reference_names_each_where_it_is_given(reference):
    for room, names in reference.public_names().items():
        for name, full in names.items():
            module, _, attribute = full.rpartition(".")
            giver = egt_tf if name in egt_tf.__all__ else importlib.import_module(f"egt_tf.{room}")
            assert getattr(importlib.import_module(module), attribute) is getattr(giver, name), full


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site."""
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("MkDocs is not installed: pip install '.[docs]', or make docs")
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_the_site_is_built_without_a_dead_link(site):
    assert (site / "reference" / "api" / "lrp.html").is_file()
    # Nothing is loaded from elsewhere.
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        for loads in ('<script src="http', '<link rel="stylesheet" href="http', '<img src="http', "@import"):
            assert loads not in text, page


@pytest.mark.slow
@pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium")
def test_the_site_is_searched_as_a_file_without_a_server(site, tmp_path):
    """In a page that was opened from the disk, which may start no worker."""
    with open_browser(tmp_path / "profile") as browser:
        browser.open(site / "index.html")
        browser.evaluate(
            """const field = document.querySelector('[data-md-component="search-query"]');
            field.focus(); field.value = 'tune-composite'; field.dispatchEvent(new Event('input', {bubbles: true}));
            field.dispatchEvent(new KeyboardEvent('keyup', {bubbles: true}))"""
        )
        end = time.monotonic() + 30
        while not (found := browser.evaluate(_FOUND)) and time.monotonic() < end:
            time.sleep(0.2)
        assert any("reference/commands.html" in link for link in found), found
        asked = [event["params"]["request"]["url"] for event in browser.events if "request" in event.get("params", {})]
        assert all(url.startswith(("file:", "data:")) for url in asked), asked
