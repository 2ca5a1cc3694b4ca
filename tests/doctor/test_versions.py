from __future__ import annotations

import importlib.metadata

import pytest
from packaging.requirements import Requirement

from egt_tf.doctor import versions
from egt_tf.doctor.findings import State
from egt_tf.doctor.versions import examine_versions, extra_findings, python_finding, version_findings
from egt_tf.keras_api import LANE

OF_THE_LANE = {"classic": ("keras", "innvestigate"), "current": ("tf-keras",)}

REQUIREMENTS = [
    Requirement(line)
    for line in (
        "click>=8",
        "numpy<2,>=1.23",
        "matplotlib",
        'tensorflow-serving-api>=2.14; extra == "serving"',
        'scipy; extra == "data"',
        'opencv-python-headless; extra == "data"',
        'old; python_version < "3"',
    )
]


def test_what_is_as_needed():
    found = version_findings(REQUIREMENTS, {"click": "8.1", "numpy": "1.26.4", "matplotlib": "3.8"}.get)
    assert [(each.subject, each.state) for each in found] == [
        ("click", State.OK),
        ("numpy", State.OK),
        ("matplotlib", State.OK),
    ]
    assert found[1].found == "1.26.4 (<2,>=1.23)"
    assert found[1].advice == ""


@pytest.mark.parametrize(("version", "found"), [("2.0.1", "2.0.1, needed: <2,>=1.23"), (None, "not installed")])
def test_what_is_not_says_what_to_type(version, found):
    (_, numpy, _) = version_findings(REQUIREMENTS, {"click": "8.1", "numpy": version, "matplotlib": "3.8"}.get)
    assert (numpy.state, numpy.found, numpy.advice) == (State.WRONG, found, "pip install 'numpy<2,>=1.23'")


def test_extras_are_present_or_not_and_never_wrong():
    serving, data, other = extra_findings(
        ["serving", "data", "other"],
        REQUIREMENTS,
        {"tensorflow-serving-api": "2.13", "scipy": "1.1", "opencv-python-headless": "4"}.get,
    )
    assert (serving.state, serving.found) == (State.NOTE, "tensorflow-serving-api 2.13, needed: >=2.14")
    assert serving.advice == "pip install 'egt-tf[serving]', if you want it"
    assert (data.state, data.found, data.advice) == (State.OK, "installed", "")
    assert other.state is State.OK
    (missing,) = extra_findings(["data"], REQUIREMENTS, {"scipy": "1.1"}.get)
    assert missing.found == "opencv-python-headless not installed"


@pytest.mark.parametrize(("version", "state"), [("3.11.7", State.OK), ("3.12.0", State.WRONG), ("3.9.1", State.WRONG)])
def test_python(version, state):
    assert python_finding(version, ">=3.10,<3.12").state is state


def test_this_installation_is_sound():
    found = examine_versions()
    assert {"egt-tf", "python", "lane", "tensorflow", "numpy", "tensorflow-datasets", *OF_THE_LANE[LANE]} <= {
        each.subject for each in found
    }
    assert [each for each in found if each.state is State.WRONG] == []


def test_a_checkout_that_is_not_installed(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions.importlib.metadata, "metadata", missing)
    (found,) = examine_versions()
    assert found.state is State.NOTE
    assert "not installed" in found.found
    assert found.advice == "pip install ."
