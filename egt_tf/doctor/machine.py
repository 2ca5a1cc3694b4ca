"""What the machine has to compute with: cores, graphics cards, number formats, memory, disk, a cluster."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from egt_tf.doctor.findings import MachineFinding, State
from egt_tf.environment import tensorflow_version
from egt_tf.errors import ConfigError
from egt_tf.training.cluster import VARIABLE, read_cluster

GIB = 2**30
# Below the first a training of the smallest configuration is not sure to fit; below the second a usual one is not.
LEAST_MEMORY, ENOUGH_MEMORY = 1 * GIB, 4 * GIB
LEAST_DISK, ENOUGH_DISK = GIB // 4, 2 * GIB
# Compute capabilities from which NVIDIA cards multiply matrices of these numbers in units of their own.
FAST_FLOAT16, FAST_BFLOAT16 = (7, 0), (8, 0)
# Flags of Linux for processors that do the same.
CPU_FLAGS = {"float16": ("avx512_fp16", "amx_fp16"), "bfloat16": ("avx512_bf16", "amx_bf16")}
_PATIENCE = 5.0


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A graphics card.

    Attributes:
        name: of the model.
        capability: compute capability, such as (9, 0); None if it is not known.
        memory: bytes, or None.
    """

    name: str
    capability: tuple[int, int] | None = None
    memory: int | None = None


def installed_gpus() -> list[Gpu]:
    """The cards that NVIDIA's driver knows, whether or not TensorFlow can use them; none without a driver."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> list[Gpu]:
    """Lines such as "NVIDIA H100, 9.0, 81559" (MiB); what is no number there is not known."""
    gpus = []
    for line in filter(None, text.splitlines()):
        name, capability, memory = (part.strip() for part in (*line.split(","), "", "")[:3])
        major, _, minor = capability.partition(".")
        known = major.isdecimal() and minor.isdecimal()
        gpus.append(
            Gpu(name, (int(major), int(minor)) if known else None, int(memory) * 2**20 if memory.isdecimal() else None)
        )
    return gpus


def examine_devices(visible: Sequence[Gpu], installed: Sequence[Gpu]) -> list[MachineFinding]:
    """Cores and cards.

    Args:
        visible: cards that TensorFlow can use.
        installed: cards that the driver knows.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    findings = [MachineFinding("devices", "CPU", f"{cores} core{'s' if cores > 1 else ''}")]
    findings += [MachineFinding("devices", f"GPU {number}", _described(gpu)) for number, gpu in enumerate(visible)]
    if len(installed) > len(visible) and os.environ.get("CUDA_VISIBLE_DEVICES") is None:
        findings.append(
            MachineFinding(
                "devices",
                "GPU",
                f"the driver knows {len(installed)}, TensorFlow can use {len(visible)}",
                State.WRONG,
                f"pip install 'tensorflow[and-cuda]=={tensorflow_version()}', or set CUDA_VISIBLE_DEVICES to do without",
            )
        )
    elif not visible:
        findings.append(MachineFinding("devices", "GPU", "none; training is on the CPU"))
    return findings


def examine_precision(visible: Sequence[Gpu], cpu_flags: Collection[str]) -> list[MachineFinding]:
    """Which number formats a device has units for; the others work, but are no faster than float32 or slower.

    Args:
        visible: cards that TensorFlow can use.
        cpu_flags: what the processor can do, in the words of Linux.
    """
    cpu = [name for name, flags in CPU_FLAGS.items() if not set(flags).isdisjoint(cpu_flags)]
    findings = [MachineFinding("precision", "CPU", _formats(cpu))]
    for number, gpu in enumerate(visible):
        if gpu.capability is None:
            findings.append(MachineFinding("precision", f"GPU {number}", "not known"))
        else:
            fast = [
                name
                for name, least in (("float16", FAST_FLOAT16), ("bfloat16", FAST_BFLOAT16))
                if gpu.capability >= least
            ]
            findings.append(MachineFinding("precision", f"GPU {number}", _formats(fast)))
    return findings


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """What the first processor can do; nothing where it cannot be asked."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that a process may still take, within the limit of a container; None where it cannot be asked."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        return None
    try:
        limit, used = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        # No container, or one without a limit ("max").
        return free
    return min(free, max(limit - used, 0))


def examine_room(folder: Path, memory: int | None) -> list[MachineFinding]:
    """Memory, and the disk that run folders are written to.

    Args:
        folder: the current one.
        memory: bytes that are available, or None.
    """
    findings = [
        MachineFinding("room", "memory", "not known")
        if memory is None
        else _room("memory", memory, LEAST_MEMORY, ENOUGH_MEMORY, "end other programs, or use smaller images")
    ]
    disk = shutil.disk_usage(folder).free
    findings.append(_room("disk", disk, LEAST_DISK, ENOUGH_DISK, f"make room on the disk of {folder}"))
    if not os.access(folder, os.W_OK | os.X_OK):
        findings.append(
            MachineFinding(
                "room",
                "current folder",
                f"{folder} cannot be written",
                State.WRONG,
                "change to a folder of yours, or name run folders elsewhere (--run)",
            )
        )
    return findings


def examine_cluster(environment: Mapping[str, str]) -> list[MachineFinding]:
    """TF_CONFIG, which tells the workers of a distributed training from each other.

    Args:
        environment: variables of the process.
    """
    if not environment.get(VARIABLE):
        return [MachineFinding("cluster", VARIABLE, "not set: one machine")]
    try:
        cluster = read_cluster(environment)
        cluster.check()
    except ConfigError as error:
        advice = (
            'set it to {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}, the '
            "index another one on each machine, or unset it"
        )
        return [MachineFinding("cluster", VARIABLE, str(error), State.WRONG, advice)]
    return [MachineFinding("cluster", VARIABLE, cluster.description)]


def _room(subject: str, free: int, least: int, enough: int, advice: str) -> MachineFinding:
    state = State.WRONG if free < least else State.NOTE if free < enough else State.OK
    return MachineFinding(
        "room", subject, f"{free / GIB:.1f} GiB available", state, "" if state is State.OK else advice
    )


def _described(gpu: Gpu) -> str:
    parts = [gpu.name]
    parts += [] if gpu.memory is None else [f"{gpu.memory / GIB:.0f} GiB"]
    parts += [] if gpu.capability is None else [f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"]
    return ", ".join(parts)


def _formats(formats: Sequence[str]) -> str:
    others = [name for name in CPU_FLAGS if name not in formats]
    gains = {0: "", 1: f"; {''.join(others)} works, but gains nothing"}
    return f"has units for {', '.join(('float32', *formats))}" + gains.get(
        len(others), f"; {' and '.join(others)} work, but gain nothing"
    )
