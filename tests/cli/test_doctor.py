from __future__ import annotations

import json
import sys

import pytest

from egt_tf.doctor import self_test


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(self_test, "SECONDS_OF_STEPS", 0.1)


@pytest.mark.slow
def test_a_sound_machine(egt, tmp_path, no_network):
    result = egt("doctor")
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    header, *lines, last = result.stdout.splitlines()
    assert header.split() == ["state", "topic", "what", "found"]
    assert last == "all is well"
    assert {line.split()[1] for line in lines} == {
        "versions",
        "extras",
        "devices",
        "precision",
        "room",
        "cluster",
        "self-test",
    }
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_something_is_wrong(egt, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    result = egt("doctor", "--json")
    assert (result.exit_code, result.stderr) == (1, "")
    (wrong,) = [each for each in json.loads(result.stdout) if each["state"] == "wrong"]
    assert wrong["subject"] == "TF_CONFIG"
    assert wrong["advice"]


def test_a_package_that_cannot_be_imported(egt, monkeypatch):
    # None in its place makes Python refuse the import.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    result = egt("doctor")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "1 to put right: see the lines that begin with wrong"
    assert "cannot be imported" in result.stdout
    assert "not run" in result.stdout


def test_usage(egt):
    assert egt("doctor", "--jsn").exit_code == 2
