"""What TensorFlow says of a request that a graph refused, as one line; without TensorFlow."""

from __future__ import annotations

import re


def refusal(text: str) -> str:
    """The part of TensorFlow's message that says what is wrong with a request.

    Args:
        text: the message of an error, or that of a server, with the nodes and stack traces it may hold.

    Returns:
        One line; of a check of this package's graphs only the check's own words.
    """
    found = re.search(r"assertion failed: (.*)", text)
    if found:
        # Every part of a message of ours is in brackets of its own; a server may put the node's name behind them.
        words = re.sub(r"\s*\[\[\{\{node .*$", "", found.group(1))
        return words.replace("] [", " ").removeprefix("[").removesuffix("]").strip()
    return re.sub(r"^.*Invalid", "Invalid", first_line(re.sub(r"(?s)^.*<stack traces unavailable>", "", text)))


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")
