"""The installed packages against what this one requires; neither TensorFlow nor anything else is imported for it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from egt_tf import __version__
from egt_tf.doctor.findings import MachineFinding, State
from egt_tf.environment import VersionOf, installed_version, lane, tensorflow_version

DISTRIBUTION = "egt-tf"
# What a marker such as `extra == "test"` is compared with where no extra is asked for.
WITHOUT_EXTRA = ""
# The oldest Python whose requirements are those of the current lane; older ones may have that lane too.
CURRENT_PYTHON = "3.12"
LANES = {
    "classic": "TensorFlow's own Keras, and innvestigate",
    "current": "tf-keras beside TensorFlow; innvestigate's own analyzers need TensorFlow 2.14",
}


def installed_lane() -> str:
    """The lane of the TensorFlow that is installed, or of the one that this Python would get."""
    version = tensorflow_version()
    if version is None:
        return "current" if SpecifierSet(f">={CURRENT_PYTHON}").contains(platform.python_version()) else "classic"
    return lane(version)


def examine_versions() -> list[MachineFinding]:
    """Python, this package, the lane, what it requires, and its extras."""
    try:
        metadata = importlib.metadata.metadata(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return [
            MachineFinding(
                "versions",
                DISTRIBUTION,
                f"{__version__}, not installed: which versions it needs is not known",
                State.NOTE,
                "pip install .",
            )
        ]
    requirements = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ()]
    return [
        MachineFinding("versions", DISTRIBUTION, __version__),
        python_finding(platform.python_version(), metadata["Requires-Python"] or ""),
        MachineFinding("versions", "lane", f"{installed_lane()}: {LANES[installed_lane()]}"),
        *version_findings(requirements, installed_version),
        *extra_findings(metadata.get_all("Provides-Extra") or (), requirements, installed_version),
    ]


def python_finding(version: str, needed: str) -> MachineFinding:
    """Whether this Python will do.

    Args:
        version: of Python.
        needed: a specifier such as ">=3.10,<3.12".
    """
    if SpecifierSet(needed).contains(version, prereleases=True):
        return MachineFinding("versions", "python", _as_needed(version, needed))
    return MachineFinding(
        "versions", "python", f"{version}, needed: {needed}", State.WRONG, f"make an environment with a Python {needed}"
    )


def version_findings(requirements: Iterable[Requirement], version_of: VersionOf) -> list[MachineFinding]:
    """One finding for each requirement that counts without any extra."""
    return [
        _requirement_finding("versions", each, version_of, State.WRONG)
        for each in _applying(requirements, WITHOUT_EXTRA)
    ]


def extra_findings(
    extras: Iterable[str], requirements: Iterable[Requirement], version_of: VersionOf
) -> list[MachineFinding]:
    """One finding for each extra; a missing one is no fault."""
    requirements = list(requirements)
    without = {str(each) for each in _applying(requirements, WITHOUT_EXTRA)}
    findings = []
    for extra in extras:
        needed = [each for each in _applying(requirements, extra) if str(each) not in without]
        found = [_requirement_finding("extras", each, version_of, State.NOTE) for each in needed]
        wanting = [f"{each.subject} {each.found}" for each in found if each.state is not State.OK]
        findings.append(
            MachineFinding(
                "extras",
                extra,
                "; ".join(wanting) or "installed",
                State.NOTE if wanting else State.OK,
                f"pip install '{DISTRIBUTION}[{extra}]', if you want it" if wanting else "",
            )
        )
    return findings


def _applying(requirements: Iterable[Requirement], extra: str) -> list[Requirement]:
    around = {"extra": extra}
    if installed_lane() == "current" and SpecifierSet(f"<{CURRENT_PYTHON}").contains(platform.python_version()):
        around["python_version"] = CURRENT_PYTHON
    return [each for each in requirements if each.marker is None or each.marker.evaluate(around)]


def _requirement_finding(topic: str, requirement: Requirement, version_of: VersionOf, fault: State) -> MachineFinding:
    version, needed = version_of(requirement.name), str(requirement.specifier)
    advice = f"pip install '{requirement.name}{needed}'"
    if version is None:
        return MachineFinding(topic, requirement.name, "not installed", fault, advice)
    if not requirement.specifier.contains(version, prereleases=True):
        return MachineFinding(topic, requirement.name, f"{version}, needed: {needed}", fault, advice)
    return MachineFinding(topic, requirement.name, _as_needed(version, needed))


def _as_needed(version: str, needed: str) -> str:
    return f"{version} ({needed})" if needed else version
