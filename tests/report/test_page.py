from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil

import numpy as np
import pytest

from egt_tf.config import RunConfig, config_from_dict, config_to_dict
from egt_tf.errors import ConfigError, EgtError, RunError
from egt_tf.explain.explanation import EpisodeExplanation
from egt_tf.files import write_json
from egt_tf.report import read_facts, run_page, write_run_page
from egt_tf.report.facts import Example, Examples, Part, RunKind
from egt_tf.runs import RunFolder
from tests.helpers.run_folders import add_evaluation, add_explanations, write_full_run, write_run
from tests.test_document import HOSTILE, Balanced


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with everything but images, and its page. Not to be written to."""
    run = write_full_run(tmp_path_factory.mktemp("runs") / "full")
    return run, run_page(read_facts(run))


def words(page: str) -> str:
    """All that a page shows, on one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


def example(truth: str = "bee", names=("ant", "bee", "cow"), probabilities=(0.1, 0.7, 0.2)) -> Example:
    """An explained query of the first class explained and another."""
    rng = np.random.default_rng(0)
    ranking = np.argsort(-np.asarray(probabilities), kind="stable")
    return Example(
        truth,
        EpisodeExplanation(
            query_image=rng.integers(256, size=(16, 16, 3)).astype(np.uint8),
            class_names=tuple(names),
            probabilities=np.asarray(probabilities),
            explained=tuple(int(index) for index in ranking[:2]),
            query_relevance=rng.normal(size=(2, 16, 16)),
            support_images=rng.integers(256, size=(len(names), 2, 16, 16, 3)).astype(np.uint8),
            support_relevance=rng.normal(size=(2, len(names), 2, 16, 16)),
            image_name=f"{truth}-01.png",
            method_name="fsc",
        ),
    )


# === What it says ===


def test_a_full_page(full):
    run, page = full
    shown = words(page)
    assert "the head relation on the backbone conv4, trained on synthetic:shapes in 5-way 5-shot episodes" in shown
    assert "best validation 55.0 % ± 2.0" in shown
    assert "3 of 15 epochs" in shown
    record = json.loads(run.evaluation_files()[1].read_text())
    assert f"{100 * record['accuracy']:.2f} % ± {100 * record['interval']:.2f}" in shown
    assert f"Calibration error (15 bins): {100 * record['calibration_error']:.2f} %" in shown
    assert "folder:…/some birds (novel), 3-way 1-shot" in shown
    assert "egt-tf train --config demo --run 'runs/a b'" in shown
    assert f"egt-tf train --config {run.path}/config.yaml --run {run.path}-again" in shown
    assert "tensorflow 2.14.1" in shown
    assert "tf-keras" not in shown
    assert "Damaged" not in shown


def test_numbers_of_every_measurement(full):
    run, page = full
    facts = read_facts(run)
    assert [len(facts.epochs), len(facts.evaluations), len(facts.attacks)] == [3, 2, 3]
    assert facts.best["epoch"] == 3
    few, many = sorted(facts.evaluations, key=lambda each: len(each.confusion.classes))
    # Of few classes a matrix, of many the most frequent pairs.
    assert page.count('class="matrix"') == 1
    pair = few.confusion.pairs[0]
    assert f">{100 * pair.share:.0f} %</td>" in page
    names = [each.name for each in many.confusion.classes]
    first = many.confusion.pairs[0]
    assert f"{names[first.true]} {names[first.taken_for]} {first.queries} of {first.of}" in words(page)
    # The better mean of each measure is marked; one that is not defined is a dash.
    assert "fsc 2.000 ± 1.960 * 0.625 ± 0.245 *" in words(page)
    assert "random 4.500 ± 0.980 -" in words(page)
    assert page.count("<svg") == 2 + 1 + 2
    assert "62.50 % ± 17.32 25.00 % ± 0.00 37.50 % ± 17.32" in words(page)


def test_what_is_missing_is_said_with_its_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = write_run(RunFolder(tmp_path / "runs" / "new").path.relative_to(tmp_path), epochs=0)
    shown = words(run_page(read_facts(run)))
    assert "No epoch is finished yet; go on with egt-tf train --run runs/new --resume" in shown
    assert "Not evaluated yet: egt-tf evaluate runs/new --data SOURCE" in shown
    assert "not judged yet: egt-tf evaluate-explanations runs/new --data SOURCE --quick" in shown
    assert "Not attacked yet: egt-tf evaluate runs/new --data SOURCE --attack pgd" in shown
    assert "egt-tf explain IMAGE --run runs/new --support FOLDER" in shown


def test_an_evaluation_of_an_older_version(tmp_path):
    run = write_run(tmp_path / "old")
    path = add_evaluation(run)
    record = json.loads(path.read_text())
    younger = ("calibration_bins", "confusion", "calibration_error", "negative_log_likelihood", "tied")
    write_json(path, {key: value for key, value in record.items() if key not in younger})
    shown = words(run_page(read_facts(run)))
    assert "has no reliability diagram and no confusions, which older versions did not write" in shown
    assert f"egt-tf evaluate {run.path} --data synthetic:sketch --split novel --ways 3 --shots 1" in shown
    assert "33.3 % - - -" in shown


def test_a_pretrained_backbone_and_a_converted_run(tmp_path):
    run = write_run(tmp_path / "backbone")
    run.best_file.rename(run.backbone_file)
    facts = read_facts(run)
    shown = words(run_page(facts))
    assert (facts.kind, facts.problems) == (RunKind.PRETRAINED, ())
    assert "pre-trained as an ordinary classifier" in shown
    assert "egt-tf pretrain --config" in shown
    assert "by chance" not in shown
    converted = write_run(tmp_path / "converted", epochs=0)
    converted.metrics_file.unlink()
    write_json(converted.environment_file, {"origin": {"checkpoint": "best model.tar", "sha256": "0ab"}})
    shown = words(run_page(read_facts(converted)))
    assert "converted from a checkpoint of the published code" in shown
    assert "there are no epochs to show" in shown
    assert "egt-tf convert 'best model.tar' --to" in shown


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"guidance": {"mode": "none"}}, "episodes, without guidance."),
        ({"guidance": {"mode": "guided_only"}}, "on guided predictions alone (composite fsc, weights relevance)"),
        ({"student": {"teacher": "runs/first"}}, "as a student of runs/first"),
    ],
)
def test_the_sentence(tmp_path, values, says):
    run = write_run(tmp_path / "a", config_from_dict(values, origin="a test"))
    assert says in words(run_page(read_facts(run)))


def test_every_value_of_the_configuration_is_there(full):
    shown = words(full[1])
    for section, values in config_to_dict(RunConfig()).items():
        assert f" {section} " in shown
        assert all(f" {key} " in shown for key in values)


# === Examples ===


def test_examples(full):
    shown = (example("ant"), example("bee"))
    facts = dataclasses.replace(read_facts(full[0]), examples=Examples(6, 5, shown, "fsc"))
    page = run_page(facts)
    assert "5 of the 6 queries stored with the run are answered rightly" in words(page)
    assert "1. Wrong: bee in place of ant" in words(page)
    assert "2. Right: bee" in words(page)
    assert "for bee (predicted, 70 %)" in words(page)
    # A query, two overlays and two support images of each of two classes; and the picture of the curves.
    assert len(re.findall('src="data:image/jpeg', page)) == 2 * (3 + 4)
    assert all(alt for alt in re.findall('<img alt="(.*?)"', page))


def test_a_tie_is_no_prediction(full):
    tie = example("ant", probabilities=(0.4, 0.4, 0.2))
    page = run_page(dataclasses.replace(read_facts(full[0]), examples=Examples(1, 1, (tie,), "fsc")))
    assert "no prediction: a tie of ant and bee." in words(page)


# === Safety ===


@pytest.mark.parametrize("text", HOSTILE)
def test_names_are_text(tmp_path, text):
    folder = text.replace("/", "_").replace("\ud800", "\udce9")
    run = write_run(tmp_path / folder)
    path = add_evaluation(run, name=text)
    write_json(path, {**json.loads(path.read_text()), "source": f"folder:{text}"})
    names = (f"a{text}", text, "c")
    facts = dataclasses.replace(
        read_facts(run), examples=Examples(1, 1, (example(text, names), example("c", names)), text)
    )
    page = run_page(facts)
    page.encode("utf-8")
    parsed = Balanced(page)
    assert parsed.open == []
    assert parsed.tags.isdisjoint({"b", "script"})


def test_a_page_loads_nothing_and_runs_nothing(full):
    page = full[1]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:image/|#)""", page)
    assert not re.search(r"<(?:script|link|iframe|object|embed)|\son\w+=|url\(", page)


def test_pages_are_equal(full):
    assert run_page(read_facts(full[0])) == full[1]


def test_tables_and_charts_are_named_for_those_who_do_not_see(full):
    page = full[1]
    assert page.count("<caption>") == page.count("<table")
    assert len(re.findall('<svg[^>]*role="img" aria-label="[^"]+"', page)) == page.count("<svg")
    links = re.findall(r'href="#(.*?)"', page)
    assert len(links) == 7
    assert all(f'<section id="{link}"' in page for link in links)


# === Damage ===


def damaged_part(run: RunFolder) -> tuple[set[Part], str]:
    facts = read_facts(run)
    return {problem.part for problem in facts.problems}, words(run_page(facts))


def test_whole_lines_of_a_truncated_history_are_shown(tmp_path):
    run = write_run(tmp_path / "a")
    run.metrics_file.write_bytes(run.metrics_file.read_bytes()[:-40])
    parts, shown = damaged_part(run)
    assert parts == {Part.TRAINING}
    assert len(read_facts(run).epochs) == 2
    assert "line 3 of" in shown
    assert "best validation 45.0 %" in shown
    run.metrics_file.write_bytes(b'\xff\n[1]\n{"val_accuracy": NaN}\n{"loss": true}\n')
    assert [len(read_facts(run).problems), len(read_facts(run).epochs)] == [2, 2]
    run_page(read_facts(run))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"accuracy": 2}', b'{"a": {}}'])
@pytest.mark.parametrize("folder", ["evaluations", "explanations", "attacks"])
def test_a_damaged_result_is_named_and_the_rest_is_shown(full, tmp_path, folder, content):
    run = RunFolder(shutil.copytree(full[0].path, tmp_path / "a"))
    path = sorted((run.path / folder).glob("*.json"))[0]
    path.write_bytes(content)
    parts, shown = damaged_part(run)
    assert len(parts) == 1
    assert path.name in shown
    assert "not everything could be read" in shown
    assert "best validation 55.0 %" in shown


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("calibration_bins", [{"queries": 3}]),
        ("confusion", {"classes": [], "pairs": [{"class": 0, "taken_for": 1, "queries": 1, "of": 1}]}),
        ("confusion", {"classes": "a", "pairs": []}),
        ("seed", -1),
        ("tied", "often"),
    ],
)
def test_a_value_of_another_kind_in_an_evaluation(tmp_path, key, value):
    run = write_run(tmp_path / "a")
    path = add_evaluation(run)
    write_json(path, {**json.loads(path.read_text()), key: value})
    parts, shown = damaged_part(run)
    assert parts == {Part.EVALUATIONS}
    assert path.name in shown


def test_other_damage(tmp_path):
    run = write_run(tmp_path / "a")
    run.environment_file.write_text("[]")
    run.best_file.write_bytes(b"PK")
    assert damaged_part(run)[0] == {Part.ENVIRONMENT, Part.TRAINING}
    run.best_file.unlink()
    assert "best.npz is missing" in damaged_part(run)[1]
    add_explanations(run).with_name("perturbation.png").write_bytes(b"no picture")
    assert read_facts(run).judged.pictures == {}


@pytest.mark.parametrize(
    ("arguments", "says", "kind"),
    [
        ({"path": "report.txt"}, "must be a file that ends in .html", RunError),
        ({"path": "folder.html"}, "must be a file that ends in .html", RunError),
        ({"examples": -1}, "`examples` must be >= 0", RunError),
        ({"run": "nowhere"}, "must exist", RunError),
        ({"run": "empty"}, "must be a run folder", RunError),
        ({"run": "broken"}, "broken", ConfigError),
    ],
)
def test_what_is_refused_writes_nothing(tmp_path, arguments, says, kind):
    write_run(tmp_path / "run")
    for name in ("empty", "broken", "folder.html"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "config.yaml").write_text("data: [")
    before = sorted(tmp_path.rglob("*"))
    run = RunFolder(tmp_path / arguments.get("run", "run"))
    with pytest.raises(kind, match=says) as caught:
        write_run_page(run, tmp_path / arguments.get("path", "a.html"), examples=arguments.get("examples", 0))
    assert isinstance(caught.value, EgtError)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run")
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *names: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_run_page(run, path, examples=0)
    assert path.read_text() == "old"
    assert not list(tmp_path.glob(".*"))
