"""Vision transformers: their maps beside a slow one in NumPy, weight files of others, and every head on them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from egt_tf.backbones import BACKBONES
from egt_tf.backbones.layers import LearnedTokens, PositionEmbedding, RMSNormalization
from egt_tf.backbones.vit_weights import bicubic_matrix, interpolated
from egt_tf.data.support import SupportSet
from egt_tf.episodic_model import EpisodicModel
from egt_tf.errors import ConfigError, RunError
from egt_tf.export.saved_model import make_portable, make_servable, write_version
from egt_tf.heads import HEADS
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, LRP, fold_batch_norm, record, reverse
from egt_tf.serving.exported_model import ExportedModel
from egt_tf.training.guided_model import GuidedModel
from egt_tf.weights import assign_weights, named_weights, weight_arrays
from tests.helpers.image_files import encode
from tests.helpers.networks import random_inputs
from tests.helpers.quick import quick_ones
from tests.helpers.weight_files import safetensors_file, torch_file
from tests.layer_harness import check_layer

TINY = {"name": "vit_tiny", "patch": 8, "width": 12, "depth": 2, "heads": 3}
SIZE, WAYS = 32, 3


def _vit(image_size=SIZE, seed=1, **more) -> keras.Model:
    return BACKBONES.get({**TINY, **more}, image_size=image_size, seed=seed)


# === The network ===


@pytest.mark.parametrize(
    ("name", "weights"), [("vit_tiny", 5_524_416), pytest.param("vit_small", 21_665_664, marks=pytest.mark.slow)]
)
def test_the_published_sizes(name, weights):
    """Those of timm's models without a classifier, less the place of the class token, which is part of the token."""
    model = BACKBONES.get(name, image_size=224)
    width = model.output_shape[-1]
    assert model.output_shape == (None, 14, 14, width)
    assert model.count_params() == weights - width


def test_maps_are_a_function_of_the_seed():
    first, again, other = (_vit(seed=seed)(random_inputs(SIZE)).numpy() for seed in (1, 1, 2))
    assert first.shape == (2, 4, 4, 12)
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_queries_and_keys_begin_differently():
    query, _, key, _, value, *_ = _vit().get_layer("block01_attention").get_weights()
    assert not np.allclose(query, key)
    assert not np.allclose(key, value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 30}, "`image_size` must be a multiple of `patch`. Received: image_size=30, patch=8"),
        ({"width": 13}, "`width` must be a multiple of `heads`. Received: width=13, heads=3"),
        ({"depth": 0}, "`depth` must be an integer >= 1"),
        ({"registers": -1}, "`registers` must be an integer >= 0"),
        ({"layer_scale": 1}, "`layer_scale` must be true or false"),
        ({"scale": "0..2"}, "`scale` must be one of imagenet"),
        ({"weights": None}, "`weights` must be none or a file"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigError, match=message.replace("..", r"\.\.")):
        _vit(**arguments)


def test_a_copy_by_the_configuration_computes_the_same():
    model = _vit(layer_scale=True, registers=2, scale="-1..1")
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    np.testing.assert_array_equal(copy(random_inputs(SIZE)), model(random_inputs(SIZE)))


def test_every_weight_has_a_name_of_its_own():
    models = [EpisodicModel.build_from({**TINY, "layer_scale": True}, "prototype", SIZE, seed=seed) for seed in (1, 2)]
    names = named_weights(models[0])
    assert len(names) == len(models[0].weights)
    assert names["backbone/block01_attention/query/kernel"].shape == (12, 3, 4)
    assign_weights(models[0], weight_arrays(models[1]), "a test")
    maps = [model.backbone(random_inputs(SIZE)) for model in models]
    np.testing.assert_array_equal(*maps)


@pytest.mark.parametrize(
    ("make", "idle"),
    [
        (lambda: RMSNormalization(1e-3), ()),
        (lambda: PositionEmbedding("ones"), ()),
        (lambda: LearnedTokens(3, "ones"), ()),
    ],
    ids=["rms", "positions", "tokens"],
)
def test_layers(make, idle, tmp_path):
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    check_layer(make, [x], [()], tmp_path, idle=idle)


# === Weights of others ===


def _state(rng, side=4, patch=8, width=12, depth=2, registers=0, layer_scale=False, class_place=True):
    """A state dict as timm and DINO write it."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, side * side + class_place, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (10, width),
        "head.bias": (10,),
    }
    if registers:
        shapes["register_tokens"] = (1, registers, width)
        shapes["mask_token"] = (1, width)
    for n in range(depth):
        block = {
            "attn.qkv": 3 * width,
            "attn.proj": width,
            "mlp.fc1": 4 * width,
            "mlp.fc2": width,
        }
        for name, outputs in block.items():
            shapes[f"blocks.{n}.{name}.weight"] = (outputs, 4 * width if name == "mlp.fc2" else width)
            shapes[f"blocks.{n}.{name}.bias"] = (outputs,)
        for norm in ("norm1", "norm2"):
            shapes.update({f"blocks.{n}.{norm}.{part}": (width,) for part in ("weight", "bias")})
        if layer_scale:
            shapes.update({f"blocks.{n}.{part}.gamma": (width,) for part in ("ls1", "ls2")})
    return {name: rng.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in shapes.items()}


def _gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def _norm(x, state, name):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6)
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _dense(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _slow(state, image, heads=3, depth=2):
    """The network of a state dict, on one image: the tokens of the patches behind the last normalisation."""
    state = {name: array.astype(np.float64) for name, array in state.items()}
    kernel = state["patch_embed.proj.weight"]
    width, _, patch, _ = kernel.shape
    side = len(image) // patch
    x = np.zeros((side * side, width))
    for row in range(side):
        for column in range(side):
            pixels = image[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            x[row * side + column] = np.einsum("hwc,ochw->o", pixels, kernel) + state["patch_embed.proj.bias"]
    x = np.concatenate([state["cls_token"][0], x])
    positions = state["pos_embed"][0]
    x[len(x) - len(positions) :] += positions
    x = np.concatenate([x[:1], state.get("register_tokens", np.zeros((1, 0, width)))[0], x[1:]])
    for n in range(depth):
        qkv = _dense(_norm(x, state, f"blocks.{n}.norm1"), state, f"blocks.{n}.attn.qkv")
        out = np.zeros_like(x)
        size = width // heads
        for head in range(heads):
            q, k, v = (qkv[:, part * width + head * size :][:, :size] for part in range(3))
            logits = np.exp(q @ k.T / np.sqrt(size))
            out[:, head * size : (head + 1) * size] = logits / logits.sum(1, keepdims=True) @ v
        x = x + _dense(out, state, f"blocks.{n}.attn.proj") * state.get(f"blocks.{n}.ls1.gamma", 1.0)
        y = _gelu(_dense(_norm(x, state, f"blocks.{n}.norm2"), state, f"blocks.{n}.mlp.fc1"))
        x = x + _dense(y, state, f"blocks.{n}.mlp.fc2") * state.get(f"blocks.{n}.ls2.gamma", 1.0)
    return _norm(x, state, "norm")[-side * side :].reshape(side, side, width)


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ({}, {}),
        ({"registers": 2, "layer_scale": True}, {"registers": 2, "layer_scale": True}),
        ({"class_place": False}, {}),
    ],
    ids=["timm and dino", "dinov2 with registers", "no place of the class token"],
)
def test_maps_are_those_of_a_slow_network(written, arguments, tmp_path):
    state = _state(np.random.default_rng(2), **written)
    path = tmp_path / "vit.safetensors"
    path.write_bytes(safetensors_file(state))
    images = random_inputs(SIZE)
    got = _vit(weights=str(path), **arguments)(images)
    np.testing.assert_allclose(got, [_slow(state, image) for image in images], rtol=0, atol=1e-4)


def test_a_file_of_torch_save_with_names_of_wrappers(tmp_path):
    state = _state(np.random.default_rng(2))
    path = tmp_path / "vit.pth"
    wrapped = {f"module.backbone.{name}": array for name, array in state.items()}
    path.write_bytes(torch_file({"model": {**wrapped, "module.head.mlp.0.weight": np.ones((2, 2), np.float32)}}))
    got = _vit(weights=str(path))(random_inputs(SIZE, 1))
    np.testing.assert_allclose(got[0], _slow(state, random_inputs(SIZE, 1)[0]), rtol=0, atol=1e-4)


def _renamed(state):
    state["blocks.0.attn.q.weight"] = state.pop("blocks.0.attn.qkv.weight")


def _other(name, array):
    return lambda state: state.update({name: array.astype(np.float32)})


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (_renamed, {}, r"missing blocks.0.attn.qkv.weight; unknown blocks.0.attn.q.weight"),
        (lambda state: None, {"patch": 16}, r"patch_embed.proj.weight is \(12, 3, 8, 8\), not \(12, 3, 16, 16\)"),
        (lambda state: None, {"depth": 3}, r"missing blocks.2.norm1.weight.* and 9 more"),
        (lambda state: None, {"layer_scale": True}, r"missing blocks.0.ls1.gamma"),
        (lambda state: None, {"registers": 4}, r"missing register_tokens"),
        (_other("pos_embed", np.ones((1, 15, 12))), {}, r"pos_embed is \(1, 15, 12\), not \(1, 16, 12\)"),
        (_other("pos_embed", np.ones((1, 0, 12))), {}, r"pos_embed is \(1, 0, 12\), not \(1, 16, 12\)"),
        (_other("norm.bias", np.full(12, np.nan)), {}, r"norm.bias holds values that are not finite"),
        (lambda state: state.pop("patch_embed.proj.weight"), {}, r"must be those of one vision transformer"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(change, arguments, message, tmp_path):
    state = _state(np.random.default_rng(2))
    change(state)
    path = tmp_path / "vit.safetensors"
    path.write_bytes(safetensors_file(state))
    with pytest.raises(RunError, match=message) as error:
        _vit(weights=str(path), **arguments)
    assert "\n" not in str(error.value)


def _keys(x, a=-0.75):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize(("before", "after"), [(4, 7), (7, 3), (3, 3)])
def test_positions_are_interpolated_as_by_loops(before, after):
    grid = np.random.default_rng(0).normal(size=(before, before, 2))
    expected = np.zeros((after, after, 2))
    for row in range(after):
        for column in range(after):
            y, x = ((each + 0.5) * before / after - 0.5 for each in (row, column))
            for i in range(math.floor(y) - 1, math.floor(y) + 3):
                for j in range(math.floor(x) - 1, math.floor(x) + 3):
                    value = grid[min(max(i, 0), before - 1), min(max(j, 0), before - 1)]
                    expected[row, column] += _keys(y - i) * _keys(x - j) * value
    got = interpolated(grid.reshape(-1, 2), after).reshape(after, after, 2)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(bicubic_matrix(before, after).sum(1), 1.0)


def test_weights_at_another_image_size(tmp_path):
    state = _state(np.random.default_rng(2), side=3)
    path = tmp_path / "vit.safetensors"
    path.write_bytes(safetensors_file(state))
    resized = interpolated(state["pos_embed"][0, 1:], 4)[None]
    at_32 = {**state, "pos_embed": np.concatenate([state["pos_embed"][:, :1], resized], axis=1)}
    got = _vit(weights=str(path))(random_inputs(SIZE, 1))
    np.testing.assert_allclose(got[0], _slow(at_32, random_inputs(SIZE, 1)[0]), rtol=0, atol=1e-4)


# === With heads ===


def _episode():
    """Noise: nothing of it is known yet, so that there is something to learn."""
    rng = np.random.default_rng(4)
    images = rng.normal(size=(2, 1, 2 * WAYS, SIZE, SIZE, 3)).astype(np.float32)
    classes = np.repeat(np.arange(WAYS), 2)
    labels = np.eye(WAYS, dtype=np.float32)[classes][None]
    inputs = {"support_images": images[0], "support_labels": labels, "query_images": images[1]}
    return inputs, classes[None].astype(np.int32)


def _classifier(head: str) -> EpisodicModel:
    arguments = {"ways": WAYS} if HEADS.member(head).needs_ways else {}
    return EpisodicModel.build_from({**TINY, "depth": 1}, {"name": head, **arguments}, SIZE, seed=1)


@pytest.mark.parametrize("head", quick_ones(HEADS.names(), {"relation", "prototype"}))
def test_every_head_learns_from_its_maps_and_explains_them(head):
    classifier = _classifier(head)
    inputs, classes = _episode()
    for arguments in ({"guided_weight": 0.0}, {"composite": "cp_lrp"}):
        model = GuidedModel(classifier, **arguments)
        model.compile(optimizer=keras.optimizers.SGD(0.1), run_eagerly=True)
        before = classifier.backbone.get_weights()
        losses = model.train_step((inputs, classes))
        assert all(np.isfinite(value) for value in losses.values())
        changed = [np.any(a != b) for a, b in zip(before, classifier.backbone.get_weights())]
        # The softmax does not see what all keys have in common.
        assert sum(changed) >= len(changed) - 1
    trace = record(classifier, [tf.constant(inputs[name]) for name in classifier.input_names])
    start = tf.one_hot([[1] + [-1] * (2 * WAYS - 1)], WAYS) * trace.outputs[0]
    wanted = [trace.output_of(name) for name in ("support_images", "query_images")]
    for composite in ("attn_lrp", "vit_gamma"):
        for relevance in reverse(trace, start, COMPOSITES.get(composite), wanted):
            assert np.isfinite(relevance).all()
            assert np.any(relevance)


@pytest.mark.slow
def test_an_exported_model_explains(tmp_path):
    support = SupportSet(
        ("ant", "bee"), np.random.default_rng(1).integers(0, 256, (2, 1, SIZE, SIZE, 3)).astype(np.uint8)
    )
    classifier = EpisodicModel.build_from({**TINY, "depth": 1}, "prototype", SIZE, seed=1)
    write_version(make_servable(classifier, support, "attn_lrp"), tmp_path / "1")
    exported = ExportedModel(tmp_path / "1")
    image = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    answer = exported.ask("explain", {"images": [encode(Image.fromarray(image), "PNG")], "targets": [0]})
    assert np.any(answer["relevance"])
    assert np.isfinite(answer["relevance"]).all()


@pytest.mark.slow
def test_a_portable_model_does_without_operations_that_engines_have_not():
    support = SupportSet(("ant", "bee"), np.zeros((2, 1, SIZE, SIZE, 3), np.uint8))
    classifier = EpisodicModel.build_from({**TINY, "layer_scale": True}, "prototype", SIZE, seed=1)
    for composite in ("cp_lrp", "attn_lrp", "fsc"):
        assert "serving_default" in make_portable(classifier, support, composite).signatures


@pytest.mark.slow
def test_a_copy_with_folded_normalisations_and_its_graph():
    model = keras.Sequential([_vit(depth=1), keras.layers.Flatten(), keras.layers.Dense(3)])
    images = random_inputs(SIZE)
    np.testing.assert_array_equal(fold_batch_norm(model)(images), model(images))
    trace = record(model, [tf.constant(images)])
    start = trace.outputs[0] * tf.one_hot([1, 1], 3)
    (expected,) = reverse(trace, start, COMPOSITES.get("cp_lrp"))
    got = LRP(model, "cp_lrp", "index").analyze(images, 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
