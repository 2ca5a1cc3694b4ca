from __future__ import annotations

import json

import pytest

from egt_tf.errors import ConfigError
from egt_tf.training.cluster import VARIABLE, Cluster, read_cluster

CHIEF = {"chief": ["a:1"], "worker": ["b:2", "c:3"], "evaluator": ["d:4"]}


def cluster(**content) -> Cluster:
    return read_cluster({VARIABLE: json.dumps(content)})


def test_the_chief_trains_as_one_of_the_workers():
    found = cluster(cluster=CHIEF, task={"type": "worker", "index": 1})
    found.check()
    assert found.workers == ("a:1", "b:2", "c:3")
    assert found.description == "worker 1 of 2"
    assert cluster(cluster=CHIEF, task={"type": "chief", "index": 0}).description == "chief 0 of 1"


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}, {VARIABLE: "{}"}, {VARIABLE: '{"task": {}}'}])
def test_no_workers_are_no_error_until_some_are_needed(environment):
    found = read_cluster(environment)
    assert found.workers == ()
    with pytest.raises(ConfigError, match=r"to name the workers, as .*Received: none"):
        found.check()


@pytest.mark.parametrize(
    "task", [None, [], {}, {"type": "worker"}, {"type": "evaluator", "index": 0}, {"type": "worker", "index": True}]
)
def test_a_task_that_does_not_train_is_refused(task):
    with pytest.raises(ConfigError, match="the task in TF_CONFIG must be a worker"):
        cluster(cluster=CHIEF, task=task).check()
