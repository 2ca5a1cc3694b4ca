from __future__ import annotations

import configparser
import re
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import egt_tf

ROOT = Path(__file__).resolve().parents[1]
FOLDER_OF = {"egt_tf": "egt_tf", "egt_tf_cli": "cli", "egt_tf_configs": "configs", "egt_tf_models": "saved_models"}
BUNDLED = ("samples", "shapes/1")


@pytest.fixture(scope="module")
def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def _copied(copy: Path) -> Path:
    """What is packed, so that no `build/` of an earlier build gets in."""
    for folder in FOLDER_OF.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copy(file, copy)
    for model in ("first/1", "shapes/2"):
        shutil.copytree(ROOT / "saved_models" / "shapes" / "1", copy / "saved_models" / model)
    return copy


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names in a wheel built from a copy of the tree."""
    pytest.importorskip("build", reason="the extra `test` is not installed")
    copy = _copied(tmp_path_factory.mktemp("tree"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    subprocess.run([*build, "--outdir", copy / "dist", copy], check=True, capture_output=True)
    (path,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tree_of(package: str, pattern: str) -> set[str]:
    """The files of a package as a wheel names them."""
    folder = ROOT / FOLDER_OF[package]
    return {f"{package}/{file.relative_to(folder).as_posix()}" for file in folder.rglob(pattern)}


def test_the_listed_packages_are_those_of_the_tree(settings):
    listed = settings["options"]["packages"].split()
    files = set().union(*(tree_of(package, "*.py") for package in FOLDER_OF))
    found = {Path(file).parent.as_posix().replace("/", ".") for file in files}
    assert sorted(listed) == sorted(found)
    assert listed == sorted(listed)


def test_every_package_has_an_init(settings):
    for package in settings["options"]["packages"].split():
        top, *below = package.split(".")
        assert ROOT.joinpath(FOLDER_OF[top], *below, "__init__.py").is_file(), package


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    expected = set().union(*(tree_of(package, "*.py") for package in FOLDER_OF))
    assert {name for name in wheel if name.endswith(".py")} == expected


def test_the_wheel_holds_every_configuration(wheel):
    expected = tree_of("egt_tf_configs", "*.yaml")
    assert "egt_tf_configs/demo.yaml" in expected
    assert {name for name in wheel if name.endswith(".yaml")} == expected


def test_the_wheel_holds_the_bundled_model_and_no_other(wheel):
    expected = {
        file
        for part in BUNDLED
        for file in tree_of("egt_tf_models", f"{part}/**/*")
        if (ROOT / file.replace("egt_tf_models", "saved_models")).is_file()
    }
    assert {"egt_tf_models/shapes/1/saved_model.pb", "egt_tf_models/shapes/1/assets/class_names.txt"} <= expected
    assert any(file.startswith("egt_tf_models/samples/") for file in expected)
    assert {name for name in wheel if name.startswith("egt_tf_models/")} == {*expected, "egt_tf_models/__init__.py"}


def test_the_wheel_says_that_it_is_typed(wheel):
    assert "egt_tf/py.typed" in wheel
    assert tree_of("egt_tf", "*.pyi") == {name for name in wheel if name.endswith(".pyi")}


def test_the_wheel_takes_no_common_top_level_name(wheel):
    tops = {name.split("/")[0] for name in wheel}
    assert tops == {*FOLDER_OF, f"egt_tf-{egt_tf.__version__}.dist-info"}


def test_the_wheel_has_the_command_the_version_and_the_licence(wheel):
    info = f"egt_tf-{egt_tf.__version__}.dist-info"
    assert "egt-tf = egt_tf_cli.main:cli" in wheel[f"{info}/entry_points.txt"].decode().splitlines()
    assert f"Version: {egt_tf.__version__}" in wheel[f"{info}/METADATA"].decode().splitlines()
    assert any(name.startswith(info) and name.endswith("LICENSE") for name in wheel)


@pytest.mark.parametrize("module", ["egt_tf", "egt_tf_cli.main"])
def test_import_does_not_import_tensorflow(module):
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_help_is_fast():
    command = Path(sys.executable).with_name("egt-tf")
    if not command.exists():
        pytest.skip("egt-tf is not installed beside this interpreter")
    assert min(_seconds([command, "--help"]) for _ in range(5)) < 0.8


def _seconds(command: list) -> float:
    """Of the processor: those on the clock depend on what else runs, such as other tests."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_file_for_the_current_lane_is_what_newer_pythons_get(settings):
    newer = {
        line.split(";")[0].strip() if "python_version >=" in line else line
        for line in settings["options"]["install_requires"].strip().splitlines()
        if not re.search(r'python_version < "3.12"', line)
    }
    file = (ROOT / "requirements" / "current.txt").read_text(encoding="utf-8").splitlines()
    assert {line for line in file if line and not line.startswith("#")} == newer


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "pattern"), [("--wheel", "*.whl"), ("--sdist", "*.tar.gz")])
def test_what_is_built_can_be_installed_and_used(kind, pattern, tmp_path):
    """In an environment that has the packages required and not the checkout."""
    pytest.importorskip("build", reason="the extra `test` is not installed")
    copy = _copied(tmp_path / "tree")
    build = [sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", tmp_path / "dist", copy]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = (tmp_path / "dist").glob(pattern)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, capture_output=True)
    python = tmp_path / "venv" / "bin" / "python"
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    # A folder in a .pth file is searched, and the .pth files in it are not: an editable installation stays out of sight.
    (packages / "required.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--no-build-isolation", built]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command = tmp_path / "venv" / "bin" / "egt-tf"
    for arguments in (["--version"], ["explain", "--sample", "--out", "sample.png"]):
        done = subprocess.run([command, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "sample.png").read_bytes().startswith(b"\x89PNG")
    where = subprocess.run([python, "-c", "import egt_tf; print(egt_tf.__file__)"], cwd=tmp_path, capture_output=True)
    assert where.stdout.decode().startswith(str(packages))
