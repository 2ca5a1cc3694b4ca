"""Compares our layers, rules and guidance with arrays that the published PyTorch code produced.

    python tests/parity/check_golden.py FILE.npz...            float32
    python tests/parity/check_golden.py --float64 FILE.npz...  the same in float64, f64/* arrays included

The files zennit_* hold single rules and composites of zennit instead.

Prints for every array its name, its error (max abs / max |reference|), the tolerance and ok or FAIL. The exit code is 1
if an array fails or is unknown. The arrays are NCHW under PyTorch's names; ours are NHWC.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from egt_tf.keras_api import keras

sys.path.insert(0, str(Path(__file__).parent))

import published_weights as published

from egt_tf.backbones.conv import conv4np
from egt_tf.backbones.resnet import resnet10, resnet12
from egt_tf.heads import CrossAttentionHead, GraphHead, RelationHead
from egt_tf.heads.layers import EpisodeBatchNormalization
from egt_tf.lrp import COMPOSITES, Composite, Entry, record, reverse
from egt_tf.lrp.linear_rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZPlus
from egt_tf.lrp.presets import structural_entries
from egt_tf.lrp.rules import ZENNIT_STABILIZER, Derivative, Pass, Rule, Share
from egt_tf.published.names import conv_layers, resnet12_layers
from egt_tf.training.guidance import guided_scores, loss_weights
from egt_tf.training.guidance_weights import relevance_weights

# What float32 can attain on these arrays, measured when they were made.
FORWARD, RELEVANCE, GRADIENT, IMAGE_RELEVANCE, DOUBLE = 2e-5, 2e-4, 1e-3, 1e-4, 1e-5
# Some of a graph network's leaky ReLUs sit within float32's noise of their kink: one that flips changes the gradient
# of a weight by a multiple of the rounding. There is no float64 reference for these; in float64 nothing flips.
WEIGHTS_AT_KINKS, WEIGHTS_AT_KINKS_DOUBLE = 5e-3, 2e-4
# zennit's arrays were computed and stored in float64.
ZENNIT, ZENNIT_DOUBLE = 1e-4, 1e-9
# Without its bias a sum of both signs nearly vanishes: z is 3e-4 of its summands, so R / z has four digits in float32.
ZENNIT_NEAR_ZERO = 1e-3

FEATURE_GRADIENTS = ("grad_support", "grad_query")

# Hard-coded in the published code, also where there are three ways.
PUBLISHED_BETA = 4.0


@dataclasses.dataclass(frozen=True)
class Value:
    """One computed array, in the reference's layout, with the tolerance of its comparison.

    `euclidean` compares by the Euclidean norm, and in float32 too with the float64 reference: single values jump where
    a unit sits at its kink. `scale` names another reference whose maximum the error is divided by: a convolution's bias
    before a batch normalisation has the gradient 0, and both sides hold the rounding noise of sums as large as the
    kernel's gradient.
    """

    array: np.ndarray
    tolerance: float
    scale: str | None = None
    euclidean: bool = False


Values = dict[str, Value]


def channels_first(array) -> np.ndarray:
    """`(..., H, W, C)` to `(..., C, H, W)`."""
    return np.moveaxis(np.asarray(array), -1, -3)


def relation_values(golden: Mapping[str, np.ndarray]) -> Values:
    """RelationNet: plain and guided scores, relevance, losses and gradients of one episode."""
    ways, shots, channels, height, width = golden["support"].shape
    head = RelationHead((height, width, channels))
    published.set_relation_weights(head.score_model, _weights(golden))
    support, query = (published.to_channels_last(golden[name]) for name in ("support", "query"))
    support = tf.constant(support.reshape(1, ways * shots, height, width, channels))
    query = tf.constant(query.reshape(1, -1, height, width, channels))
    classes = tf.one_hot([np.repeat(np.arange(ways), shots)], ways, dtype=support.dtype)
    labels = tf.constant([np.repeat(np.arange(ways), golden["query"].shape[1])])
    weights = loss_weights("guided", 1.0, None, shots)
    composite = COMPOSITES.get("fsc")

    with tf.GradientTape() as tape:
        tape.watch([support, query])
        features = head.relate(support, classes, query)
        scores = guided_scores(head, features, composite, PUBLISHED_BETA)
        plain, guided = (head.loss(s, labels)[0] for s in (scores.plain, scores.guided))
        total = weights.plain * plain + weights.guided * guided
    variables = head.score_model.trainable_variables
    gradients = tape.gradient(total, [support, query, *variables])
    plain_eval = head.score(features, training=False)

    rows = (-1, height, width, 2 * channels)
    relevance, weight = (tf.reshape(x, rows) for x in (scores.relevance[0], scores.weights[0]))
    forward = {
        "prototype": channels_first(features[0][0]),
        "raw_relations": scores.plain[0],
        "raw_relations_eval": plain_eval[0],
        "scores": tf.sigmoid(scores.plain[0]),
        "start_relevance": scores.output_relevance[0],
        "loss_standard": plain,
        "eval_scores": tf.sigmoid(plain_eval[0]),
        "eval_loss": head.loss(plain_eval, labels)[0],
    }
    explained = {
        "relevance": channels_first(relevance),
        "lrp_weight": channels_first(weight),
        "lrp_weight_proto_only": channels_first(relevance_weights(relevance[..., :channels])),
        "lrp_weight_query_only": channels_first(relevance_weights(relevance[..., channels:])),
        "raw_relations_lrp": scores.guided[0],
        "scores_lrp": tf.sigmoid(scores.guided[0]),
        "loss_lrp": guided,
        "loss_total": total,
        **_relation_trace(head, features, scores.output_relevance, composite),
    }
    slopes = {
        "grad_support": channels_first(gradients[0]).reshape(golden["support"].shape),
        "grad_query": channels_first(gradients[1]).reshape(golden["query"].shape),
        **_relation_weight_gradients(head.score_model, variables, gradients[2:]),
    }
    values = {**_all(forward, FORWARD), **_all(explained, RELEVANCE), **_all(slopes, GRADIENT)}
    for name in ("grad_weight/layer1.C", "grad_weight/layer2.C"):
        values[f"{name}.bias"] = Value(slopes[f"{name}.bias"], GRADIENT, scale=f"{name}.weight")
    if keras.backend.floatx() == "float64":
        # Stored as the bytes of one float64.
        values["loss_total_float64"] = Value(np.asarray(total), DOUBLE)
    return values


def _relation_trace(head, features, start, composite) -> dict[str, np.ndarray]:
    trace = record(head.score_model, features, training=True)
    names = {
        "fc2_in": "fc1_relu",
        "fc1_in": "flatten",
        "layer2.pool_in": "block2_relu",
        "layer2.conv_in": "block1_pool",
        "layer1.pool_in": "block1_relu",
    }
    wanted = [trace.output_of(layer) for layer in [*names.values(), "pairs"]]
    values = {}
    for name, r in zip([*names, "layer1.conv_in"], reverse(trace, start, composite, wanted)):
        r = r.numpy().reshape(-1, *r.shape[3:])
        if name == "fc1_in":
            kernel_rows = head.score_model.get_layer("flatten").input_shape[-3:]
            r = channels_first(r.reshape(-1, *kernel_rows)).reshape(len(r), -1)
        values[f"trace_relevance/{name}"] = channels_first(r) if r.ndim == 4 else r
    return values


def _relation_weight_gradients(score_model, variables, gradients) -> dict[str, np.ndarray]:
    slope = {id(v): np.asarray(g) for v, g in zip(variables, gradients)}
    values = {}
    for block in (1, 2):
        convolution, norm = (score_model.get_layer(f"block{block}_{part}") for part in ("conv", "bn"))
        values[f"layer{block}.C.weight"] = slope[id(convolution.kernel)].transpose(3, 2, 0, 1)
        values[f"layer{block}.C.bias"] = slope[id(convolution.bias)]
        values[f"layer{block}.BN.weight"] = slope[id(norm.gamma)]
        values[f"layer{block}.BN.bias"] = slope[id(norm.beta)]
    for name in ("fc1", "fc2"):
        dense = score_model.get_layer(name)
        kernel = slope[id(dense.kernel)]
        if name == "fc1":
            maps = score_model.get_layer("flatten").input_shape[-3:]
            kernel = channels_first(kernel.T.reshape(-1, *maps)).reshape(kernel.shape[1], -1).T
        values[f"{name}.weight"] = kernel.T
        values[f"{name}.bias"] = slope[id(dense.bias)]
    return {f"grad_weight/{name}": value for name, value in values.items()}


def graph_values(golden: Mapping[str, np.ndarray]) -> Values:
    """Graph network: nodes, adjacency, plain and guided scores, relevance, losses and gradients of one episode."""
    ways, shots, width = golden["support"].shape
    head = GraphHead((1, 1, width), ways)
    layers = published.set_graph_weights(head, _weights(golden))
    support, query = (tf.constant(golden[name].reshape(1, -1, 1, 1, width)) for name in ("support", "query"))
    classes = tf.one_hot([np.repeat(np.arange(ways), shots)], ways, dtype=support.dtype)
    labels = tf.constant([np.repeat(np.arange(ways), golden["query"].shape[1])])
    weights = loss_weights("guided", 1.0, None, shots)

    with tf.GradientTape() as tape:
        tape.watch([support, query])
        features = head.relate(support, classes, query)
        scores = guided_scores(head, features, COMPOSITES.get("fsc"), PUBLISHED_BETA)
        plain, guided = (head.loss(s, labels)[0] for s in (scores.plain, scores.guided))
        total = weights.plain * plain + weights.guided * guided
    variables = head.trainable_variables
    support_slope, query_slope, *slopes = tape.gradient(total, [support, query, *variables])

    order = published_node_order(ways, shots)
    trace = record(head.score_model, features, training=True)
    plain_eval = head.score(features, training=False)
    forward = {
        "nodes": trace.output_of("level0").numpy()[0][:, order],
        "scores": scores.plain[0],
        "node_scores": trace.output_of("node_scores").numpy()[0][:, order],
        "start_relevance": scores.output_relevance.numpy()[0][:, order],
        "loss_standard": plain,
        "eval_scores": plain_eval[0],
        "eval_loss": head.loss(plain_eval, labels)[0],
        **{
            name: trace.output_of(f"{layer}_adjacency").numpy()[0][:, order][:, :, order]
            for name, layer in (("adjacency0", "graph1"), ("adjacency1", "graph2"), ("adjacency_last", "graph3"))
        },
    }
    explained = {
        "relevance": scores.relevance[0].numpy()[0][:, order],
        "lrp_weight": scores.weights[0].numpy()[0][:, order],
        "scores_lrp": scores.guided[0],
        "loss_lrp": guided,
        "loss_total": total,
        **_graph_trace(trace, scores.output_relevance, order),
    }
    values = {
        **_all(forward, FORWARD),
        **_all(explained, RELEVANCE),
        **_graph_weight_gradients(golden, layers, dict(zip(map(id, variables), slopes))),
    }
    # Which leaky ReLUs flip in float32 depends on the processor; in float64 none does, and these agree to 1e-5.
    tolerance = GRADIENT if keras.backend.floatx() == "float64" else WEIGHTS_AT_KINKS
    for name, slope in (("support", support_slope), ("query", query_slope)):
        values[f"grad_{name}"] = Value(slope.numpy().reshape(golden[name].shape), tolerance, euclidean=True)
    if keras.backend.floatx() == "float64":
        values["loss_total_float64"] = Value(np.asarray(total), DOUBLE)
    return values


def published_node_order(ways: int, shots: int) -> list[int]:
    """Our position of each published node: theirs are class by class, the query of a class behind its support."""
    return [position for k in range(ways) for position in (*range(k * shots, (k + 1) * shots), ways * shots + k)]


def _graph_trace(trace, start, order) -> dict[str, np.ndarray]:
    """Relevance of the input of each level, as far as it comes from that level's neighbourhood alone."""
    wanted = [trace.output_of(name) for name in ("level0", "level1", "level2")]
    relevance = reverse(trace, start, COMPOSITES.get("fsc"), wanted, trace.output_of("node_scores"))
    total, first, second = (r.numpy()[0][:, order] for r in relevance)
    width = total.shape[-1]
    return {
        "relevance_nodes0": total - first[..., :width] - second[..., :width],
        "relevance_nodes1": first,
        "relevance_nodes2": second,
    }


def _graph_weight_gradients(golden, layers, slopes) -> Values:
    values = {}
    tolerance = WEIGHTS_AT_KINKS_DOUBLE if keras.backend.floatx() == "float64" else WEIGHTS_AT_KINKS
    for prefix, layer in layers.items():
        is_norm = isinstance(layer, EpisodeBatchNormalization)
        weight, bias = (layer.gamma, layer.beta) if is_norm else (layer.kernel, layer.bias)
        name = f"grad_weight/{prefix}"
        if f"{name}.weight" in golden:
            slope = np.asarray(slopes[id(weight)]).T.reshape(golden[f"{name}.weight"].shape)
            values[f"{name}.weight"] = Value(slope, tolerance, euclidean=True)
            # Neither a normalisation nor a softmax sees a constant; the scores do.
            without_effect = not is_norm and prefix != "gnn.layer_last.fc"
            values[f"{name}.bias"] = Value(
                np.asarray(slopes[id(bias)]), tolerance, f"{name}.weight" if without_effect else None, euclidean=True
            )
    return values


def cross_attention_values(golden: Mapping[str, np.ndarray]) -> Values:
    """Cross attention: attention, plain and guided scores, relevance, losses and gradients of some episodes."""
    channels, *sides = golden["support"].shape[2:]
    head = CrossAttentionHead((*sides, channels), base_classes=len(golden["w/clasifier.weight"]))
    episodes = CrossAttentionEpisodes(head, golden)
    # Inference comes first: training moves the running statistics.
    inference = episodes.inference()
    published_step = episodes.guided_step(detach=False)
    detached = {name: value for name, value in episodes.guided_step(detach=True).items() if name in FEATURE_GRADIENTS}
    return _as_exact(
        {
            **inference,
            **published_step,
            **_named("detached/", detached),
            **_named("standard/", episodes.standard_step()),
        }
    )


class CrossAttentionEpisodes:
    """The inputs of a cross attention file, and what our head makes of them."""

    def __init__(self, head: CrossAttentionHead, golden: Mapping[str, np.ndarray]):
        self.layers = published.set_cross_attention_weights(head, _weights(golden))
        self.head = head
        self.support, self.query = (
            tf.constant(published.to_channels_last(golden[name])) for name in ("support", "query")
        )
        classes = golden["support_labels"]
        self.classes = tf.one_hot(classes, classes.max() + 1, dtype=self.support.dtype)
        self.labels, self.base_labels = golden["query_labels"], golden["query_global_labels"]

    def inference(self) -> Values:
        """Scores with the running statistics."""
        scores = self.head([self.support, self.classes, self.query], training=False)
        return _all({"eval_scores": scores}, FORWARD)

    def guided_step(self, detach: bool) -> Values:
        """Everything of one guided training step."""
        with tf.GradientTape() as tape:
            tape.watch([self.support, self.query])
            features = self.head.relate(self.support, self.classes, self.query, training=True)
            scores = guided_scores(self.head, features, COMPOSITES.get("fsc_can"), PUBLISHED_BETA, detach=detach)
            base, ways, total = self._losses(features, scores.guided)
        forward = {
            **self._attention(),
            "attended_query": channels_first(features[0]),
            "attended_support_pooled": features[1],
            "cosine": scores.plain / self.head.scale,
            "global_scores": self._base_scores(features),
            "loss_global": base,
            "start_relevance": scores.output_relevance,
        }
        explained = {
            "relevance_query": channels_first(scores.relevance[0]),
            "relevance_channel": scores.relevance[1],
            "weight_query": channels_first(scores.weights[0]),
            "weight_channel": scores.weights[1],
            "cls_scores": _position_scores(scores.guided),
            "loss_nn": ways,
            "loss_total": total,
        }
        values = {**_all(forward, FORWARD), **_all(explained, RELEVANCE), **self._gradients(tape, total)}
        if keras.backend.floatx() == "float64":
            values["loss_total_float64"] = Value(np.asarray(total), DOUBLE)
        return values

    def standard_step(self) -> Values:
        """Losses and gradients without guidance."""
        with tf.GradientTape() as tape:
            tape.watch([self.support, self.query])
            features = self.head.relate(self.support, self.classes, self.query, training=True)
            scores = self.head.training_scores(features, self.head.score(features, training=True))
            _, ways, total = self._losses(features, scores)
        forward = {"cls_scores": _position_scores(scores), "loss_nn": ways, "loss_total": total}
        gradients = self._gradients(tape, total)
        return {**_all(forward, FORWARD), **{name: gradients[name] for name in FEATURE_GRADIENTS}}

    def _losses(self, features, scores):
        base = tf.reduce_mean(self.head.auxiliary_loss(features, self.labels, self.base_labels))
        ways = tf.reduce_mean(self.head.loss(scores, self.labels))
        # The published loss_nn comes without its weight of one half.
        return base, 2 * ways, base + ways

    def _gradients(self, tape, loss) -> Values:
        variables = {
            f"{prefix}.{name}": variable
            for prefix, layer in self.layers.items()
            for name, variable in zip(("weight", "bias"), layer.trainable_weights)
        }
        slopes = tape.gradient(loss, [self.support, self.query, *variables.values()])
        values = {name: channels_first(slope) for name, slope in zip(FEATURE_GRADIENTS, slopes)}
        for name, slope in zip(variables, slopes[2:]):
            slope = np.asarray(slope)
            values[f"grad_weight/{name}"] = slope.T[:, :, None, None] if slope.ndim == 2 else slope
        before_norm = "grad_weight/cam.conv1.conv"
        bias = Value(values[f"{before_norm}.bias"], GRADIENT, scale=f"{before_norm}.weight")
        return {**_all(values, GRADIENT), f"{before_norm}.bias": bias}

    def _attention(self):
        """Attention of a training pass as `(episodes, ways, queries, positions)`."""
        names = {"attention_support": "support_attention", "attention_query": "query_attention"}
        outputs = [self.head.relate_model.get_layer(layer).output for layer in names.values()]
        relate = keras.Model(self.head.relate_model.inputs, outputs)
        maps = relate([self.support, self.classes, self.query], training=True)
        return {name: tf.transpose(tf.reshape(x, (*x.shape[:3], -1)), (0, 2, 1, 3)) for name, x in zip(names, maps)}

    def _base_scores(self, features):
        attended = tf.gather(features[0], self.labels, axis=2, batch_dims=2)
        scores = channels_first(self.head.auxiliary_model(attended))
        return scores.reshape(-1, *scores.shape[2:])


def _position_scores(scores) -> np.ndarray:
    """`(episodes, queries, h, w, ways)` as `(episodes * queries, ways, h, w)`."""
    scores = channels_first(scores)
    return scores.reshape(-1, *scores.shape[2:])


def _as_exact(values: Values) -> Values:
    """In float64 these differ from the reference by its rounding alone."""
    if keras.backend.floatx() != "float64":
        return values
    return {name: dataclasses.replace(value, tolerance=DOUBLE) for name, value in values.items()}


def _named(prefix: str, values: Values) -> Values:
    return {f"{prefix}{name}": value for name, value in values.items()}


def resnet_values(golden: Mapping[str, np.ndarray]) -> Values:
    """ResNet10: features, running statistics after a training pass, and relevance down to the pixels."""
    weights = _weights(golden)
    widths = [weights[f"trunk.{stage}.C1.weight"].shape[0] for stage in (4, 5, 6, 7)]
    backbone = resnet10(golden["images"].shape[-1], widths=widths)
    layers = published.resnet_layers(weights)
    published.set_weights(backbone, weights, layers)
    images = _images(golden)
    # Stage 1 starts after the stem; each other stage where the one before it ends.
    stages = {1: "stem_pool", 2: "stage1_block1_relu", 3: "stage2_block1_relu", 4: "stage3_block1_relu"}
    explained = _resnet_relevance(backbone, images[:1], golden, "fsc", stages)
    return {**explained, **_backbone_values(backbone, images, layers)}


def resnet12_values(golden: Mapping[str, np.ndarray]) -> Values:
    """ResNet12 of cross attention: as `resnet_values`, with the rules of its own code."""
    weights = _weights(golden)
    widths = [weights[f"layer{stage}.0.conv1.weight"].shape[0] for stage in (1, 2, 3, 4)]
    backbone = resnet12(golden["images"].shape[-1], widths=widths)
    layers = resnet12_layers()
    published.set_weights(backbone, weights, layers)
    images = _images(golden)
    explained = _resnet_relevance(backbone, images[:1], golden, "fsc_can", {})
    return _as_exact({**explained, **_backbone_values(backbone, images, layers)})


def _resnet_relevance(backbone, image, golden, composite, stages) -> Values:
    trace = record(backbone, [image])
    wanted = [trace.inputs[0], *(trace.output_of(layer) for layer in stages.values())]
    start = tf.constant(published.to_channels_last(golden["lrp/feature_relevance"]), image.dtype)
    image_relevance, *stage_relevance = map(channels_first, reverse(trace, start, COMPOSITES.get(composite), wanted))
    values = {"image_relevance": image_relevance, "image_heatmap_sum_over_channels": image_relevance.sum(axis=1)}
    values.update((f"relevance_at_input_of_stage{stage}", r) for stage, r in zip(stages, stage_relevance))
    return _all({f"lrp/{name}": value for name, value in values.items()}, IMAGE_RELEVANCE)


def conv4np_values(golden: Mapping[str, np.ndarray]) -> Values:
    """Conv4NP: features and running statistics after a training pass."""
    weights = _weights(golden)
    backbone = conv4np(golden["images"].shape[-1], width=weights["trunk.0.C.weight"].shape[0])
    layers = conv_layers()
    published.set_weights(backbone, weights, layers)
    return _backbone_values(backbone, _images(golden), layers)


def _backbone_values(backbone, images, layers) -> Values:
    values = {
        "features_eval": channels_first(backbone(images, training=False)),
        "features_train": channels_first(backbone(images, training=True)),
    }
    for name, prefix in layers.items():
        layer = backbone.get_layer(name)
        if isinstance(layer, keras.layers.BatchNormalization):
            values[f"running_after/{prefix}.running_mean"] = layer.moving_mean
            values[f"running_after/{prefix}.running_var"] = layer.moving_variance
    return _all(values, FORWARD)


def _each_weighted_sum(convolution: Rule, dense: Rule) -> Composite:
    return Composite(
        [
            Entry(convolution, layer_type="convolution"),
            Entry(dense, layer_type="dense"),
            Entry(Share(ZENNIT_STABILIZER), layer_type="mean"),
            *structural_entries(max_pool=Derivative(), relu=Pass()),
        ]
    )


def zennit_composites() -> dict[str, Composite]:
    """Our composite for each case of zennit's files."""
    guard = {"stabilizer": ZENNIT_STABILIZER}
    dense, without_bias = Epsilon(ZENNIT_STABILIZER), Epsilon(ZENNIT_STABILIZER, bias=False)
    pairs = {
        "epsilon_1e-6_nobias": (without_bias, without_bias),
        "gamma_0.25_conv_epsilon_dense": (Gamma(0.25, **guard), dense),
        "gamma_1_conv_epsilon_dense": (Gamma(1.0, **guard), dense),
        "gamma_0.25_all_nobias": 2 * (Gamma(0.25, bias=False, **guard),),
        "zplus_conv_epsilon_dense": (ZPlus(bias=True, **guard), dense),
        "alpha2_beta1_conv_epsilon_dense": (AlphaBeta(2.0, 1.0, **guard), dense),
        "alpha1_beta0_conv_epsilon_dense_nobias": (AlphaBeta(1.0, 0.0, bias=False, **guard), without_bias),
        "wsquare_conv_epsilon_dense": (WSquare(bias=True, **guard), dense),
        "flat_conv_epsilon_dense": (Flat(**guard), dense),
    }
    named = {
        "epsilon_1e-6": "epsilon",
        "epsilon_0.25": {"name": "epsilon", "epsilon": 0.25},
        "composite_epsilon_plus": "epsilon_plus",
        "composite_epsilon_gamma_box_low-3_high3": {"name": "epsilon_gamma_box", "low": -3.0, "high": 3.0},
        "composite_epsilon_alpha2_beta1_flat": "epsilon_alpha2_beta1_flat",
    }
    return {
        **{case: _each_weighted_sum(*rules) for case, rules in pairs.items()},
        **{case: COMPOSITES.get(identifier) for case, identifier in named.items()},
    }


def zennit_model(golden: Mapping[str, np.ndarray]) -> keras.Model:
    """The network of zennit's files, with their weights.

    The second convolution has strides 2 and one row of padding on every side, which is not TensorFlow's "same". It is
    computed at every position, of which every second one is kept: padding in a layer of its own would count as input
    under the rules that do not look at the input's values (flat, w^2, z^B).
    """
    weights, layers = _weights(golden), keras.layers
    inputs = keras.Input(golden["input"].shape[2:] + golden["input"].shape[1:2])
    x = layers.Conv2D(len(weights["0.bias"]), 3, padding="same", activation="relu", name="0")(inputs)
    x = layers.Conv2D(len(weights["2.bias"]), 3, padding="same", name="2")(x)
    x = layers.Activation("relu")(layers.MaxPooling2D(1, strides=2, name="every_second")(x))
    # PyTorch flattens channel by channel.
    x = layers.Flatten()(layers.Permute((3, 1, 2))(layers.AveragePooling2D(2)(x)))
    model = keras.Model(inputs, layers.Dense(len(weights["6.bias"]), name="6")(x))
    for name in ("0", "2", "6"):
        kernel = weights[f"{name}.weight"]
        kernel = kernel.T if kernel.ndim == 2 else kernel.transpose(2, 3, 1, 0)
        model.get_layer(name).set_weights([kernel, weights[f"{name}.bias"]])
    return model


def zennit_values(golden: Mapping[str, np.ndarray]) -> Values:
    """A small convolutional network: output, and relevance down to the input under each rule and composite."""
    trace = record(zennit_model(golden), [tf.constant(published.to_channels_last(golden["input"]))])
    output = trace.outputs[0]
    start = output * tf.one_hot(golden["target"], output.shape[1], dtype=output.dtype)
    values = {
        f"relevance/{case}": channels_first(reverse(trace, start, composite)[0])
        for case, composite in zennit_composites().items()
    }
    if keras.backend.floatx() == "float64":
        return _all({"output": output, **values}, ZENNIT_DOUBLE)
    near_zero = "relevance/epsilon_1e-6_nobias"
    return {**_all({"output": output, **values}, ZENNIT), near_zero: Value(values[near_zero], ZENNIT_NEAR_ZERO)}


VALUES_OF: dict[str, Callable[[Mapping[str, np.ndarray]], Values]] = {
    "rn_": relation_values,
    "gnn_": graph_values,
    "can_": cross_attention_values,
    "backbone_can_resnet12": resnet12_values,
    "backbone_resnet": resnet_values,
    "backbone_conv4np": conv4np_values,
    "zennit_": zennit_values,
}
INPUTS = (
    "support",
    "query",
    "images",
    "lrp/feature_relevance",
    "input",
    "target",
    "support_labels",
    "query_labels",
    "query_global_labels",
)


def _weights(golden) -> dict[str, np.ndarray]:
    return {name[2:]: array for name, array in golden.items() if name.startswith("w/")}


def _images(golden) -> tf.Tensor:
    return tf.constant(published.to_channels_last(golden["images"]))


def _all(arrays, tolerance) -> Values:
    return {name: Value(np.asarray(array), tolerance) for name, array in arrays.items()}


def load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a golden file; numbers are widened to the precision that Keras works in."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {name: a.astype(keras.backend.floatx()) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def reference_of(name: str, golden: Mapping[str, np.ndarray], double: bool) -> np.ndarray | None:
    """The reference of the computed array `name`; its float64 version if there is one and we compute in float64."""
    if name == "loss_total_float64":
        described = json.loads(str(golden["meta"])).get(name) if "meta" in golden else None
        return np.frombuffer(golden[name].tobytes(), np.float64)[0] if name in golden else described
    return golden.get(f"f64/{name}" if double and f"f64/{name}" in golden else name)


def error_of(value: np.ndarray, reference: np.ndarray, scale_of: np.ndarray, euclidean: bool = False) -> float:
    """max |value - reference| / max |scale_of|; infinite where the shapes differ or a value is not finite.

    With `euclidean`, both are root sums of squares instead.
    """
    if value.shape != np.shape(reference) or not np.isfinite(value).all():
        return float("inf")
    size = np.linalg.norm if euclidean else np.max
    scale = size(np.abs(scale_of))
    return float(size(np.abs(value - reference)) / (scale if scale > 0 else 1.0))


def check(path: Path) -> bool:
    """Checks one file and prints a line for each of its arrays; returns whether all of them are right."""
    compute = next((function for prefix, function in VALUES_OF.items() if path.name.startswith(prefix)), None)
    if compute is None:
        print(f"{path.name}: unknown kind of file; known: {', '.join(VALUES_OF)}")
        return False
    golden, double = load(path), keras.backend.floatx() == "float64"
    values = {name: value for name, value in compute(golden).items() if skip_reason(name, double) is None}
    print(f"{path.name} ({keras.backend.floatx()})")
    good = True
    for name, value in sorted(values.items()):
        reference = reference_of(name, golden, double or value.euclidean)
        if reference is not None:
            tolerance = DOUBLE if double and f"f64/{name}" in golden else value.tolerance
            error = error_of(value.array, reference, golden[value.scale] if value.scale else reference, value.euclidean)
            good &= error <= tolerance
            print(
                f"  {name:42s} error {error:8.1e}  tolerance {tolerance:.0e}  {'ok' if error <= tolerance else 'FAIL'}"
            )
    given = sum(name in INPUTS or name.startswith("w/") for name in golden)
    print(f"  {given} arrays are inputs and weights: given, not compared")
    return _report_rest(golden, values, double) and good


def skip_reason(name: str, double: bool) -> str | None:
    """Why an array is not compared, or None if it has to be."""
    if name == "meta":
        return "description of the file"
    if not double and (name.startswith("f64/") or name == "loss_total_float64"):
        return "compared with --float64"
    if double and name.endswith(".running_var"):
        return "Keras corrects the running variance for its bias only in its fused layer, which has no float64"
    return None


def _report_rest(golden: Iterable[str], values: Values, double: bool) -> bool:
    good = True
    for name in golden:
        if name in values or name.removeprefix("f64/") in values or name in INPUTS or name.startswith("w/"):
            continue
        reason = skip_reason(name, double)
        print(f"  {name:42s} {'skipped: ' + reason if reason else 'FAIL: unknown array'}")
        good &= reason is not None
    return good


def main() -> int:
    """Checks the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--float64", action="store_true", help="compute in float64")
    arguments = parser.parse_args()
    keras.backend.set_floatx("float64" if arguments.float64 else "float32")
    results = [check(path) for path in arguments.files]
    print(f"{sum(results)} of {len(results)} files ok")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
