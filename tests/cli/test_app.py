"""egt-tf app: what is wrong with a call is said in a line, before anything is served."""

from __future__ import annotations

import socket
import sys
import types

import pytest


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_without_gradio_it_says_what_to_install(egt, monkeypatch, free_port):
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = egt("app", "--port", free_port)
    assert result.exit_code == 2
    assert result.stderr == "Error: the page takes Gradio; install it: pip install 'egt-tf[app]'\n"


def test_another_gradio_is_refused(egt, monkeypatch, free_port):
    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="5.49.1"))
    result = egt("app", "--port", free_port)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: the page takes Gradio 6. Received: 5.49.1")


def test_a_busy_port_is_a_line(egt):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = egt("app", "--port", port)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: the port must be one that can be taken. Received: {port} (")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("port", ["0", "65536", "web"])
def test_a_port_that_is_none_is_refused(egt, port):
    result = egt("app", "--port", port)
    assert result.exit_code == 2
    assert "--port" in result.stderr


def test_a_model_that_is_not_there_is_a_line(egt, tmp_path):
    result = egt("app", "--model", tmp_path / "none")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path / 'none'} must be an exported model")


def test_a_model_that_was_not_learnt_from_photos_is_refused(egt, monkeypatch, free_port):
    from egt_tf_cli.bundled import bundled_model

    monkeypatch.setitem(sys.modules, "gradio", types.SimpleNamespace(__version__="6.31.0"))
    result = egt("app", "--model", bundled_model(), "--port", free_port)
    assert result.exit_code == 2
    assert "must be a model of `egt-tf learn`" in result.stderr
