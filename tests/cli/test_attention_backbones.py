"""Guided training on the frozen maps of networks with attention, gates and layer normalisation, from the command line."""

from __future__ import annotations

import json

import pytest

BACKBONES = {
    "vit_tiny": "{name: vit_tiny, patch: 8, trainable: false, neck: 8}",
    "convnext": "{name: 'applications:ConvNeXtTiny', weights: none, trainable: false, neck: 8}",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_a_head_learns_guided_on_frozen_maps_and_its_query_is_explained(egt, tmp_path, name):
    settings = {
        "model.backbone": BACKBONES[name],
        "data.image_size": "32",
        "data.augmentation": "none",
        "training.epochs": "2",
        "training.episodes_per_epoch": "4",
        "training.validation_episodes": "4",
        "episode.queries": "2",
    }
    chosen = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = egt("train", "--config", "demo", *chosen, "--run", "runs/tiny")
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in lines]
    assert len(epochs) == 2
    assert all(0 < epoch["guided_loss"] < 100 for epoch in epochs)
    (query, *_) = sorted((tmp_path / "runs" / "tiny" / "queries").glob("*.png"))
    for method in ("cp_lrp", "vit_gamma"):
        done = egt("explain", query, "--run", "runs/tiny", "--method", method, "--out", f"{method}.png")
        assert done.exit_code == 0, done.output
        assert (tmp_path / f"{method}.png").read_bytes().startswith(b"\x89PNG")
