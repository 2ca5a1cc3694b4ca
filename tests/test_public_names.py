"""What `import egt_tf` and its rooms hand out: names that resolve, stay what they are, and show how they are used."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import egt_tf

PACKAGES = ["egt_tf", *(module.name for module in pkgutil.walk_packages(egt_tf.__path__, "egt_tf.") if module.ispkg)]
LAZY = ("egt_tf", "egt_tf.app", "egt_tf.data", "egt_tf.explain", "egt_tf.serving", "egt_tf.study", "egt_tf.training")


def public_names(package: str) -> list[str]:
    # The domains are entered into a table when they are imported; their room hands out no names.
    return importlib.import_module(package).__all__ if package != "egt_tf.data.domains" else []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_resolve(package):
    module = importlib.import_module(package)
    names = public_names(package)
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(module))
    for name in names:
        assert getattr(module, name) is getattr(module, name)


def test_no_public_name_is_that_of_a_room():
    assert not set(egt_tf.__all__) & {each.name for each in pkgutil.iter_modules(egt_tf.__path__)}


@pytest.mark.parametrize("package", LAZY)
def test_an_unknown_name_is_refused(package):
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'LPR'"):
        getattr(importlib.import_module(package), "LPR")  # noqa: B009 - a misspelt name, looked up at run time


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_are_told_the_same_names(package):
    module = importlib.import_module(package)
    tree = ast.parse(Path(module.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told = {
        alias.asname: getattr(importlib.import_module(node.module), alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == {name: getattr(module, name) for name in public_names(package) if name != "__version__"}


def test_public_names_stay_what_they_are_when_every_module_is_imported():
    code = """
import importlib, pkgutil, egt_tf
before = [(egt_tf, name, getattr(egt_tf, name)) for name in egt_tf.__all__]
modules = list(pkgutil.walk_packages(egt_tf.__path__, "egt_tf."))
for package in [importlib.import_module(module.name) for module in modules if module.ispkg]:
    before += [(package, name, getattr(package, name)) for name in getattr(package, "__all__", [])]
for module in modules:
    importlib.import_module(module.name)
changed = [f"{package.__name__}.{name}" for package, name, value in before if getattr(package, name) is not value]
assert len(before) > 100 and changed == [], changed
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_classes_and_functions_have_an_example(package):
    """`tests/test_examples.py` runs it."""
    module = importlib.import_module(package)
    without = [
        name
        for name in public_names(package)
        if (inspect.isclass(getattr(module, name)) or inspect.isroutine(getattr(module, name)))
        and ">>> " not in (inspect.getdoc(getattr(module, name)) or "")
    ]
    assert without == []
