"""What the published code calls the weights of our layers: one table a part of the model.

Sources: the code of Sun et al. (ICPR 2020), which extends that of Tseng et al. (ICLR 2020), for RelationNet, the graph
network and their backbones, and of Sun et al. and Hou et al. (NeurIPS 2019) for cross attention.

A table maps the name of our layer to the published name of the module; the arrays of both are told apart by
`egt_tf.published.layouts`. Layers that a model does not have are not looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Layers = Mapping[str, str]

# === Backbones ===


def conv_layers(prefix: str = "") -> Layers:
    """Conv4 and Conv4NP: `trunk.0.C`, `trunk.0.BN`, ..."""
    parts = {"conv": "C", "bn": "BN"}
    return {
        f"block{block + 1}_{ours}": f"{prefix}trunk.{block}.{theirs}"
        for block in range(4)
        for ours, theirs in parts.items()
    }


def resnet_layers(blocks: Sequence[int], prefix: str = "") -> Layers:
    """ResNets of simple blocks: `trunk.0`, `trunk.1`, then `trunk.4.C1`, ... for each block.

    Args:
        blocks: number of blocks of each stage.
        prefix: of every published name.
    """
    parts = {
        "conv1": "C1",
        "bn1": "BN1",
        "conv2": "C2",
        "bn2": "BN2",
        "shortcut_conv": "shortcut",
        "shortcut_bn": "BNshortcut",
    }
    names = [
        f"stage{stage}_block{block}" for stage, count in enumerate(blocks, start=1) for block in range(1, count + 1)
    ]
    # trunk.2 and trunk.3 are the ReLU and the pooling of the stem.
    return {
        "stem_conv": f"{prefix}trunk.0",
        "stem_bn": f"{prefix}trunk.1",
        **{
            f"{name}_{ours}": f"{prefix}trunk.{number}.{theirs}"
            for number, name in enumerate(names, start=4)
            for ours, theirs in parts.items()
        },
    }


def resnet12_layers(prefix: str = "") -> Layers:
    """The ResNet-12 of cross attention: `conv1`, `bn1`, then `layer1.0.conv1`, ..."""
    parts = {
        **{f"{kind}{number}": f"{kind}{number}" for kind in ("conv", "bn") for number in (1, 2, 3)},
        "shortcut_conv": "downsample.0",
        "shortcut_bn": "downsample.1",
    }
    return {
        "stem_conv": f"{prefix}conv1",
        "stem_bn": f"{prefix}bn1",
        **{
            f"stage{stage}_block1_{ours}": f"{prefix}layer{stage}.0.{theirs}"
            for stage in (1, 2, 3, 4)
            for ours, theirs in parts.items()
        },
    }


# === Heads ===


def relation_layers(prefix: str = "relation_module.") -> Layers:
    """The relation module: `layer1.C`, `layer1.BN`, `layer2.C`, `layer2.BN`, `fc1`, `fc2`."""
    parts = {"conv": "C", "bn": "BN"}
    return {
        **{
            f"block{block}_{ours}": f"{prefix}layer{block}.{theirs}"
            for block in (1, 2)
            for ours, theirs in parts.items()
        },
        "fc1": f"{prefix}fc1",
        "fc2": f"{prefix}fc2",
    }


def graph_layers() -> Layers:
    """The graph network: `fc.0`, `fc.1`, `gnn.layer_w0`, `gnn.layer_l0`, ..., `gnn.w_comp_last`, `gnn.layer_last`."""
    layers = {
        "embedding": "fc.0",
        "embedding_bn": "fc.1",
        "graph1": "gnn.layer_l0.fc",
        "graph1_bn": "gnn.layer_l0.bn",
        "graph2": "gnn.layer_l1.fc",
        "graph2_bn": "gnn.layer_l1.bn",
        "node_scores": "gnn.layer_last.fc",
    }
    for graph, module in enumerate(("layer_w0", "layer_w1", "w_comp_last"), start=1):
        for step in (1, 2, 3, 4):
            layers[f"graph{graph}_adjacency{step}"] = f"gnn.{module}.conv2d_{step}"
            layers[f"graph{graph}_adjacency{step}_bn"] = f"gnn.{module}.bn_{step}"
        layers[f"graph{graph}_adjacency_last"] = f"gnn.{module}.conv2d_last"
    return layers


def cross_attention_layers() -> Layers:
    """Cross attention: `cam.conv1.conv`, `cam.conv1.bn`, `cam.conv2`, `clasifier` (so spelled)."""
    return {
        "fusion/conv1": "cam.conv1.conv",
        "fusion/bn": "cam.conv1.bn",
        "fusion/conv2": "cam.conv2",
        "base_scores": "clasifier",
    }
