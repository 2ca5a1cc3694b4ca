from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from egt_tf.config import RunConfig, config_from_dict
from egt_tf.errors import ConfigError
from egt_tf.files import write_png
from egt_tf.runs import RunFolder
from egt_tf.training.checkpoints import Checkpoints
from egt_tf.training.strategy import check_devices, is_chief, open_strategy, own_folder
from egt_tf.weights import load_arrays

PROGRAM = Path(__file__).with_name("distributed_run.py")
ROOT = PROGRAM.parents[2]


def content(head: str = "relation", guidance: dict | None = None, **training) -> dict:
    """Two epochs of two steps of two episodes."""
    training = {
        "epochs": 2,
        "episodes_per_epoch": 4,
        "episodes_per_step": 2,
        "validation_episodes": 4,
        # Adam would turn rounding errors of tiny gradients into steps of full size.
        "optimizer": {"name": "sgd", "momentum": 0.0},
        "learning_rate": 0.1,
        **training,
    }
    return {
        "data": {"image_size": 32},
        "episode": {"ways": 3, "shots": 2, "queries": 2},
        "guidance": guidance or {},
        "model": {"backbone": {"name": "conv4", "width": 4}, "head": head},
        "training": training,
    }


def config(**training) -> RunConfig:
    return config_from_dict(content(**training), "the test")


def start(
    folder: Path, devices: int, configurations: dict[str, dict], cluster: dict | None = None, floatx: str = "float32"
) -> subprocess.Popen:
    """A process that trains all of them, into sub-folders of `folder`."""
    folder.mkdir(parents=True)
    (folder / "configurations.json").write_text(json.dumps(configurations))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    environment.pop("TF_CONFIG", None)
    if cluster is not None:
        environment["TF_CONFIG"] = json.dumps(cluster)
    command = [sys.executable, str(PROGRAM), str(folder), str(devices), str(folder / "configurations.json"), floatx]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(*processes: subprocess.Popen) -> None:
    for process in processes:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, (output or errors)[-3000:]


def on_two_devices(folder: Path, configurations: dict[str, dict], floatx: str = "float32") -> None:
    wait(start(folder, 2, configurations, floatx=floatx))


def on_two_workers(folder: Path, configurations: dict[str, dict], floatx: str = "float32") -> None:
    """The chief's runs are in `folder / "0"`."""
    workers = [f"localhost:{port}" for port in free_ports(2)]
    wait(
        *[
            start(
                folder / str(index),
                1,
                configurations,
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}},
                floatx,
            )
            for index in (0, 1)
        ]
    )


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def expect_equal_runs(a: RunFolder, b: RunFolder, tolerance: float = 1e-5) -> None:
    """Weights, state of the optimizer, and everything that was measured."""
    expect_equal_states(a, b, tolerance)
    assert load_arrays(a.best_file).keys() == load_arrays(b.best_file).keys()
    expect_equal_metrics(a, b, 10 * tolerance)


def expect_equal_states(a: RunFolder, b: RunFolder, tolerance: float, leave_out: str | None = None) -> None:
    first, second = (load_arrays(Checkpoints(run.checkpoints_folder).files()[-1]) for run in (a, b))
    assert first.keys() == second.keys()
    for name in first.keys() - {"progress"}:
        if leave_out is not None and leave_out in name:
            continue
        np.testing.assert_allclose(first[name], second[name], rtol=tolerance, atol=tolerance, err_msg=name)


def expect_equal_in_double_precision(one: RunFolder, two: RunFolder) -> None:
    """The weights and the losses of one replica and of two."""
    # In float64, Keras's layer on one replica does not correct its moving variance by n / (n - 1).
    expect_equal_states(one, two, tolerance=1e-9, leave_out="moving_")
    for row, other in zip(one.metrics(), two.metrics(), strict=True):
        assert [row[name] for name in ("plain_loss", "guided_loss")] == pytest.approx(
            [other[name] for name in ("plain_loss", "guided_loss")], rel=1e-6
        )


def expect_equal_metrics(a: RunFolder, b: RunFolder, tolerance: float) -> None:
    for mine, other in zip(a.metrics(), b.metrics(), strict=True):
        mine, other = ({key: value for key, value in row.items() if key != "seconds"} for row in (mine, other))
        assert mine == pytest.approx(other, rel=tolerance)


def runs(heads, *strategies, **changes) -> dict[str, dict]:
    return {
        f"{head}-{strategy}": content(head, strategy=strategy, **changes) for head in heads for strategy in strategies
    }


@pytest.fixture(scope="module")
def devices(tmp_path_factory) -> Path:
    """One replica, and two."""
    folder = tmp_path_factory.mktemp("strategies") / "devices"
    on_two_devices(folder, runs(["relation"], "default", "mirrored"))
    return folder


def write_photos(folder: Path) -> None:
    """Twelve classes of four images of noise."""
    rng = np.random.default_rng(0)
    for number in range(48):
        pixels = rng.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        write_png(folder / f"class{number % 12:02d}" / f"{number}.png", pixels)


def on_maps(content: dict, photos: Path) -> dict:
    """The same with a frozen backbone and a neck, on few images."""
    content["model"]["backbone"] |= {"trainable": False, "neck": 3}
    content["data"]["train"] = f"folder:{photos}"
    return content


# === the same numbers as one replica ===


def test_two_replicas_train_as_one(devices):
    expect_equal_runs(RunFolder(devices / "relation-default"), RunFolder(devices / "relation-mirrored"))


@pytest.mark.slow
def test_two_replicas_train_as_one_on_the_maps_of_a_frozen_backbone(tmp_path):
    write_photos(tmp_path / "photos")
    frozen = {name: on_maps(content(strategy=name), tmp_path / "photos") for name in ("default", "mirrored")}
    on_two_devices(tmp_path / "devices", frozen)
    expect_equal_runs(*(RunFolder(tmp_path / "devices" / name) for name in frozen))


@pytest.mark.slow
def test_statistics_of_a_replica_are_others(devices, tmp_path):
    on_two_devices(tmp_path / "own", {"own": content(strategy="mirrored", batch_statistics="replica", epochs=1)})
    step, own = RunFolder(devices / "relation-mirrored"), RunFolder(tmp_path / "own" / "own")
    assert own.metrics()[0]["loss"] != pytest.approx(step.metrics()[0]["loss"], rel=1e-4)


@pytest.mark.slow
def test_two_workers_train_as_one_and_the_chief_alone_writes(devices, tmp_path):
    on_two_workers(tmp_path, runs(["relation"], "multiworker"))
    chief = RunFolder(tmp_path / "0" / "relation-multiworker")
    expect_equal_runs(RunFolder(devices / "relation-default"), chief)
    assert {file.name for file in chief.path.iterdir()} == {
        file.name for file in (devices / "relation-default").iterdir()
    }
    assert [file.name for file in (tmp_path / "1").iterdir()] == ["configurations.json"]
    assert chief.load_model().head.name == "relation"


@pytest.mark.slow
@pytest.mark.parametrize(("head", "guidance"), [("cross_attention", {}), ("graph", {"mode": "none"})])
def test_other_heads_train_as_on_one_replica(tmp_path, head, guidance):
    # In double precision: how fast rounding errors of float32 grow within these steps depends on the images (weights
    # that differed by 1e-6 with some differed by 1e-3 with others). Anything but rounding would differ as much in both.
    on_two_devices(tmp_path / "devices", runs([head], "default", "mirrored", guidance=guidance), "float64")
    on_two_workers(tmp_path, runs([head], "multiworker", guidance=guidance), "float64")
    one = RunFolder(tmp_path / "devices" / f"{head}-default")
    for two in (tmp_path / "devices" / f"{head}-mirrored", tmp_path / "0" / f"{head}-multiworker"):
        expect_equal_in_double_precision(one, RunFolder(two))


@pytest.mark.slow
def test_first_step_of_a_guided_graph(tmp_path):
    one_step = {"epochs": 1, "episodes_per_epoch": 2}
    on_two_devices(tmp_path / "devices", runs(["graph"], "default", "mirrored", **one_step))
    rows = [RunFolder(tmp_path / "devices" / f"graph-{name}").metrics()[0] for name in ("default", "mirrored")]
    assert rows[0]["plain_loss"] == pytest.approx(rows[1]["plain_loss"], rel=1e-5)
    assert rows[0]["guided_loss"] == pytest.approx(rows[1]["guided_loss"], rel=1e-3)


@pytest.mark.slow
def test_a_guided_graph_trains_as_on_one_replica_in_double_precision(tmp_path):
    # Its guidance makes rounding errors grow: after two steps the weights of one and two replicas differed by 1e-3 in
    # float32, by 1e-14 in float64. Anything but rounding would differ as much in both.
    on_two_devices(tmp_path / "devices", runs(["graph"], "default", "mirrored"), "float64")
    one, two = (RunFolder(tmp_path / "devices" / f"graph-{name}") for name in ("default", "mirrored"))
    expect_equal_in_double_precision(one, two)


# === a worker that is killed ===

# After which the others must have ended; alone, they end within seconds, on a machine that does much else in minutes.
PATIENCE = 300
STEPS = 60


@pytest.fixture
def many_steps(tmp_path) -> Path:
    """Two epochs of 60 steps, with a checkpoint after every seventh step."""
    path = tmp_path / "many.yaml"
    changes = {
        "episodes_per_epoch": 2 * STEPS,
        "checkpoint_every": 7,
        "optimizer": {"name": "adam"},
        "learning_rate": 0.001,
        "strategy": "multiworker",
    }
    # JSON is YAML.
    path.write_text(json.dumps({**content(**changes), "data": {"image_size": 32, "augmentation": "full"}}))
    return path


@pytest.fixture
def two_workers(many_steps):
    """Starts `egt-tf train --resume` on two workers; what is left of them at the end of the test is killed."""
    started = []

    def start_both(run: RunFolder) -> list[subprocess.Popen]:
        workers = [f"localhost:{port}" for port in free_ports(2)]
        command = [sys.executable, "-m", "egt_tf_cli", "train", "--config", many_steps, "--run", run.path, "--resume"]
        for index in (0, 1):
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                "TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}),
            }
            started.append(
                subprocess.Popen(
                    [*map(str, command)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
            )
        return started[-2:]

    yield start_both
    for one in started:
        one.kill()
        one.communicate()


def steps_done(run: RunFolder) -> int:
    return Checkpoints(run.checkpoints_folder).newest_step()


def wait_for_steps(run: RunFolder, steps: int, worker: subprocess.Popen) -> None:
    end = time.monotonic() + 5 * PATIENCE
    while steps_done(run) < steps and worker.poll() is None and time.monotonic() < end:
        time.sleep(0.005)


def kill(worker: subprocess.Popen, other: subprocess.Popen, run: RunFolder, steps: int) -> None:
    """Kills a worker within an epoch, when a checkpoint after so many steps is there, and sees the other one end."""
    wait_for_steps(run, steps, worker)
    worker.kill()
    message = other.communicate(timeout=PATIENCE)[1]
    assert other.returncode == 2, message
    assert "Traceback" not in message, message
    # TensorFlow writes lines of its own before it, and sometimes after it.
    errors = [line for line in message.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, message
    assert errors[0].startswith("Error: all workers must stay until the end."), message
    # After the last step of an epoch there is a checkpoint as well.
    assert steps_done(run) >= steps
    assert steps_done(run) % STEPS


@pytest.mark.slow
def test_workers_that_are_killed_go_on_to_the_same_numbers(two_workers, tmp_path):
    run, alone = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "alone")
    chief, other = two_workers(run)
    kill(other, chief, run, STEPS // 3)
    chief, other = two_workers(run)
    kill(chief, other, run, STEPS + STEPS // 3)
    wait(*two_workers(run))
    wait(*two_workers(alone))
    expect_equal_states(alone, run, tolerance=0)
    best, expected = load_arrays(run.best_file), load_arrays(alone.best_file)
    for name in expected:
        np.testing.assert_array_equal(best[name], expected[name], err_msg=name)
    # The sums of an epoch are kept for all replicas together and are divided among them again.
    expect_equal_metrics(alone, run, tolerance=1e-6)
    assert not list(run.path.rglob("*.part"))


# === which strategy ===


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


def cluster(monkeypatch, workers=("localhost:1", "localhost:2"), task=None, **others):
    monkeypatch.setenv(
        "TF_CONFIG",
        json.dumps({"cluster": {"worker": list(workers), **others}, "task": task or {"type": "worker", "index": 0}}),
    )


@pytest.mark.parametrize("name", ["auto", "default"])
def test_one_device_needs_no_strategy(no_cluster, name):
    strategy = open_strategy(name)
    assert strategy is tf.distribute.get_strategy()
    assert strategy.num_replicas_in_sync == 1
    assert is_chief(strategy)


def test_one_worker_needs_no_strategy(monkeypatch):
    cluster(monkeypatch, ["localhost:1"])
    assert open_strategy("auto") is tf.distribute.get_strategy()


def test_mirrored_is_made_once(no_cluster):
    strategy = open_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert open_strategy("mirrored") is strategy
    assert strategy.num_replicas_in_sync == 1
    assert is_chief(strategy)


def test_several_machines_need_a_cluster(no_cluster):
    with pytest.raises(ConfigError, match="needs the environment variable TF_CONFIG"):
        open_strategy("multiworker")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[1]", "must be a JSON object"),
        ('{"cluster": {"worker": "a:1"}}', "must list the addresses"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "the task in TF_CONFIG"),
        ('{"cluster": {"worker": ["a:1", "b"]}, "task": {"type": "worker", "index": 0}}', "HOST:PORT. Received: 'b'"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "Received: 'a:1' twice"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "the task in TF_CONFIG"),
        (
            '{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "ps", "index": 0}}',
            "the task in TF_C",
        ),
    ],
)
def test_a_wrong_cluster_is_refused(monkeypatch, text, message):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ConfigError, match=message):
        open_strategy("auto")


# === what the devices cannot do ===


class Devices:
    """So many replicas, which this process need not have."""

    def __init__(self, replicas: int):
        self.num_replicas_in_sync = replicas


@pytest.mark.parametrize(("episodes", "replicas", "nearest"), [(1, 2, 2), (6, 4, 8)])
def test_a_step_is_divided_evenly(episodes, replicas, nearest):
    message = f"number of replicas, {replicas} here. Received: {episodes}; set it to {nearest}"
    with pytest.raises(ConfigError, match=message):
        check_devices(config(episodes_per_step=episodes, episodes_per_epoch=episodes), Devices(replicas))


def test_an_epoch_is_divided_evenly():
    check_devices(config(episodes_per_epoch=8, steps_per_execution=2), Devices(1))
    with pytest.raises(ConfigError, match=r"`training.steps_per_execution` must divide the steps of an epoch, 4 here"):
        check_devices(config(episodes_per_epoch=8, steps_per_execution=3), Devices(1))


def test_xla_is_refused_where_it_is_wrong():
    through = {"detach": False}
    with pytest.raises(ConfigError, match=r"`training.xla` must be false with guidance.detach=false"):
        check_devices(config(guidance=through, xla=True), Devices(1))
    check_devices(config(guidance={**through, "mode": "none"}, xla=True), Devices(1))
    check_devices(config(guidance=through), Devices(1))


def test_xla_is_refused_on_several_replicas():
    check_devices(config(xla=True), Devices(1))
    with pytest.raises(ConfigError, match=r"`training.xla` must be false on several replicas"):
        check_devices(config(xla=True), Devices(2))


# === who writes ===


class Resolver:
    def __init__(self, task_type, task_id, jobs=("worker",)):
        self.task_type, self.task_id = task_type, task_id
        self._jobs = jobs

    def cluster_spec(self):
        return tf.train.ClusterSpec({job: ["localhost:1", "localhost:2"] for job in self._jobs})


class Worker:
    def __init__(self, *arguments):
        self.cluster_resolver = Resolver(*arguments)


@pytest.mark.parametrize(
    ("worker", "expected"),
    [
        (("worker", 0), True),
        (("worker", 1), False),
        (("chief", 0, ("chief", "worker")), True),
        (("worker", 0, ("chief", "worker")), False),
    ],
)
def test_the_chief(worker, expected):
    assert is_chief(Worker(*worker)) is expected


def test_other_workers_write_elsewhere(tmp_path):
    run = RunFolder(tmp_path / "run")
    with own_folder(run, Worker("worker", 0)) as own:
        assert own is run
    run.checkpoints_folder.mkdir(parents=True)
    for file in (run.checkpoints_folder / "000007.npz", run.last_file):
        file.write_bytes(b"state")
    with own_folder(run, Worker("worker", 1)) as own:
        assert own.path != run.path
        assert own.last_file.read_bytes() == b"state"
        assert (own.checkpoints_folder / "000007.npz").read_bytes() == b"state"
        own.config_file.write_text("")
    assert not own.path.exists()
    assert sorted(os.listdir(run.path)) == ["checkpoints", "last.npz"]


def test_a_checkpoint_that_vanishes_meanwhile_is_not_missed(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.checkpoints_folder.mkdir(parents=True)
    (run.checkpoints_folder / "000007.npz").write_bytes(b"state")
    # Listed and not there, as a file that the chief removes between the listing and the copy.
    (run.checkpoints_folder / ".000008.npz.x.part").symlink_to(tmp_path / "gone")
    with own_folder(run, Worker("worker", 1)) as own:
        assert [file.name for file in own.checkpoints_folder.iterdir()] == ["000007.npz"]
