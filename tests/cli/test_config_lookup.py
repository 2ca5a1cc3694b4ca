from __future__ import annotations

import pytest

from egt_tf.config import load_config
from egt_tf.errors import ConfigError
from egt_tf_cli.run_options import find_config, packaged_configs, packaged_studies


def test_a_packaged_name_with_and_without_suffix():
    assert find_config("demo") == find_config("demo.yaml") == packaged_configs()["demo"]
    assert find_config("demo").is_file()


def test_an_existing_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text("training: {epochs: 1}")
    assert find_config("demo.yaml").resolve() == tmp_path / "demo.yaml"


def test_a_folder_of_the_same_name_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert find_config("demo") == packaged_configs()["demo"]


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ConfigError, match=r"one of .*demo, .* Received: 'dmeo'; did you mean 'demo'\?"):
        find_config("dmeo")


@pytest.mark.parametrize("name", ["", "../setup", "../configs/demo", "/demo", "./demo", "__init__", "."])
def test_no_name_leads_out_of_the_package(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        find_config(name)


@pytest.mark.parametrize("name", packaged_configs())
def test_packaged_configurations_load_and_say_what_they_give(name):
    path = find_config(name)
    load_config(path)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
    assert header[0].startswith(f"# egt-tf train --config {name} ")
    assert header[1].startswith("# Cost: ")
    assert header[2].startswith("# Expect: ")


def test_plans_of_studies_are_no_configurations_of_runs():
    assert find_config("studies/guidance_core", study=True) == packaged_studies()["studies/guidance_core"]
    with pytest.raises(ConfigError, match="a configuration must be a YAML file or one of"):
        find_config("studies/guidance_core")
    with pytest.raises(ConfigError, match=r"the plan of a study must be .*did you mean 'studies/guidance_core'"):
        find_config("studies/guidance_cor", study=True)


@pytest.mark.parametrize("name", packaged_studies())
def test_packaged_plans_say_how_they_are_run(name):
    lines = find_config(name, study=True).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# egt-tf study {name} ")
