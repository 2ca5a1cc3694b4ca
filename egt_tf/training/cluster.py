"""The machines of a distributed training, as the environment variable TF_CONFIG names them; without TensorFlow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from egt_tf.errors import ConfigError

VARIABLE = "TF_CONFIG"
EXAMPLE = '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
# The jobs that train in step with each other; the first one listed holds the chief.
JOBS = ("chief", "worker")


@dataclasses.dataclass(frozen=True)
class Cluster:
    """What TF_CONFIG says.

    Attributes:
        addresses: "HOST:PORT" of the machines that train in step, by their job ("chief", "worker").
        task: which of them this process is; checked by `check`.

    Example:
        >>> cluster = read_cluster({"TF_CONFIG": EXAMPLE})
        >>> cluster.workers
        ('host1:2222', 'host2:2222')
        >>> cluster.check()
        >>> cluster.description
        'worker 0 of 2'
    """

    addresses: Mapping[str, tuple[Any, ...]]
    task: Any = None

    @property
    def workers(self) -> tuple[Any, ...]:
        """The addresses of all machines that train in step."""
        return tuple(address for job in JOBS for address in self.addresses.get(job, ()))

    @property
    def description(self) -> str:
        """Which machine this process is, for a cluster that `check` accepts."""
        return f"{self.task['type']} {self.task['index']} of {len(self.addresses[self.task['type']])}"

    def check(self) -> None:
        """Checks that this process can train as one of several workers.

        Raises:
            ConfigError: there are no workers, an address is no HOST:PORT or occurs twice, or the task is none of them.
        """
        if not self.workers:
            raise ConfigError(
                f"`training.strategy` multiworker needs the environment variable {VARIABLE} to name the workers, as "
                f"{EXAMPLE}. Received: none"
            )
        for number, address in enumerate(self.workers):
            if not _is_address(address) or address in self.workers[:number]:
                raise ConfigError(
                    f"the workers in {VARIABLE} must have different addresses HOST:PORT. Received: {address!r}"
                    + (" twice" if _is_address(address) else "")
                )
        job, index = (self.task.get(key) if isinstance(self.task, dict) else None for key in ("type", "index"))
        members = self.addresses.get(job, ()) if isinstance(job, str) else ()
        if type(index) is not int or not 0 <= index < len(members):
            raise ConfigError(
                f"the task in {VARIABLE} must be a worker of its cluster, counted from 0. Received: {self.task!r}"
            )


def read_cluster(environment: Mapping[str, str]) -> Cluster:
    """What TF_CONFIG says; a cluster of no workers where it is not set or names none.

    Args:
        environment: variables of the process.

    Raises:
        ConfigError: it is no JSON object, or its workers are no lists.

    Example:
        >>> read_cluster({}).workers
        ()
    """
    text = environment.get(VARIABLE) or "{}"
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE} must be JSON ({error}). Received: {text!r}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{VARIABLE} must be a JSON object. Received: {text!r}")
    jobs = content.get("cluster", {})
    lists: dict[str, list[Any]] = {job: jobs[job] for job in JOBS if job in jobs} if isinstance(jobs, dict) else {}
    if not isinstance(jobs, dict) or not all(isinstance(addresses, list) for addresses in lists.values()):
        raise ConfigError(f"the cluster in {VARIABLE} must list the addresses of its workers. Received: {jobs!r}")
    return Cluster({job: tuple(addresses) for job, addresses in lists.items()}, content.get("task"))


def _is_address(address: Any) -> bool:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16
