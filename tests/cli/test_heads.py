"""Every head from the command line: trained, plain and guided, evaluated, explained."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml

from egt_tf.config import load_config
from tests.helpers.commands import invoke

# Guidance as the paper has it for each head; the heads of one's own are guided as RelationNet is.
GUIDED = {
    "relation": [],
    "graph": [],
    "prototype": [],
    "cosine": [],
    "ridge": [],
    "cross_attention": ["--set", "guidance.mode=guided_only", "--set", "guidance.detach=false"],
}


@pytest.fixture(scope="module")
def trained_heads(tiny, tmp_path_factory):
    """The guided run of a head, trained when it is first asked for. Not to be written to: see `head_run`."""
    folder = tmp_path_factory.mktemp("heads")

    def of(head):
        if not (folder / head).exists():
            train(tiny, folder / head, head, *GUIDED[head])
        return folder / head

    return of


def train(tiny, run, head, *options):
    result = invoke("train", "--config", tiny, "--set", f"model.head.name={head}", "--run", run, *options)
    assert (result.exit_code, result.stderr) == (0, ""), result.output


@pytest.fixture
def head_run(egt, trained_heads, tmp_path):
    """Copies the guided run of a head: runs/HEAD in the current folder of `egt`."""

    def copy(head):
        return shutil.copytree(trained_heads(head), tmp_path / "runs" / head)

    return copy


# RelationNet is what all other tests of commands train, evaluate and explain; the others take the same way.
@pytest.mark.slow
@pytest.mark.parametrize("head", GUIDED)
def test_a_head_is_trained_evaluated_and_explained(head, egt, head_run):
    run = head_run(head)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(np.isfinite(list(row.values())).all() for row in rows)
    assert all(row["guided_loss"] > 0 for row in rows)
    assert all((row["auxiliary_loss"] > 0) == (head == "cross_attention") for row in rows)
    result = egt("evaluate", run, "--data", "synthetic:sketch", "--episodes", 4, "--queries", 3)
    assert result.exit_code == 0
    assert "sketch" in result.stdout
    query = sorted((run / "queries").iterdir())[0]
    assert egt("explain", query, "--run", run, "--target", "all", "--out", "figure.png").exit_code == 0
    relevance, support = np.load("figure.npy"), np.load("figure.support.npy")
    assert np.isfinite(relevance).all()
    assert np.isfinite(support).all()
    # Each class has relevance in the query, and in its own support images.
    assert all(np.any(map_) for map_ in relevance)
    with open("figure.json") as file:
        explained = json.load(file)["explained"]
    assert all(np.any(support[place, class_index]) for place, class_index in enumerate(explained))


@pytest.mark.slow
@pytest.mark.parametrize("head", ["graph", "cross_attention"])
def test_a_plain_run_of_a_head_has_no_guided_loss(tiny, tmp_path, head):
    run = tmp_path / head
    train(tiny, run, head, "--set", "guidance.mode=none")
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert row["guided_loss"] == 0
    assert row["loss"] == pytest.approx(row["plain_loss"] + row["auxiliary_loss"], rel=1e-5)


@pytest.mark.slow
def test_what_a_head_must_know_is_stored_with_the_run(trained_heads):
    assert load_config(trained_heads("graph") / "config.yaml").model.head["ways"] == 3
    head = load_config(trained_heads("cross_attention") / "config.yaml").model.head
    # Every second of the 80 classes is one to train on.
    assert head["base_classes"] == 40


@pytest.mark.slow
def test_an_interrupted_run_of_a_head_with_running_averages_is_resumed(egt, head_run):
    run = head_run("cross_attention")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["training"]["epochs"] = 3
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    result = egt("train", "--run", run, "--resume")
    assert result.exit_code == 0
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "model.head.base_classes=7"], ["`model.head.base_classes` must be", "40", "7"]),
        (["--set", "model.head.temperature=0"], ["`temperature`", "0"]),
        (["--set", "model.head.scael=3"], ["takes no argument 'scael'", "did you mean 'scale'"]),
    ],
)
def test_arguments_that_do_not_fit_cross_attention(options, words, fails, tiny):
    fails(
        "train", "--config", tiny, "--set", "model.head.name=cross_attention", "--run", "runs/x", *options, says=words
    )


def test_arguments_that_do_not_fit_the_graph_head(fails, tiny):
    fails(
        "train",
        "--config",
        tiny,
        "--set",
        "model.head.name=graph",
        "--set",
        "model.head.ways=4",
        "--run",
        "runs/x",
        says=["3 ways", "4"],
    )


@pytest.mark.slow
def test_what_a_graph_head_is_asked_that_does_not_fit_it(fails, head_run):
    run = head_run("graph")
    fails("evaluate", run, "--data", "synthetic:sketch", "--ways", "4", "--episodes", "2", says=["3 ways", "4"])
    fails("evaluate", run, "--data", "synthetic:sketch", "--transductive", "--candidates", "2", says=["transductive"])
