from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from egt_tf.config import (
    AUGMENTATIONS,
    ChallengerConfig,
    EpisodeConfig,
    GuidanceConfig,
    ImagePreparation,
    RunConfig,
    TrainingConfig,
    WeightedSource,
    apply_overrides,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    find_augmentation,
    load_config,
)
from egt_tf.errors import ConfigError

SOURCES = "a string, or a list of different sources, each a string or {source: ..., weight: > 0}"


@pytest.fixture
def write(tmp_path):
    def write_yaml(text: str):
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_yaml


def refusal(data) -> str:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(data, origin="run.yaml")
    return str(caught.value)


# === Reading ===


def test_sources_with_weights(write):
    config = load_config(write("data:\n  train: [folder:a, {source: 'folder:b', weight: 2}, {source: folder:c}]\n"))
    sources = (WeightedSource("folder:a", 1.0), WeightedSource("folder:b", 2.0), WeightedSource("folder:c", 1.0))
    assert config.data.train == config.data.train_sources == config.data.validation_sources == sources
    assert load_config(write(config_to_yaml(config))) == config


def test_a_string_is_one_source():
    data = config_from_dict({"data": {"train": "folder:a", "validation": "folder:b"}}, "x").data
    assert data.train == "folder:a"
    assert data.train_sources == (WeightedSource("folder:a"),)
    assert data.validation_sources == (WeightedSource("folder:b"),)


def test_sources_by_override(write):
    path = write("data: {train: folder:x}")
    overrides = ["data.train=[folder:a,synthetic:b]", "data.validation=[{source: folder:c, weight: 1e-1}]"]
    data = load_config(path, overrides).data
    assert data.train == (WeightedSource("folder:a"), WeightedSource("synthetic:b"))
    assert data.validation_sources == (WeightedSource("folder:c", 0.1),)


@pytest.mark.parametrize("text", ["", "# nothing\n", "training:\n", "{}"])
def test_what_is_left_out_has_its_default(write, text):
    assert load_config(write(text)) == RunConfig()


def test_values_of_the_file_are_taken(write):
    config = load_config(write("episode: {ways: 3, shots: 1}\ndata: {validation: 'folder:DIR'}\n"))
    assert config.episode == EpisodeConfig(ways=3, shots=1, queries=16)
    assert config.data.validation == "folder:DIR"


@pytest.mark.parametrize(("text", "value"), [("3e-4", 3e-4), ("0.1", 0.1), ("1", 1.0), ("1e-05", 1e-5)])
def test_numbers_may_be_written_without_a_dot(write, text, value):
    rate = load_config(write(f"training: {{learning_rate: {text}}}")).training.learning_rate
    assert rate == value
    assert isinstance(rate, float)


def test_a_bare_name_stands_for_a_part_without_arguments():
    config = config_from_dict({"model": {"backbone": "resnet10"}}, origin="run.yaml")
    assert config.model.backbone == {"name": "resnet10"}
    assert config.model.head == {"name": "relation"}


def test_arguments_of_a_part_are_kept():
    backbone = {"name": "resnet10", "stem": "small", "widths": [8, 16, 16, 32]}
    assert config_from_dict({"model": {"backbone": backbone}}, "run.yaml").model.backbone == backbone


# === Refusing ===


def test_unknown_section_names_the_file_and_the_nearest():
    assert refusal({"traning": {}}) == "unknown key 'traning' in run.yaml; did you mean 'training'?"


def test_unknown_key_names_its_section():
    assert (
        refusal({"training": {"epoch": 3}})
        == "unknown key 'training.epoch' in run.yaml; did you mean 'training.epochs'?"
    )


def test_a_key_of_another_section_is_found():
    assert refusal({"epochs": 3}).endswith("did you mean 'training.epochs'?")
    assert refusal({"training": {"shots": 3}}).endswith("did you mean 'episode.shots'?")


def test_an_unknown_key_without_a_neighbour_lists_the_known():
    assert refusal({"zzz": 3}).endswith("known: data, episode, model, guidance, training, pretrain, student")


def test_ill_typed_value_states_rule_and_value():
    assert (
        refusal({"training": {"epochs": "ten"}})
        == "`training.epochs` in run.yaml must be an integer >= 1. Received: 'ten'"
    )


@pytest.mark.parametrize(
    ("section", "key", "value", "rule"),
    [
        ("training", "epochs", True, "an integer >= 1"),
        ("training", "epochs", 0, "an integer >= 1"),
        ("training", "epochs", 1.0, "an integer >= 1"),
        ("training", "epochs", None, "an integer >= 1"),
        ("training", "learning_rate", 0, "a number > 0"),
        ("training", "learning_rate_drops", [[60, 0.0]], "a list of [epochs >= 1, rate > 0] pairs, epochs ascending"),
        (
            "training",
            "learning_rate_drops",
            [[60, 0.1], [50, 0.01]],
            "a list of [epochs >= 1, rate > 0] pairs, epochs ascending",
        ),
        ("training", "learning_rate_drops", [60, 0.1], "a list of [epochs >= 1, rate > 0] pairs, epochs ascending"),
        ("training", "learning_rate_drops", 0.1, "a list of [epochs >= 1, rate > 0] pairs, epochs ascending"),
        ("guidance", "detach", "yes", "true or false"),
        ("guidance", "composite", 3, "a name or a mapping with a `name`"),
        ("training", "learning_rate", True, "a number > 0"),
        ("training", "learning_rate", "fast", "a number > 0"),
        ("training", "learning_rate", math.nan, "a number > 0"),
        ("training", "learning_rate", ".inf", "a number > 0"),
        ("training", "learning_rate", 10**400, "a number > 0"),
        ("training", "seed", -1, "an integer >= 0"),
        ("episode", "ways", 1, "an integer >= 2"),
        ("data", "augmentation", "heavy", "a string, one of none, flip, full, full_erasing"),
        ("data", "augmentation", ["flip"], "a string, one of none, flip, full, full_erasing"),
        *(
            ("data", "train", value, SOURCES)
            for value in (
                7,
                "",
                None,
                [],
                [7],
                ["a", "a"],
                ["a", {"source": "a", "weight": 2}],
                [{"weight": 1}],
                {"source": "a"},
                [{"source": "a", "weight": 0}],
                [{"source": "a", "weight": "x"}],
                [{"source": "a", "weigh": 1}],
                [["a"]],
            )
        ),
        ("data", "validation", 7, f"{SOURCES}, or null"),
        ("data", "unreadable", "black", "a string, one of stop, skip"),
        ("guidance", "guided_weight", -0.5, "a number >= 0, or null"),
        ("guidance", "mode", False, "a string, one of none, guided, guided_only"),
        ("model", "head", {"hidden": 8}, "a name or a mapping with a `name`"),
        ("model", "head", {"name": "relation", 3: 4}, "a name or a mapping with a `name`"),
    ],
)
def test_refused_values(section, key, value, rule):
    message = refusal({section: {key: value}})
    assert message.startswith(f"`{section}.{key}` in run.yaml must be {rule}. Received: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "must be a mapping of keys"),
        ("training: 3\n", "`training` in .*run.yaml must be a mapping of keys. Received: 3"),
        ("training: {epochs: 3\n", "run.yaml must be YAML"),
        ("training: {seed: !!python/object/apply:os.getcwd []}\n", "run.yaml must be YAML"),
        ("data: {train: 2024-13-45}\n", "run.yaml must be YAML"),
        ("training: {epochs: 3}\nepisode: {}\ntraining: {seed: 2}\n", "'training' again in .*run.yaml, line 3"),
        ("training:\n  epochs: 3\n  epochs: 4\n", "'epochs' again in .*run.yaml, line 3"),
        ("3: 4\n", "unknown key '3'"),
    ],
)
def test_refused_files(write, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(write(text))
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"data: {train: 'folder:\xff'}")
    with pytest.raises(ConfigError, match=r"run.yaml must be UTF-8"):
        load_config(path)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "run.yaml")


# === Overriding ===


def test_overrides_win_and_the_rest_stays(write):
    config = load_config(
        write("training: {epochs: 3, seed: 9}"),
        ["training.epochs=4", "data.train=folder:DIR/cub", "data.validation=null"],
    )
    assert config.training == TrainingConfig(epochs=4, seed=9)
    assert config.data.train == "folder:DIR/cub"
    assert config.data.validation is None


def test_an_override_reaches_into_a_part(write):
    path = write("model: {backbone: {name: resnet10, stem: imagenet}}")
    small = load_config(path, ["model.backbone.stem=small"])
    assert small.model.backbone == {"name": "resnet10", "stem": "small"}
    other = load_config(path, ["model.backbone=conv4"])
    assert other.model.backbone == {"name": "conv4"}


def test_an_override_reaches_into_a_bare_name_and_into_a_default(write):
    small = load_config(write("model: {backbone: resnet10}"), ["model.backbone.stem=small"])
    assert small.model.backbone == {"name": "resnet10", "stem": "small"}
    assert load_config(write(""), ["model.backbone.width=8"]).model.backbone == {"name": "conv4", "width": 8}


@pytest.mark.parametrize(
    ("text", "override", "origin", "message"),
    [
        ("training: {epochs: ten}", "training.seed=2", "run.yaml", "`training.epochs` in {} must be an integer"),
        ("training: {epoch: 3}", "training.epochs=4", "run.yaml", "unknown key 'training.epoch' in {};"),
        ("training: 3", "training.epochs=4", "run.yaml", "`training` in {} must be a mapping"),
        ("- 1", "training.epochs=4", "run.yaml", "{} must be a mapping"),
        ("training: {epochs: 3}", "training.seed=-2", "the overrides", "`training.seed` in {} must be"),
        ("training: {epochs: 3}", "training=5", "the overrides", "`training` in {} must be a mapping"),
        ("training: {epochs: 3}", "training={epochs: 0}", "the overrides", "`training.epochs` in {} must be"),
        ("model: {backbone: conv4}", "model.backbone.name=3", "the overrides", "`model.backbone` in {} must be"),
    ],
)
def test_an_error_names_the_file_or_the_overrides(write, text, override, origin, message):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    assert message.format(path if origin == "run.yaml" else origin) in str(caught.value)


def test_an_override_may_put_a_value_of_the_file_right(write):
    assert load_config(write("training: {epochs: ten}"), ["training.epochs=4"]).training.epochs == 4


def test_the_last_override_wins(write):
    assert load_config(write(""), ["training.seed=2", "training.seed=3"]).training.seed == 3


def test_overrides_do_not_change_the_mapping():
    mapping = {"training": {"epochs": 3}}
    assert apply_overrides(mapping, ["training.epochs=4", "episode.ways=2"]) == {
        "training": {"epochs": 4},
        "episode": {"ways": 2},
    }
    assert mapping == {"training": {"epochs": 3}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "must be written section.key=value"),
        ("=3", "must be written section.key=value"),
        ("training..epochs=3", "must be written section.key=value"),
        ("training.epochs.more=3", "'training.epochs.more', where 'epochs' is no section"),
        ("training.epochs=[1", "must be YAML"),
        ("training.epochs=ten", "`training.epochs` in the overrides must be an integer >= 1. Received: 'ten'"),
        ("epochs=3", "unknown key 'epochs' in the overrides; did you mean 'training.epochs'?"),
    ],
)
def test_refused_overrides(write, override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(write(""), [override])
    assert message in str(caught.value)


# === Round trip ===


configurations = st.builds(
    lambda ways, rate, weight, train, seed: RunConfig(
        episode=EpisodeConfig(ways=ways),
        data=dataclasses.replace(RunConfig().data, train=train),
        guidance=GuidanceConfig(guided_weight=weight),
        training=TrainingConfig(learning_rate=rate, seed=seed),
    ),
    ways=st.integers(2, 10**6),
    rate=st.floats(0, exclude_min=True, allow_infinity=False),
    weight=st.none() | st.floats(0, 1e300),
    train=st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])),
    seed=st.integers(0, 2**63),
)


@settings(deadline=None, derandomize=True, database=None, max_examples=200)
@example(dataclasses.replace(RunConfig(), data=dataclasses.replace(RunConfig().data, train="a\x85b\u2028c\u2029é")))
@given(configurations)
def test_yaml_gives_the_same_configuration_back(config):
    assert config_from_dict(yaml.safe_load(config_to_yaml(config)), origin="run.yaml") == config


def test_the_written_file_is_read_back(write):
    backbone = {"name": "resnet10", "widths": [8, 16, 16, 32]}
    config = config_from_dict({"model": {"backbone": backbone}}, "run.yaml")
    assert load_config(write(config_to_yaml(config))) == config


def test_every_key_is_written_out():
    written = yaml.safe_load(config_to_yaml(RunConfig()))
    assert written == config_to_dict(RunConfig())
    assert set(written) == {field.name for field in dataclasses.fields(RunConfig)}


def test_defaults_are_acceptable_values():
    assert config_from_dict(config_to_dict(RunConfig()), origin="the defaults") == RunConfig()


def test_the_preparation_of_images_is_what_the_sections_say(write):
    config = load_config(write("data: {image_size: 32, augmentation: full, cache_mb: 5}\ntraining: {seed: 7}"))
    assert config.image_preparation == ImagePreparation(32, "full", 5, 7)


def test_every_augmentation_of_the_configuration_is_known_and_no_other():
    for name in AUGMENTATIONS:
        assert config_from_dict({"data": {"augmentation": name}}, "x").data.augmentation == find_augmentation(name).name
    with pytest.raises(ConfigError, match="`augmentation` must be one of none, flip, full, full_erasing"):
        ImagePreparation(augmentation="crop")


def test_two_configurations_do_not_share_a_mapping():
    assert RunConfig().model.backbone is not RunConfig().model.backbone


def test_import_does_not_need_tensorflow():
    code = "import sys, egt_tf.config; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_section_that_is_off_is_turned_on_by_a_key_below_it(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("pretrain: {epochs: 2}")
    assert load_config(path).pretrain.challenger is None
    challenger = load_config(path, ["pretrain.challenger.share=0.5"]).pretrain.challenger
    assert challenger == ChallengerConfig(share=0.5)
    assert load_config(path, ["pretrain.challenger={}"]).pretrain.challenger == ChallengerConfig()
    assert load_config(path, ["pretrain.challenger.share=0.5", "pretrain.challenger=null"]).pretrain.challenger is None


def test_a_section_within_a_section_is_written_and_read_again():
    challenger = {"manipulation": "blur", "strength": 0.5, "composite": "epsilon"}
    config = config_from_dict({"pretrain": {"challenger": challenger}}, origin="the test")
    assert config_from_dict(yaml.safe_load(config_to_yaml(config)), origin="again") == config
    assert config.pretrain.challenger.composite == {"name": "epsilon"}
