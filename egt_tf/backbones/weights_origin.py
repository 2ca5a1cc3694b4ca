"""Where the weights come from that a backbone starts with: what model cards and NOTICE say of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from egt_tf.backbones.base import BACKBONES
from egt_tf.backbones.efficientnet_lite import WEIGHT_PACKAGES


def weights_origin(spec: str | Mapping[str, Any]) -> str | None:
    """A sentence on the published weights that a backbone starts with, in Markdown.

    Args:
        spec: as for `build_backbone`.

    Returns:
        Who trained them on what, who converted them, licence, version and checksum, as far as that is known; None for
        initial ones.

    Raises:
        ConfigError: an unknown backbone.

    Example:
        >>> weights_origin("conv4"), weights_origin({"name": "efficientnet_lite0", "weights": "none"})
        (None, None)
        >>> weights_origin("keras:models/mine.keras")
        'of the file `models/mine.keras`; what they were trained on, and their licence, is for its user to know'
    """
    arguments: Mapping[str, Any] = {"name": spec} if isinstance(spec, str) else spec
    name = arguments["name"]
    # For the error about a name that is none.
    parameters = inspect.signature(BACKBONES.member(name)).parameters
    family, _, rest = name.partition(":")
    if family == "keras":
        return _of_file(rest)
    weights = arguments.get("weights", parameters["weights"].default if "weights" in parameters else "none")
    if weights == "none":
        return None
    if name in WEIGHT_PACKAGES:
        return WEIGHT_PACKAGES[name].origin
    if family == "applications":
        return f"ImageNet, as `keras.applications.{rest}` downloads them; their licence is that of their authors"
    return _of_file(str(weights))


def _of_file(path: str) -> str:
    return f"of the file `{path}`; what they were trained on, and their licence, is for its user to know"
