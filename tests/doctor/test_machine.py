from __future__ import annotations

import json

import pytest

from egt_tf.doctor import machine
from egt_tf.doctor.findings import State
from egt_tf.doctor.machine import (
    GIB,
    Gpu,
    available_memory,
    cpu_flags,
    examine_cluster,
    examine_devices,
    examine_precision,
    examine_room,
    installed_gpus,
    parse_gpus,
)

H100 = Gpu("NVIDIA H100", (9, 0), 80 * GIB)


def test_what_the_driver_says():
    text = "NVIDIA H100 80GB HBM3, 9.0, 81559\nTesla V100, 7.0, [N/A]\nQuadro, [N/A], 4096\nOdd\n"
    assert parse_gpus(text) == [
        Gpu("NVIDIA H100 80GB HBM3", (9, 0), 81559 * 2**20),
        Gpu("Tesla V100", (7, 0)),
        Gpu("Quadro", None, GIB * 4),
        Gpu("Odd"),
    ]
    assert parse_gpus("") == []


def test_a_machine_without_a_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_gpus() == []


@pytest.mark.parametrize(("script", "gpus"), [("echo 'Card, 8.6, 1024'", [Gpu("Card", (8, 6), GIB)]), ("exit 9", [])])
def test_a_driver_that_answers_or_fails(monkeypatch, tmp_path, script, gpus):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_gpus() == gpus


def test_devices(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    cpu, none = examine_devices([], [])
    assert cpu.found.split()[1].startswith("core")
    assert (none.state, none.found[:4]) == (State.OK, "none")
    _, card = examine_devices([H100], [H100])
    assert (card.subject, card.found) == ("GPU 0", "NVIDIA H100, 80 GiB, compute capability 9.0")
    *_, lost = examine_devices([], [H100])
    assert lost.state is State.WRONG
    assert "tensorflow[and-cuda]" in lost.advice
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert all(each.state is State.OK for each in examine_devices([], [H100]))


def test_number_formats():
    found = examine_precision([H100, Gpu("V100", (7, 0)), Gpu("old", (6, 1)), Gpu("odd")], ["avx2", "amx_bf16"])
    assert [each.found for each in found] == [
        "has units for float32, bfloat16; float16 works, but gains nothing",
        "has units for float32, float16, bfloat16",
        "has units for float32, float16; bfloat16 works, but gains nothing",
        "has units for float32; float16 and bfloat16 work, but gain nothing",
        "not known",
    ]


def test_flags_of_the_processor(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert cpu_flags(file) == {"fpu", "avx2", "avx512_bf16"}
    assert cpu_flags(tmp_path / "none") == frozenset()


def test_memory_within_the_limit_of_a_container(tmp_path):
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    assert available_memory(file, tmp_path) == 8 * GIB
    (tmp_path / "memory.current").write_text(str(GIB))
    for limit, free in ((str(3 * GIB), 2 * GIB), ("max", 8 * GIB), (str(GIB // 2), 0)):
        (tmp_path / "memory.max").write_text(limit)
        assert available_memory(file, tmp_path) == free
    file.write_text("odd")
    assert available_memory(file, tmp_path) is None


@pytest.mark.parametrize(
    ("memory", "state"), [(None, State.OK), (8 * GIB, State.OK), (2 * GIB, State.NOTE), (GIB // 2, State.WRONG)]
)
def test_room(tmp_path, memory, state):
    found = {each.subject: each for each in examine_room(tmp_path, memory)}
    assert found["memory"].state is state
    assert bool(found["memory"].advice) == (state is not State.OK)
    assert found["disk"].found.endswith("GiB available")
    assert "current folder" not in found


def test_a_full_disk_and_a_folder_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: machine.shutil._ntuple_diskusage(10, 10, 0))
    monkeypatch.setattr(machine.os, "access", lambda path, mode: False)
    found = examine_room(tmp_path, 8 * GIB)
    assert [each.state for each in found] == [State.OK, State.WRONG, State.WRONG]
    assert str(tmp_path) in found[2].found


WORKERS = ["a:1", "b:2"]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "must be JSON"),
        ("[]", "must be a JSON object"),
        (
            {"cluster": {"worker": WORKERS}},
            "the task in TF_CONFIG must be a worker of its cluster, counted from 0. Received: None",
        ),
        ("{}", "to name the workers"),
        (
            {"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}},
            "must list the addresses of its workers. Received: {'worker': 'a:1'}",
        ),
        (
            {"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}},
            "must have different addresses HOST:PORT. Received: 'a'",
        ),
        (
            {"cluster": {"worker": ["a:99999"]}, "task": {"type": "worker", "index": 0}},
            "HOST:PORT. Received: 'a:99999'",
        ),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}, "Received: 'a:1' twice"),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "chief", "index": 0}},
            "must be a worker of its cluster, counted from 0. Received: {'type': 'chief', 'index': 0}",
        ),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 2}},
            "Received: {'type': 'worker', 'index': 2}",
        ),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": "0"}},
            "Received: {'type': 'worker', 'index': '0'}",
        ),
        (
            {"cluster": {"worker": WORKERS}, "task": {"type": ["worker"], "index": 0}},
            "Received: {'type': ['worker'], 'index': 0}",
        ),
    ],
)
def test_a_cluster_that_cannot_start(config, words):
    (found,) = examine_cluster({"TF_CONFIG": config if isinstance(config, str) else json.dumps(config)})
    assert found.state is State.WRONG
    assert words in found.found
    assert "HOST:PORT" in found.advice


def test_a_cluster_that_can_and_none():
    config = {"cluster": {"worker": WORKERS}, "task": {"type": "worker", "index": 1}}
    (found,) = examine_cluster({"TF_CONFIG": json.dumps(config)})
    assert (found.state, found.found) == (State.OK, "worker 1 of 2")
    assert examine_cluster({})[0].found == "not set: one machine"
