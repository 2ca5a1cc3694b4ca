"""One check for every custom layer: what a layer must do to be used, trained, saved and loaded like any other."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from egt_tf.keras_api import keras

MIXED_TOLERANCE = 2e-2


def check_layer(
    make: Callable[[], keras.layers.Layer],
    inputs: Sequence[np.ndarray],
    free_axes: Sequence[Sequence[int]],
    folder: Path,
    *,
    rtol: float = 1e-5,
    differentiable: Sequence[int] = (0,),
    skip_mixed: bool = False,
    idle: Sequence[str] = (),
) -> None:
    """Builds the layer and checks calls, shapes, gradients, mixed precision, configuration and saving.

    Args:
        make: makes the layer, unbuilt, always with the same arguments (better not the defaults).
        inputs: float32 arrays, one for each input of the layer.
        free_axes: for each input, the axes behind the first one whose size may differ from call to call.
        folder: an empty folder for the saved models.
        rtol: relative tolerance of float32 results.
        differentiable: positions of the inputs that a gradient must reach.
        skip_mixed: leaves out mixed precision, for layers whose result jumps with the last bit of the input.
        idle: names of trainable weights that the result does not depend on, so that a step may leave them.
    """
    layer = make()
    expected = _call(layer, inputs)
    specs = [_with_free_axes(x.shape, axes) for x, axes in zip(inputs, free_axes, strict=True)]

    _check_graph(layer, inputs, specs, expected, rtol)
    _check_shapes(layer, inputs, specs, expected)
    _check_gradients(make, inputs, differentiable, idle)
    if not skip_mixed:
        _check_mixed_precision(make, layer, inputs, expected)
    _check_config(layer, inputs, expected, rtol)
    _check_saving(layer, inputs, specs, expected, folder, rtol)


def constructor_arguments(cls: type) -> set[str]:
    """Named arguments of `cls.__init__`, and those of its parents as far as `**kwargs` hands on to them.

    Of Keras's own classes only the first counts: the ones behind it are private.
    """
    names: set[str] = set()
    for parent in cls.__mro__:
        if parent is keras.layers.Layer or "__init__" not in vars(parent):
            continue
        parameters = list(inspect.signature(parent.__init__).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        if parent.__module__.startswith(("keras.", "tf_keras.")) or all(
            p.kind is not p.VAR_KEYWORD for p in parameters
        ):
            break
    return names


def close(actual, expected, rtol: float = 1e-5) -> None:
    """Fails unless both structures hold the same arrays; `rtol` is relative to the largest value of each."""
    actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


def _single(items: Sequence):
    """Layers with one input take it alone, others take a list."""
    return items[0] if len(items) == 1 else list(items)


def _call(layer, inputs, **kwargs):
    return layer(_single([tf.constant(x) for x in inputs]), **kwargs)


def _with_free_axes(shape, axes):
    return tuple(None if i == 0 or i in axes else side for i, side in enumerate(shape))


def _check_graph(layer, inputs, specs, expected, rtol):
    signature = [tf.TensorSpec(spec, tf.float32) for spec in specs]
    graph = tf.function(lambda *xs: layer(_single(xs)), input_signature=signature)
    close(graph(*inputs), expected, rtol)


def _check_shapes(layer, inputs, specs, expected):
    outputs = tf.nest.flatten(expected)
    computed = _shapes(layer.compute_output_shape(_single([tf.TensorShape(x.shape) for x in inputs])))
    free = _shapes(layer.compute_output_shape(_single([tf.TensorShape(spec) for spec in specs])))
    symbolic = [y.shape for y in tf.nest.flatten(_symbolic(layer, specs)[1])]
    assert len(computed) == len(free) == len(symbolic) == len(outputs)
    for y, full, partial, symbol in zip(outputs, computed, free, symbolic):
        assert full.is_compatible_with(y.shape), f"compute_output_shape says {full}, the output is {y.shape}"
        assert partial.is_compatible_with(y.shape), f"compute_output_shape says {partial}, the output is {y.shape}"
        assert symbol.as_list() == partial.as_list(), f"symbolic {symbol}, compute_output_shape says {partial}"


def _shapes(structure) -> list[tf.TensorShape]:
    return structure if isinstance(structure, list) else [tf.TensorShape(structure)]


def _symbolic(layer, specs):
    symbols = [keras.Input(spec[1:], name=f"input{i}") for i, spec in enumerate(specs)]
    return symbols, layer(_single(symbols))


def _check_gradients(make, inputs, differentiable, idle):
    layer = make()
    xs = [tf.constant(x) for x in inputs]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(xs)
        outputs = tf.nest.flatten(layer(_single(xs), training=True) if _takes_training(layer) else layer(_single(xs)))
        # Another number for each output value, so that normalised outputs do not add up to a constant.
        loss = tf.add_n(
            [tf.reduce_sum(y * tf.reshape(tf.cos(tf.range(tf.size(y), dtype=y.dtype)), y.shape)) for y in outputs]
        )
    for position in differentiable:
        gradient = tape.gradient(loss, xs[position])
        assert gradient is not None, f"no gradient reaches input {position}"
        assert np.isfinite(gradient).all(), f"the gradient of input {position} is not finite"
        assert np.any(gradient), f"the gradient of input {position} is 0"
    if layer.trainable_variables:
        _check_update(layer, tape.gradient(loss, layer.trainable_variables), idle)


def _takes_training(layer):
    return "training" in inspect.signature(layer.call).parameters


def _check_update(layer, gradients, idle):
    before = layer.get_weights()
    assert all(g is not None for g in gradients), "a trainable weight gets no gradient"
    keras.optimizers.Adam(0.1).apply_gradients(zip(gradients, layer.trainable_variables))
    trainable = {id(v) for v in layer.trainable_variables}
    for old, variable in zip(before, layer.weights):
        assert np.isfinite(variable).all()
        if id(variable) in trainable and variable.name.removesuffix(":0") not in idle:
            assert np.any(old != variable.numpy()), f"a step leaves {variable.name} as it was"


def _check_mixed_precision(make, layer, inputs, expected):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = make()
        _call(mixed, inputs)
        mixed.set_weights(layer.get_weights())
        outputs = tf.nest.flatten(_call(mixed, inputs))
        if _takes_training(mixed):
            assert all(np.isfinite(y).all() for y in tf.nest.flatten(_call(mixed, inputs, training=True)))
    finally:
        keras.mixed_precision.set_global_policy(None)
    assert all(y.dtype == tf.float16 for y in outputs)
    assert all(v.dtype == tf.float32 for v in mixed.weights if v.dtype.is_floating)
    close(outputs, expected, MIXED_TOLERANCE)


def _check_config(layer, inputs, expected, rtol):
    config = layer.get_config()
    missing = constructor_arguments(type(layer)) - set(config)
    assert not missing, f"get_config of {type(layer).__name__} lacks {sorted(missing)}"
    # Through JSON, as files store it: tuples become lists there.
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    for restored in (type(layer).from_config(config), keras.saving.deserialize_keras_object(stored)):
        assert type(restored) is type(layer)
        assert restored.get_config() == config
        _call(restored, inputs)
        restored.set_weights(layer.get_weights())
        close(_call(restored, inputs), expected, rtol)


def _check_saving(layer, inputs, specs, expected, folder, rtol):
    symbols, outputs = _symbolic(layer, specs)
    model = keras.Model(symbols, outputs)
    xs = [tf.constant(x) for x in inputs]
    model.save(folder / "layer.keras")
    close(keras.saving.load_model(folder / "layer.keras")(_single(xs)), expected, rtol)
    tf.saved_model.save(model, folder / "saved")
    close(tf.saved_model.load(folder / "saved")(_single(xs)), expected, rtol)
