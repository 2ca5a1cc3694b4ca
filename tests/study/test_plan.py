from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

from egt_tf.errors import ConfigError, DataError
from egt_tf.study.images import check_images
from egt_tf.study.plan import KEYS, StudyEvaluation, load_study, study_from_dict, with_root
from egt_tf_cli.run_options import packaged_studies
from tests.helpers.tiny_studies import tiny_plan, write_plan


def study(**changes):
    return study_from_dict(tiny_plan(**changes), "tiny", "plan.yaml")


def paths(**changes):
    return [cell.name.path for cell in study(**changes).cells]


HEADS = {"prototype": {}, "cosine": {"set": {"model.head": "cosine"}, "arms": ["plain"]}}


def test_pairs_of_a_head_are_complete_early():
    assert paths() == [
        "default/prototype/1shot/plain/seed1",
        "default/prototype/1shot/guided/seed1",
        "default/prototype/1shot/plain/seed2",
        "default/prototype/1shot/guided/seed2",
    ]


def test_a_head_may_have_some_of_the_arms():
    assert paths(heads=HEADS, seeds=[1])[2:] == ["default/cosine/1shot/plain/seed1"]


def test_the_arms_of_a_head_come_in_its_order():
    heads = {"prototype": {"arms": ["guided", "plain"]}}
    assert paths(heads=heads, seeds=[1])[0] == "default/prototype/1shot/guided/seed1"


def test_settings_and_shots_are_crossed():
    names = paths(settings={"short": None, "long": {"training.epochs": 3}}, shots=[1, 5], seeds=[1])
    assert len(names) == len(set(names)) == 8
    assert names[-1] == "long/prototype/5shot/guided/seed1"


def test_shots_and_seeds_are_by_default_those_of_the_run():
    run = {**tiny_plan()["run"], "training": {"seed": 7}}
    assert paths(run=run, seeds=None)[0] == "default/prototype/1shot/plain/seed7"


def test_changes_reach_the_run_in_their_order():
    cells = study(
        settings={"only": {"training.learning_rate": 0.5, "training.epochs": 2}},
        heads={"cosine": {"set": {"model.head": {"name": "cosine"}, "model.head.scale": 3, "training.epochs": 3}}},
        arms={"plain": {"training.epochs": 4}, "guided": {}},
        seeds=[9],
    ).cells
    first = cells[0].config(None)
    assert (first.training.learning_rate, first.training.epochs, first.training.seed) == (0.5, 4, 9)
    assert first.model.head == {"name": "cosine", "scale": 3}
    assert first.model.backbone == {"name": "conv4", "width": 2}
    assert cells[1].config(None).training.epochs == 3


def test_what_is_asked_of_a_cell_is_what_a_file_holds():
    plan = study(targets={"fog": "folder:{root}/fog"})
    asked = plan.asked_of(plan.cells[0])
    assert json.loads(json.dumps(asked)) == asked
    assert asked["targets"] == {"fog": "folder:{root}/fog"}
    assert asked["evaluation"]["curve_on"] == "fog"


def test_the_curve_is_by_default_on_what_settings_were_chosen_on():
    targets = {"fog": "synthetic:fog", "sketch": "synthetic:sketch"}
    assert study(targets=targets, chosen_on=["sketch"]).evaluation.curve_on == "sketch"
    assert study(targets=targets).evaluation.curve_on == "fog"


@pytest.mark.parametrize("name", packaged_studies())
def test_the_plans_of_the_package_are_right(name):
    assert load_study(packaged_studies()[name]).cells


def test_the_plan_of_the_documentation_is_right():
    page = (Path(__file__).resolve().parents[2] / "docs" / "studies.md").read_text("utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    documented = study_from_dict(yaml.safe_load(block), "page", "docs/studies.md")
    assert len(documented.cells) == 25
    keys = set(re.findall(r"^\| `([a-z_.`, ]+)` \|", page.split("## What the command does")[0], re.M))
    named = {key for each in keys for key in re.split(r"`, `", each)}
    evaluation = {f"evaluation.{field.name}" for field in dataclasses.fields(StudyEvaluation)}
    assert named == {*KEYS, *evaluation} - {"evaluation"}


def test_the_name_is_that_of_the_file(tmp_path):
    loaded = load_study(write_plan(tmp_path, title=None))
    assert (loaded.name, loaded.title) == ("tiny", "tiny")


RUN = tiny_plan()["run"]
WRONG = {
    "a misspelt key": ({"hades": {}}, "every key in plan.yaml", "'hades'; did you mean 'heads'?"),
    "a run that is missing": ({"run": None}, "must have `run`", "none"),
    "targets that are missing": ({"targets": None}, "must have `targets`", "none"),
    "no arms": ({"arms": {}}, "`arms` of plan.yaml must have at least one", "none"),
    "no heads": ({"heads": {}}, "`heads` of plan.yaml must have at least one", "none"),
    "no settings": ({"settings": {}}, "`settings` of plan.yaml must have at least one", "none"),
    "no seeds": ({"seeds": []}, "`seeds` of plan.yaml must be a list of different integers", "[]"),
    "a number of seeds": ({"seeds": 5}, "`seeds` of plan.yaml must be a list of different integers", "5"),
    "equal seeds": ({"seeds": [1, 1]}, "different integers", "[1, 1]"),
    "a seed that is true": ({"seeds": [True]}, "`seeds` must be an integer >= 0", "True"),
    "no shots at all": ({"shots": [0]}, "`shots` must be an integer >= 1", "shots=0"),
    "heads as a list": ({"heads": ["cosine"]}, "`heads` of plan.yaml must be a mapping", "['cosine']"),
    "arms as text": ({"arms": "plain"}, "`arms` of plan.yaml must be a mapping", "'plain'"),
    "an arm as a list": ({"arms": {"plain": [], "guided": {}}}, "`arms.plain` of plan.yaml must be a mapping", "[]"),
    "an arm that is a boolean": ({"arms": {False: {}}}, "must be text; yes, no, on, off", "False"),
    "an arm that is a number": ({"arms": {1: {}}}, "must be text", "1"),
    "a head that leads elsewhere": ({"heads": {"../x": {}}}, "must begin with a letter or a digit", "'../x'"),
    "a setting with a slash": ({"settings": {"a/b": {}}}, "must begin with a letter", "'a/b'"),
    "a head's misspelt key": ({"heads": {"prototype": {"sett": {}}}}, "every key in `heads.prototype`", "'set'?"),
    "a head's misspelt arm": (
        {"heads": {"prototype": {"arms": ["plain", "giuded"]}}},
        "every arm in `heads.prototype.arms`",
        "'giuded'; did you mean 'guided'?",
    ),
    "a head's arms as text": ({"heads": {"prototype": {"arms": "plain"}}}, "must be a list", "'plain'"),
    "a head's arm twice": (
        {"heads": {"prototype": {"arms": ["plain", "plain"]}}},
        "every arm once",
        "'plain', 'plain'",
    ),
    "a misspelt key of a run": (
        {"heads": {"prototype": {"set": {"model.hed": "cosine"}}}},
        "the cell default/prototype/1shot/plain/seed1 of plan.yaml",
        "did you mean 'model.head'?",
    ),
    "a section as a whole": (
        {"arms": {"plain": {"guidance": {}}}},
        "`arms.plain` of plan.yaml must be written",
        "'guidance'",
    ),
    "a change below no section": (
        {"arms": {"plain": {"training.epochs.x": 1}}, "comparisons": None},
        "section",
        "'training.epochs.x'",
    ),
    "a run's misspelt key": ({"run": {"dat": {}}}, "`run` of plan.yaml", "did you mean 'data'?"),
    "a value of a run": (
        {"arms": {"plain": {"training.epochs": 0}}, "comparisons": None},
        "`training.epochs` in the cell",
        "0",
    ),
    "shots of an arm": ({"arms": {"plain": {"episode.shots": 5}}}, "must be left to `shots`", "`arms.plain`"),
    "a seed of a head": ({"heads": {"a": {"set": {"training.seed": 5}}}}, "must be left to `seeds`", "`heads.a.set`"),
    "an arm that no head has": (
        {"heads": {"prototype": {"arms": ["plain"]}}, "comparisons": None},
        "every arm of plan.yaml must be one of a head's",
        "'guided'",
    ),
    "arms that no head has both of": (
        {"heads": {"a": {"arms": ["plain"]}, "b": {"set": {"model.head": "cosine"}, "arms": ["guided"]}}},
        "must be ones that a head has both of",
        "['guided', 'plain']",
    ),
    "equal cells": ({"arms": {"plain": {}, "guided": {}}}, "must be another run", "plain/seed1 and default/"),
    "a comparison's misspelt arm": ({"comparisons": [["giuded", "plain"]]}, "`comparisons`", "did you mean 'guided'?"),
    "a comparison of one": ({"comparisons": [["guided"]]}, "must be two arms", "['guided']"),
    "one comparison, not in a list": ({"comparisons": ["guided", "plain"]}, "must be two arms", "'guided'"),
    "a comparison with itself": ({"comparisons": [["plain", "plain"]]}, "every arm once", "['plain', 'plain']"),
    "a comparison twice": ({"comparisons": [["guided", "plain"]] * 2}, "every pair once", "plain"),
    "a comparison with a list": ({"comparisons": [[["guided"], "plain"]]}, "must be text", "['guided']"),
    "a target without a source": ({"targets": {"fog": None}}, "`targets.fog` of plan.yaml must be text", "''"),
    "a target that is a number": ({"targets": {"fog": 3}}, "`targets.fog` of plan.yaml must be text", "3"),
    "targets as a list": ({"targets": ["synthetic:fog"]}, "`targets` of plan.yaml must be a mapping", "synthetic"),
    "a misspelt target": ({"chosen_on": ["frog"]}, "every target in `chosen_on`", "did you mean 'fog'?"),
    "a target, not in a list": ({"chosen_on": "fog"}, "`chosen_on` of plan.yaml must be a list", "'fog'"),
    "a misspelt split": ({"evaluation": {"split": "novell"}}, "every split in `evaluation`", "did you mean 'novel'?"),
    "a misspelt key of the evaluation": ({"evaluation": {"episode": 3}}, "`evaluation`", "did you mean 'episodes'?"),
    "a curve on no target": (
        {"evaluation": {"curve_on": "fig"}},
        "every target in `evaluation`",
        "did you mean 'fog'?",
    ),
    "a curve on a list": ({"evaluation": {"curve_on": ["fog"]}}, "every target in `evaluation`", "['fog']"),
    "no episodes": ({"evaluation": {"episodes": 0}}, "`evaluation.episodes` must be an integer >= 1", "0"),
    "episodes as text": ({"evaluation": {"episodes": "9"}}, "`evaluation.episodes` must be an integer >= 1", "'9'"),
    "a title that is a list": ({"title": ["x"]}, "`title` of plan.yaml must be text", "['x']"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_plan_is_refused(case):
    changes, rule, received = WRONG[case]
    with pytest.raises(ConfigError) as error:
        study(**changes)
    assert rule in str(error.value)
    assert received in str(error.value)


@pytest.mark.parametrize("plan", [[], "x", 3])
def test_a_plan_is_a_mapping(plan):
    with pytest.raises(ConfigError, match=r"plan\.yaml must be a mapping"):
        study_from_dict(plan, "tiny", "plan.yaml")


# === The folder of the data ===


def test_the_root_is_put_into_every_source():
    plan = study(run={"data": {"train": ["folder:{root}/a", {"source": "folder:{root}/b", "weight": 2}]}})
    assert [each.source for each in plan.cells[0].config("photos").data.train_sources] == [
        "folder:photos/a",
        "folder:photos/b",
    ]
    assert with_root({"a": 1, "b": ["{root}"]}, "photos") == {"a": 1, "b": ["photos"]}


def test_a_root_that_is_needed_must_be_given():
    plan = study(targets={"fog": "folder:{root}/fog"})
    with pytest.raises(ConfigError, match=r"must be given with --root\. Received: none, for 'folder:\{root\}/fog'"):
        check_images(plan, plan.cells, None)


# === Images ===


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"targets": {"fog": "synthetic:fog", "none": "folder:nowhere"}}, "cannot read the folder nowhere"),
        ({"evaluation": {"queries": 1000}}, "1 shot + 1000 queries need 1001 images"),
        ({"shots": [1, 1000]}, "1000 shots"),
        ({"evaluation": {"split": "val"}, "arms": {"plain": {"episode.ways": 30}, "guided": {}}}, "30-way"),
        ({"arms": {"plain": {"episode.queries": 1000}, "guided": {}}}, "1 shot + 1000 queries"),
        ({"arms": {"plain": {"data.train": "folder:nowhere"}, "guided": {}}}, "cannot read the folder nowhere"),
    ],
)
def test_images_that_do_not_suffice_are_found(changes, says):
    plan = study(**changes)
    with pytest.raises(DataError) as error:
        check_images(plan, plan.cells, None)
    assert says in str(error.value)


def test_images_of_cells_that_are_done_need_not_be_there():
    plan = study(targets={"none": "folder:{root}/nowhere"})
    check_images(plan, [], None)
