"""What an examination of the machine finds."""

from __future__ import annotations

import dataclasses
import enum


class State(str, enum.Enum):
    """Whether a finding asks for something to be done.

    Example:
        >>> State("wrong") is State.WRONG
        True
    """

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclasses.dataclass(frozen=True)
class MachineFinding:
    """One thing that was looked at.

    Attributes:
        topic: "versions", "extras", "devices", "precision", "room", "cluster" or "self-test".
        subject: what was looked at ("numpy").
        found: what it is like ("1.26.4, as needed: >=1.23,<2").
        state: `WRONG` must be put right before a training; `NOTE` may be.
        advice: what to do then; empty if there is nothing to do.

    Example:
        >>> MachineFinding("devices", "CPU", "2 cores").state.value
        'ok'
    """

    topic: str
    subject: str
    found: str
    state: State = State.OK
    advice: str = ""
