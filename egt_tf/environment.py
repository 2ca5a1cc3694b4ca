"""Where and how a run was made."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
import time
from typing import Any

PACKAGES = ("egt-tf", "tensorflow", "keras", "innvestigate", "tensorflow-datasets", "numpy", "click", "pillow")


def environment() -> dict[str, Any]:
    """Versions of the packages, platform, command and time, as JSON types."""
    return {
        "packages": {name: installed_version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
