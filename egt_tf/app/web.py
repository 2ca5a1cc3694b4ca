"""Gradio, which is an extra, and the port: what is found out before TensorFlow is imported."""

from __future__ import annotations

import os
import socket
from types import ModuleType
from typing import Any

from egt_tf.errors import ConfigError

HOST = "127.0.0.1"


def import_gradio() -> ModuleType:
    """Gradio, told to ask nobody outside.

    Raises:
        ConfigError: it is not installed, or an older one.
    """
    # Read when it is imported.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    # It asks itself whether it answers, which must not go by a proxy.
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), HOST]))
    try:
        import gradio
    except ImportError as error:
        raise ConfigError("the page takes Gradio; install it: pip install 'egt-tf[app]'") from error
    if int(gradio.__version__.split(".")[0]) != 6:
        raise ConfigError(
            f"the page takes Gradio 6. Received: {gradio.__version__}; install it: pip install 'egt-tf[app]'"
        )
    return gradio


def check_port(port: int) -> None:
    """Checks that a page can be served on a port of this machine.

    Raises:
        ConfigError: another program has it, or it may not be taken.
    """
    with socket.socket() as probe:
        if os.name == "posix":
            # A page that ended a moment ago keeps its port for a minute otherwise.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"the port must be one that can be taken. Received: {port} ({error.strerror}); name another by --port"
            ) from error


def own_hosts_only() -> Any:
    """For the server: requests under other names are refused, so that no site can have its name lead here."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    return Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
