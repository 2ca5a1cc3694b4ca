"""Where and how a run was made, and whether the installed packages fit each other."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

PACKAGES = (
    "egt-tf",
    "tensorflow",
    "keras",
    "tf-keras",
    "innvestigate",
    "tensorflow-datasets",
    "numpy",
    "click",
    "pillow",
)

# TensorFlow is released under these names too.
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel")
# The first that this package works with.
_OLDEST = (2, 14)
# From it on, TensorFlow's own Keras is Keras 3.
_KERAS_3_FROM = (2, 16)
# The first that is built for NumPy 2.
_NUMPY_2_FROM = (2, 18)

# The last that TensorFlow is released for.
_NEWEST_PYTHON = (3, 13)

VersionOf = Callable[[str], str | None]


def environment() -> dict[str, Any]:
    """Versions of the packages, platform, command and time, as JSON types."""
    return {
        "packages": {name: installed_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def made_by() -> str:
    """This package, TensorFlow and the Keras in use with their versions, for the cards of models.

    Example:
        >>> made_by().split(" ")[0]
        'egt-tf'
    """
    keras = "keras" if lane(tensorflow_version() or "0.0") == "classic" else "tf-keras"
    versions = {
        "egt-tf": installed_version("egt-tf"),
        "tensorflow": tensorflow_version(),
        keras: installed_version(keras),
    }
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def tensorflow_version(version_of: VersionOf = installed_version) -> str | None:
    """The version of TensorFlow, whichever of its distributions is installed, or None."""
    return next((version for version in map(version_of, _TENSORFLOWS) if version), None)


def lane(tensorflow: str) -> str:
    """Which of the two sets of packages a version of TensorFlow belongs to.

    Args:
        tensorflow: its version.

    Returns:
        "classic" before 2.16, with `tensorflow.keras` and innvestigate; else "current", with `tf_keras`.

    Example:
        >>> lane("2.14.1"), lane("2.21.0")
        ('classic', 'current')
    """
    return "classic" if _minor(tensorflow) < _KERAS_3_FROM else "current"


def check_environment(
    version_of: VersionOf = installed_version, python: tuple[int, int] = sys.version_info[:2]
) -> None:
    """Refuses packages that do not fit each other, by their versions alone: nothing is imported for it.

    What is not installed at all is no misfit, except Keras 2 beside a TensorFlow that has Keras 3.

    Args:
        version_of: name of a distribution -> its version, or None.
        python: its version.

    Raises:
        ImportError: TensorFlow, Keras and NumPy do not belong together, or there is no TensorFlow for this Python; one
            line that ends with what mends it. Its `name` is "egt_tf".

    Example:
        >>> check_environment({"tensorflow": "2.21.0", "tf-keras": "2.21.0", "numpy": "2.5.0"}.get)
    """
    if python > _NEWEST_PYTHON and tensorflow_version(version_of) is None:
        raise ImportError(
            "egt-tf needs Python 3.10 to 3.13, for which there are releases of TensorFlow. Received: Python "
            f"{'.'.join(map(str, python))}; make an environment with one of those",
            name="egt_tf",
        )
    misfits = _misfits(version_of)
    if misfits:
        needed = " ".join(f"'{requirement}'" for _, requirement in misfits)
        raise ImportError(
            "TensorFlow, Keras and NumPy must be of versions that fit each other. Received: "
            f"{', '.join(reason for reason, _ in misfits)}; pip install {needed}",
            name="egt_tf",
        )


def _misfits(version_of: VersionOf) -> list[tuple[str, str]]:
    """What does not fit, and what pip must install instead."""
    tensorflow = tensorflow_version(version_of)
    if tensorflow is None:
        return []
    if _minor(tensorflow) < _OLDEST:
        return [(f"tensorflow {tensorflow}, older than 2.14", "tensorflow>=2.14,<2.15")]
    keras, tf_keras, numpy = map(version_of, ("keras", "tf-keras", "numpy"))
    found = []
    if lane(tensorflow) == "classic":
        if keras and _minor(keras) != _minor(tensorflow):
            found.append((f"keras {keras} with tensorflow {tensorflow}", _of_minor("keras", tensorflow)))
    elif tf_keras is None:
        found.append(
            (f"tensorflow {tensorflow}, whose Keras is Keras 3, without tf-keras", _of_minor("tf-keras", tensorflow))
        )
    elif _minor(tf_keras) != _minor(tensorflow):
        found.append((f"tf-keras {tf_keras} with tensorflow {tensorflow}", _of_minor("tf-keras", tensorflow)))
    if numpy and _minor(numpy) >= (2, 0) and _minor(tensorflow) < _NUMPY_2_FROM:
        found.append((f"numpy {numpy} with tensorflow {tensorflow}, which is built for NumPy 1", "numpy<2"))
    return found


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _of_minor(package: str, version: str) -> str:
    """A requirement of the same minor version."""
    major, minor = _minor(version)
    return f"{package}>={major}.{minor},<{major}.{minor + 1}"
