"""Imports go one way only: a module may import from its own room and from the rooms below it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first; the rooms of one line do not know each other.
FLOORS = (
    ("document", "errors", "environment", "lazy", "pictures", "tensors", "ties", "wording", "__version__"),
    ("files", "keras_api"),
    ("registry", "config", "keras_config", "weight_files"),
    ("data", "lrp", "measures"),
    ("backbones",),
    ("heads",),
    ("episodic_model",),
    ("weights",),
    ("runs",),
    ("explain",),
    ("figures",),
    ("evaluation", "published", "run_table"),
    ("report", "serving"),
    ("export",),
    ("learning", "training"),
    ("app", "doctor", "study"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

WITHOUT_TENSORFLOW = (
    "egt_tf",
    "egt_tf.app.web",
    "egt_tf.config",
    "egt_tf.errors",
    "egt_tf.document",
    "egt_tf.files",
    "egt_tf.data.check",
    "egt_tf.data.domains",
    "egt_tf.data.domains.prepare",
    "egt_tf.data.filelists",
    "egt_tf.data.image_set",
    "egt_tf.data.images",
    "egt_tf.data.likeness",
    "egt_tf.data.mixture",
    "egt_tf.data.records",
    "egt_tf.data.sampling",
    "egt_tf.data.sheet",
    "egt_tf.data.sources",
    "egt_tf.data.splits",
    "egt_tf.data.synthetic",
    "egt_tf.data",
    "egt_tf.doctor.examination",
    "egt_tf.doctor.findings",
    "egt_tf.doctor.machine",
    "egt_tf.doctor.versions",
    "egt_tf.report",
    "egt_tf.run_table",
    "egt_tf.runs",
    "egt_tf.serving.client",
    "egt_tf.serving.contract",
    "egt_tf.study.report",
    "egt_tf.study.runner",
    "egt_tf.study.worker",
    "egt_tf.weight_files",
)


def imported_modules(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """The dotted names a module imports, wherever in it: `from a.b import c` gives "a.b.c"."""
    package = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """The imports of a module of egt_tf that lead upwards, sideways or out to the command line."""
    room = module.split(".")[1] if "." in module else None
    return [name for name in imported_modules(source, module, is_package) if not _allowed(name, room)]


def _allowed(name: str, room: str | None) -> bool:
    top, *rest = name.split(".")
    if top in ("cli", "configs", "egt_tf_cli", "egt_tf_configs", "tests"):
        return False
    if top != "egt_tf" or (rest and rest[0] == room):
        return True
    if room is None:
        return rest[0] in ("environment", "lazy", "pictures")
    return bool(rest) and FLOOR_OF.get(rest[0], len(FLOORS)) < FLOOR_OF[room]


def modules(folder: str, package: str) -> dict[str, Path]:
    """Dotted name -> file of every module below `folder`."""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {_dotted(file.relative_to(ROOT / folder), package): file for file in files}


def _dotted(file: Path, package: str) -> str:
    return ".".join([package, *(part for part in file.with_suffix("").parts if part != "__init__")])


LIBRARY = modules("egt_tf", "egt_tf")
COMMANDS = modules("cli", "egt_tf_cli")


def test_every_module_has_a_floor():
    assert {name.split(".")[1] for name in LIBRARY if "." in name} <= set(FLOOR_OF)


@pytest.mark.parametrize("module", LIBRARY)
def test_imports_go_downwards(module):
    file = LIBRARY[module]
    assert violations(file.read_text(encoding="utf-8"), module, file.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import egt_tf_cli.main", "egt_tf.errors"),
        ("from cli import main", "egt_tf.training.guided_model"),
        ("from egt_tf.heads.layers import PairConcat", "egt_tf.lrp.linear_parts"),
        ("from egt_tf.heads.base import Head", "egt_tf.backbones.conv"),
        ("from egt_tf import explain", "egt_tf.heads.relation"),
        ("from egt_tf import LRP", "egt_tf.training.guided_model"),
        ("from ..explain import rules", "egt_tf.heads.relation"),
        ("from egt_tf.training import checkpoints", "egt_tf.evaluation.accuracy"),
        ("import egt_tf.training.checkpoints", "egt_tf.export.saved_model"),
        ("from egt_tf.export import saved_model", "egt_tf.evaluation.accuracy"),
        ("def f():\n    from egt_tf.training import guidance", "egt_tf.lrp.analyzer"),
        ("from egt_tf.registry import Registry", "egt_tf.config"),
        ("import egt_tf", "egt_tf.data.images"),
        ("from egt_tf.config import load_config", "egt_tf"),
    ],
)
def test_a_forbidden_import_is_found(source, module):
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("from egt_tf.errors import DataError", "egt_tf.data.images"),
        ("from . import images\nfrom .splits import read_splits", "egt_tf.data.sources"),
        ("from ..lrp import composites", "egt_tf.heads.lrp_rules"),
        ("from egt_tf.evaluation.accuracy import interval", "egt_tf.training.guided_model"),
        ("from egt_tf import __version__", "egt_tf.training.checkpoints"),
        ("from egt_tf.evaluation.accuracy import embed", "egt_tf.export.calibration"),
        ("from tensorflow import keras", "egt_tf.registry"),
    ],
)
def test_an_allowed_import_passes(source, module):
    assert violations(source, module) == []


# What the engine of relevance knows of the project.
BELOW_THE_ENGINE = ("environment", "errors", "keras_api", "keras_config", "registry", "tensors")
# What the rooms with layers of their own need, to tell the engine about them.
EXTENSION_POINTS = {
    "canonizers": ("fold_batch_norm", "register_foldable"),
    "composites": ("register_rule",),
    "linear_parts": ("LinearPart", "linear_parts", "normalization_part"),
    "plain_operations": ("Transposed", "plain_derivative"),
    "rules": (
        "PUBLISHED_EPSILON",
        "RULES",
        "ZENNIT_STABILIZER",
        "LayerState",
        "Pass",
        "Rule",
        "SparingRule",
        "Tensors",
        "divide",
        "stabilize",
    ),
}


def _imports(module: str) -> list[list[str]]:
    """The names that a module imports from the project, in parts, without "egt_tf"."""
    file = LIBRARY[module]
    names = imported_modules(file.read_text(encoding="utf-8"), module, file.name == "__init__.py")
    return [name.split(".")[1:] for name in names if name.startswith("egt_tf.")]


@pytest.mark.parametrize("module", [name for name in LIBRARY if name.startswith("egt_tf.lrp")])
def test_the_engine_knows_no_few_shot_model(module):
    assert {room for room, *_ in _imports(module)} <= {"lrp", *BELOW_THE_ENGINE}


@pytest.mark.parametrize(
    "module", [name for name in LIBRARY if name.split(".")[1:2] in (["backbones"], ["heads"], ["episodic_model"])]
)
def test_models_use_the_engine_to_extend_it_only(module):
    allowed = [["lrp", file, name] for file, names in EXTENSION_POINTS.items() for name in names]
    assert [name for name in _imports(module) if name[0] == "lrp" and name not in allowed] == []


@pytest.mark.parametrize("module", [*LIBRARY, *COMMANDS])
def test_keras_is_imported_from_tensorflow_only(module):
    source = {**LIBRARY, **COMMANDS}[module].read_text(encoding="utf-8")
    imports = list(imported_modules(source, module))
    assert [name for name in imports if name.split(".")[0] in ("keras", "tf_keras")] == []
    # `tensorflow.keras` as a module path is gone or Keras 3 in later versions; the attribute is not.
    assert [name for name in imports if name.startswith(("tensorflow.keras.", "tensorflow.python."))] == []


@pytest.mark.parametrize("module", COMMANDS)
def test_commands_import_their_siblings_relatively(module):
    tree = ast.parse(COMMANDS[module].read_text(encoding="utf-8"))
    absolute = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    assert [name for name in absolute if name.split(".")[0] in ("cli", "egt_tf_cli")] == []


def test_the_engine_alone_brings_no_models_along():
    code = (
        "import sys, egt_tf.lrp\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('egt_tf.')}\n"
        # `import egt_tf` comes before any room, and hands out its names by `egt_tf.lazy`.
        f"assert rooms <= {{'lrp', 'lazy', 'pictures', '__version__', *{BELOW_THE_ENGINE!r}}}, rooms\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr.splitlines()[-1]


def test_light_modules_do_not_import_tensorflow():
    code = (
        "import importlib, sys\n"
        f"for name in {[*WITHOUT_TENSORFLOW, *COMMANDS]!r}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'tensorflow' not in sys.modules, f'{name} imports TensorFlow'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr.splitlines()[-1]


def test_no_module_needs_posix_to_be_imported():
    # Of Python itself those that Windows lacks may be asked for, by modules that can do without.
    code = (
        "import importlib, sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Missing(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "for name in ('fcntl', 'grp', 'pwd', 'resource', 'termios'):\n"
        "    sys.modules.pop(name, None)\n"
        f"for name in {[name for name in (*LIBRARY, *COMMANDS) if name != 'egt_tf_cli.__main__']!r}:\n"
        "    importlib.import_module(name)\n"
        "import egt_tf, numpy as np\n"
        "keras = egt_tf.keras\n"
        "model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "assert egt_tf.LRP(model).analyze(np.ones((1, 3))).shape == (1, 3)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr.splitlines()[-1]
