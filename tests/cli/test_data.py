from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from PIL import Image

from egt_tf.data.domains import DOMAINS
from egt_tf.data.domains.mini_imagenet_synsets import BASE, NOVEL, VAL
from egt_tf.data.sources import open_source


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch, no_network):
    """The folder of prepared sets, not there at first."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


@pytest.fixture
def photos(drawn, tmp_path):
    """A copy of the drawn folder: 12 classes with 6 images each."""
    return shutil.copytree(drawn, tmp_path / "photos")


@pytest.fixture
def mini(tmp_path):
    """A pre-cut mini-ImageNet of one image a class."""
    rng = np.random.default_rng(0)
    for synset in (*BASE, *VAL, *NOVEL):
        (tmp_path / "mini" / synset).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (16, 18, 3), np.uint8)).save(tmp_path / "mini" / synset / "0.png")
    return tmp_path / "mini"


def line_of(result, name):
    (line,) = [line for line in result.stdout.splitlines() if line.startswith(f"{name} ")]
    return line


# === list and prepare ===


def test_list(egt):
    result = egt("data", "list")
    assert result.exit_code == 0
    for domain in DOMAINS.values():
        assert f"not prepared: egt-tf data prepare {domain.name}" in line_of(result, f"domain:{domain.name}")
    for kind in (
        "folder:DIR",
        "filelist:FILE.json",
        "tfds:NAME[:CONFIG][:VERSION]",
        "synthetic:shapes",
        "synthetic:fog",
    ):
        assert line_of(result, kind)


def test_prepare_verify_and_use(egt, mini, data_folder):
    result = egt("data", "prepare", "mini_imagenet", "--from", mini)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[:4] == [
        ["split", "classes", "images", "a", "class"],
        ["base", "64", "64", "1..1"],
        ["val", "16", "16", "1..1"],
        ["novel", "20", "20", "1..1"],
    ]
    assert result.stdout.splitlines()[-1].startswith(f"prepared: {data_folder}/mini_imagenet/1.0.0  use it as: domain:")
    assert f"prepared in {data_folder}/mini_imagenet/1.0.0" in line_of(egt("data", "list"), "domain:mini_imagenet")
    assert egt("data", "prepare", "mini_imagenet").stdout.splitlines()[-1].startswith("was prepared: ")
    assert egt("data", "show", "domain:mini_imagenet", "--out", "sheet.png").exit_code == 0


def test_prepare_with_an_unreadable_image(egt, fails, mini, tmp_path):
    (mini / NOVEL[0] / "0.png").write_bytes(b"")
    fails(
        "data",
        "prepare",
        "mini_imagenet",
        "--from",
        mini,
        writes=True,
        says=["1 unreadable images", "egt-tf data check domain:mini_imagenet"],
    )


def test_prepare_errors(fails, mini):
    fails("data", "prepare", "miniImagenet", says=["did you mean 'mini_imagenet'?"])
    fails("data", "prepare", "mini_imagenet", says=["sets/downloads/manual", "ILSVRC2012_img_train.tar"])
    fails("data", "prepare", "mini_imagenet", "--from", "nowhere", says=["must exist", "nowhere"])
    shutil.rmtree(mini / VAL[0])
    result = fails(
        "data", "prepare", "mini_imagenet", "--from", "mini", writes=True, says=["1 classes are missing", VAL[0]]
    )
    assert result.stdout == ""


def test_a_failed_prepare_leaves_no_files(fails, mini, data_folder):
    shutil.rmtree(mini / VAL[0])
    fails("data", "prepare", "mini_imagenet", "--from", "mini", writes=True)
    assert [path for path in data_folder.rglob("*") if path.is_file()] == []


# === check ===


def test_check_of_good_images(egt, photos):
    result = egt("data", "check", "folder:photos", "--ways", 3, "--shots", 3, "--queries", 3)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "folder:photos: 12 classes, 72 images, 0 unreadable, 0 in two splits, 0 in two classes, "
        "0 splits or classes with too few, 0 notes\n"
    )


def test_check_lists_what_is_wrong(egt, photos):
    (photos / "class01" / "2.png").write_text("text")
    shutil.copy(photos / "class04" / "0.png", photos / "class03" / "again.png")
    (photos / "class05" / "0.png").unlink()
    Image.new("CMYK", (30, 30)).save(photos / "class06" / "print.jpg")
    result = egt("data", "check", "folder:photos", "--ways", 3, "--shots", 3, "--queries", 3)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    lines = result.stdout.splitlines()
    assert "unreadable: photos/class01/2.png: not a PNG, JPEG, BMP, GIF, WebP or HEIC image" in lines
    assert any(line.startswith("in two splits: photos/class03/again.png") and "class04/0.png" in line for line in lines)
    few = [line for line in lines if line.startswith("too few: ")]
    assert len(few) == 2
    assert "'class01': has 5" in few[0]
    assert "'class05': has 5" in few[1]
    assert "note: photos/class06/print.jpg: CMYK, converted to RGB" in lines
    assert "1 unreadable, 1 in two splits, 0 in two classes, 2 splits or classes with too few, 1 notes" in lines[-1]


def test_check_wants_enough_images_for_the_usual_episode(egt, photos):
    result = egt("data", "check", "folder:photos")
    assert result.exit_code == 2
    assert "an episode takes 21 of a class" in result.stdout


@pytest.mark.slow
def test_check_and_train_want_the_same_and_name_what_would_do(egt, fails, photos, tiny):
    """12 classes: base has 6, val and novel 3; 6 images each. The check was content with them, the training was not."""
    result = egt("data", "check", "folder:photos")
    remedy = "--set episode.ways=3 --set episode.queries=1"
    assert result.stderr.endswith(f"to train on it all the same: {remedy}\n")
    assert "too few: split 'val': has 3 classes, a 5-way episode takes 5" in result.stdout
    assert "split 'base'" not in result.stdout
    arguments = ("train", "--config", tiny, "--set", "data.train=folder:photos", "--run", "runs/new")
    wanted = [each for key in ("ways=5", "shots=5", "queries=16") for each in ("--set", f"episode.{key}")]
    fails(*arguments, *wanted, says=["5 shots + 16 queries need 21 images a class", f"this would do: {remedy}"])
    assert egt("data", "check", "folder:photos", "--ways", 3, "--queries", 1).exit_code == 0
    assert egt(*arguments, *wanted, *remedy.split()).exit_code == 0


def test_notes_alone_are_no_failure(egt, photos):
    Image.new("CMYK", (30, 30)).save(photos / "class06" / "print.jpg")
    assert egt("data", "check", "folder:photos", "--ways", 3, "--shots", 1, "--queries", 1).exit_code == 0


# === show, stats, export-filelist ===


def test_show(egt, photos):
    result = egt(
        "data",
        "show",
        "folder:photos",
        "--out",
        "new/sheet.png",
        "--split",
        "base",
        "--images",
        2,
        "--tile",
        32,
        "--classes",
        3,
    )
    assert result.exit_code == 0
    assert "split base): 3 of 6 classes" in result.stdout
    assert Image.open("new/sheet.png").size == (8 + 3 * 40, 47 + 2 * 40)


def test_show_errors(fails, photos):
    fails("data", "show", "folder:nowhere", "--out", "a.png", says=["cannot read the folder nowhere"])
    for image in (photos / "class03").iterdir():
        image.write_bytes(b"")
    fails("data", "show", "folder:photos", "--out", "a.png", says=["photos/class03/"])
    fails("data", "show", "foldr:photos", "--out", "a.png", says=["did you mean 'folder:photos'?"])
    fails("data", "show", "domain:cubs", "--out", "a.png", says=["did you mean 'cub'?"])
    fails("data", "show", "domain:cub", "--out", "a.png", says=["not prepared", "egt-tf data prepare cub"])
    fails("data", "show", "synthetic:shapes", "--out", "photos/class00/0.png/a.png", says=["photos/class00/0.png"])


def test_stats_as_a_table_and_as_json(egt, photos):
    table = egt("data", "stats", "folder:photos")
    assert table.exit_code == 0
    assert line_of(table, "base").split()[:6] == ["base", "6", "36", "6", "24", "24"]
    found = json.loads(egt("data", "stats", "folder:photos", "--json").stdout)
    assert [(one["split"], one["images"]) for one in found["splits"]] == [
        ("base", 36),
        ("val", 18),
        ("novel", 18),
        ("all", 72),
    ]
    shown = line_of(table, "all").split()
    assert shown[6:9] == [f"{mean:.3f}" for mean in found["splits"][3]["channel_mean"]]
    some = json.loads(egt("data", "stats", "folder:photos", "--json", "--images", 2).stdout)
    assert some["splits"][3]["measured"] == 24


def test_stats_of_a_missing_folder(fails):
    fails("data", "stats", "folder:nowhere", says=["cannot read the folder nowhere"])


def test_export_and_read_back(egt, photos):
    result = egt("data", "export-filelist", "folder:photos", "--out", "lists")
    assert result.exit_code == 0
    assert "written: lists/novel.json  18 images" in result.stdout
    assert open_source("filelist:lists/base.json").split("novel").class_names == ("class03", "class07", "class11")
    assert egt("data", "check", "filelist:lists/base.json", "--ways", 3, "--shots", 1, "--queries", 5).exit_code == 0


def test_export_errors(fails, photos):
    fails("data", "export-filelist", "folder:photos", "--out", "photos", says=["new or an empty folder", "photos"])
    fails("data", "export-filelist", "synthetic:shapes", "--out", "lists", says=["--copy-images"])
    (photos / "class00" / "0.png").write_bytes(b"")
    fails("data", "export-filelist", "folder:photos", "--out", "lists", "--copy-images", says=["class00/0.png"])


def test_training_says_which_class_has_too_few_images(fails, photos):
    fails(
        "train",
        "--config",
        "demo",
        "--set",
        "data.train=folder:photos",
        "--run",
        "runs/few",
        says=["need 13 images a class", "class 'class00'"],
    )


def test_interrupted(process, mini, data_folder):
    """Ctrl-C while the set is written: one line, exit code 130, nothing half-written."""
    running = process("data", "prepare", "mini_imagenet", "--from", mini, cwd=mini.parent)
    deadline = time.monotonic() + 60
    while not list(data_folder.glob("mini_imagenet/*")) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert (running.returncode, errors.splitlines()[-1:]) == (130, ["Error: interrupted"])
    assert not list(data_folder.glob("mini_imagenet/incomplete*"))
