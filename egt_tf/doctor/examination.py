"""Everything the doctor looks at, in the order it is told."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

from egt_tf.doctor.findings import MachineFinding, State
from egt_tf.doctor.machine import (
    available_memory,
    cpu_flags,
    examine_cluster,
    examine_devices,
    examine_precision,
    examine_room,
    installed_gpus,
)
from egt_tf.doctor.versions import examine_versions, installed_lane

# Installed in the right version, they can still fail to be imported: a library that does not fit beneath them.
IMPORTED = {
    "classic": ("tensorflow", "innvestigate", "tensorflow_datasets"),
    "current": ("tensorflow", "tf_keras", "tensorflow_datasets"),
}


def examine() -> list[MachineFinding]:
    """Examines the machine; without TensorFlow, as far as that goes. Nothing is downloaded or written.

    Example:
        >>> {"versions", "devices", "room", "cluster", "self-test"} <= {finding.topic for finding in examine()}
        True
    """
    findings = examine_versions()
    failures = [finding for finding in map(_import_failure, IMPORTED[installed_lane()]) if finding]
    installed = installed_gpus()
    around = [*examine_room(Path.cwd(), available_memory()), *examine_cluster(os.environ)]
    if failures:
        return [
            *findings,
            *failures,
            *examine_devices(installed, installed),
            *examine_precision(installed, cpu_flags()),
            *around,
            MachineFinding("self-test", "all devices", "not run", State.NOTE, "first put right what is wrong above"),
        ]
    # It imports TensorFlow.
    from egt_tf.doctor.self_test import examine_steps, visible_gpus

    visible = visible_gpus(installed)
    return [
        *findings,
        *examine_devices(visible, installed),
        *examine_precision(visible, cpu_flags()),
        *around,
        *examine_steps(),
    ]


def _import_failure(module: str) -> MachineFinding | None:
    try:
        importlib.import_module(module)
    # A broken installation raises anything.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return MachineFinding(
            "versions",
            module,
            f"cannot be imported: {reason}",
            State.WRONG,
            "install this package into a new environment: pip install .",
        )
    return None
