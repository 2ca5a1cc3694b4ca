"""The examples in docstrings run and print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

import egt_tf
from egt_tf.keras_api import keras
from tests.helpers.quick import all_but_slow

MODULES = ["egt_tf", *sorted(module.name for module in pkgutil.walk_packages(egt_tf.__path__, "egt_tf."))]
# Seconds each, and what they show is tested elsewhere too.
SLOW = {
    f"egt_tf.{name}"
    for name in (
        "backbones.applications",
        "backbones.batch_noise",
        "backbones.efficientnet_lite",
        "doctor.examination",
        "evaluation.accuracy",
        "evaluation.adversarial",
        "evaluation.randomization",
        "export.saved_model",
        "heads.graph",
        "published.convert",
        "serving.evaluation",
        "serving.explained_model",
        "training.loop",
        "training.pretraining",
        "training.student",
    )
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def examples(module):
    names = {**vars(module), "np": np, "tf": tf, "keras": keras}
    return [test for test in doctest.DocTestFinder().find(module, extraglobs=names) if test.examples]


@pytest.mark.parametrize("name", all_but_slow(MODULES, SLOW))
def test_examples_run(name):
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    said: list[str] = []
    for test in examples(importlib.import_module(name)):
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
