from __future__ import annotations

import numpy as np
import pytest

from egt_tf.published import names
from egt_tf.published.layouts import published_arrays

TABLES = {
    "rn_": names.relation_layers(prefix=""),
    "gnn_": names.graph_layers(),
    "can_": names.cross_attention_layers(),
    "backbone_can_resnet12": names.resnet12_layers(),
    "backbone_conv4np": names.conv_layers(),
    "backbone_resnet": names.resnet_layers((1, 1, 1, 1)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_the_tables_name_every_array_of_the_published_models(golden_dir, kind):
    files = sorted(golden_dir.glob(f"{kind}*.npz"))
    assert files
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            modules = {name[2:].rpartition(".")[0] for name in arrays.files if name.startswith("w/")}
        # A block as wide as its input has no shortcut.
        rest = set(TABLES[kind].values()) - modules
        assert modules <= set(TABLES[kind].values()), file.name
        assert all("hortcut" in name for name in rest), file.name


@pytest.mark.parametrize("kind", TABLES)
def test_no_module_is_used_twice(kind):
    assert len(set(TABLES[kind].values())) == len(TABLES[kind])


# === layouts ===


def test_convolutions_and_vectors():
    found = published_arrays(
        {"a/kernel": (3, 5, 2, 4), "a/bias": (4,), "n/moving_variance": (4,)}, {"a": "x.C", "n": "x.BN"}
    )
    assert {ours: (origin.name, origin.shapes) for ours, origin in found.items()} == {
        "a/kernel": ("x.C.weight", ((4, 2, 3, 5),)),
        "a/bias": ("x.C.bias", ((4,),)),
        "n/moving_variance": ("x.BN.running_var", ((4,),)),
    }
    theirs = np.arange(120.0).reshape(4, 2, 3, 5)
    ours = found["a/kernel"].read(theirs)
    assert ours[2, 4, 1, 3] == theirs[3, 1, 2, 4]
    assert ours.shape == (3, 5, 2, 4)


def test_a_dense_layer_may_be_a_convolution_of_one_pixel():
    origin = published_arrays({"a/kernel": (2, 3)}, {"a": "gnn.w.conv2d_1"})["a/kernel"]
    theirs = np.arange(6.0).reshape(3, 2)
    for shape in ((3, 2), (3, 2, 1, 1)):
        assert shape in origin.shapes
        np.testing.assert_array_equal(origin.read(theirs.reshape(shape)), theirs.T)


def test_a_flattened_map_is_read_channel_by_channel():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4))
    origin = published_arrays({"fc1/kernel": (24, 5)}, {"fc1": "fc1"}, {"fc1": maps.shape})["fc1/kernel"]
    theirs = np.random.default_rng(1).normal(size=(5, 24))
    expected = theirs @ np.moveaxis(maps, -1, 0).ravel()
    np.testing.assert_allclose(maps.ravel() @ origin.read(theirs), expected)
