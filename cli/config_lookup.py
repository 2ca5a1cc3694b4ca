"""Finds a configuration by its path or by the name of one that comes with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from egt_tf.errors import ConfigError, did_you_mean


def find_config(name_or_path: str) -> Path:
    """The file of a configuration: an existing file wins, then a packaged name ("demo", "demo.yaml").

    Raises:
        ConfigError: neither a file nor a known name; the known names are listed.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    packaged = packaged_configs()
    name = name_or_path.removesuffix(".yaml")
    # Only a look-up among listed names, never a joined path: no name can lead out of the package.
    if name in packaged:
        return packaged[name]
    hint = did_you_mean(name, packaged)
    raise ConfigError(
        f"a configuration must be a YAML file or one of {', '.join(packaged)}. Received: {name_or_path!r}{hint}"
    )


def packaged_configs() -> dict[str, Path]:
    """Name without ".yaml" -> file, sorted by name; names in sub-folders are written with "/"."""
    folder = Path(str(resources.files("egt_tf_configs")))
    files = sorted(folder.rglob("*.yaml"))
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
