"""Makes a Keras model from a description, of a model file above all, by layers that are known; no name is looked up.

Keras itself makes whatever class or function a file names, and its safe mode has been by-passed (CVE-2025-1550 for
.keras files, CVE-2025-9905 for .h5 files). Here a description is data: a table of our own says which layers there are,
what they are made with is taken from it value by value, and everything else is refused by name.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ConfigError, did_you_mean
from egt_tf.keras_api import keras

L = keras.layers

LAYERS: Mapping[str, type[keras.layers.Layer]] = {
    layer.__name__: layer
    for layer in (
        L.Activation,
        L.ActivityRegularization,
        L.Add,
        L.AlphaDropout,
        L.Average,
        L.AveragePooling1D,
        L.AveragePooling2D,
        L.AveragePooling3D,
        L.BatchNormalization,
        L.CenterCrop,
        L.Concatenate,
        L.Conv1D,
        L.Conv1DTranspose,
        L.Conv2D,
        L.Conv2DTranspose,
        L.Conv3D,
        L.Conv3DTranspose,
        L.Cropping1D,
        L.Cropping2D,
        L.Cropping3D,
        L.Dense,
        L.DepthwiseConv1D,
        L.DepthwiseConv2D,
        L.Dropout,
        L.ELU,
        L.EinsumDense,
        L.Flatten,
        L.GaussianDropout,
        L.GaussianNoise,
        L.GlobalAveragePooling1D,
        L.GlobalAveragePooling2D,
        L.GlobalAveragePooling3D,
        L.GlobalMaxPooling1D,
        L.GlobalMaxPooling2D,
        L.GlobalMaxPooling3D,
        L.GroupNormalization,
        L.Identity,
        L.LayerNormalization,
        L.LeakyReLU,
        L.Masking,
        L.MaxPooling1D,
        L.MaxPooling2D,
        L.MaxPooling3D,
        L.Maximum,
        L.Minimum,
        L.Multiply,
        L.PReLU,
        L.Permute,
        L.ReLU,
        L.RepeatVector,
        L.Rescaling,
        L.Reshape,
        L.Resizing,
        L.SeparableConv1D,
        L.SeparableConv2D,
        L.Softmax,
        L.SpatialDropout1D,
        L.SpatialDropout2D,
        L.SpatialDropout3D,
        L.Subtract,
        L.UnitNormalization,
        L.UpSampling1D,
        L.UpSampling2D,
        L.UpSampling3D,
        L.ZeroPadding1D,
        L.ZeroPadding2D,
        L.ZeroPadding3D,
    )
}
# They do nothing but in training.
AUGMENTATIONS = frozenset(
    f"Random{what}"
    for what in ("Brightness", "Contrast", "Crop", "Flip", "Height", "Rotation", "Translation", "Width", "Zoom")
)
# Without hard_sigmoid: it is one function in Keras 2 and another in Keras 3.
ACTIVATIONS = frozenset(
    (
        "elu",
        "exponential",
        "gelu",
        "linear",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "softmax",
    )
    + ("softplus", "softsign", "swish", "tanh")
)
MODELS = frozenset(("Functional", "Model", "Sequential"))
# Keras and the module paths that its versions have written; the class is looked up in the tables above, never there.
_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
# Weights are read from the file, and nothing here is trained by its former rules.
_REPLACED = {"regularizer": None, "constraint": None}
# Written by Keras 3 and without a meaning for Keras 2, if they are not set.
_OF_KERAS_3 = frozenset(
    ("optional", "quantization_config", "registered_name", "build_config", "lora_rank", "lora_alpha")
)
# Keras takes the longer for each layer the more there are, in chains above all.
_DEEPEST, _MOST_LAYERS, _LONGEST_CHAIN = 16, 2000, 300
# Numbers in one map of one image: 512 MiB of memory.
_LARGEST_MAP = 2**27


@dataclasses.dataclass(frozen=True)
class Description:
    """A model as a file, or another model, describes it.

    Attributes:
        class_name: "Functional" or "Sequential".
        config: its layers, and how they are connected.
        origin: the file, or whatever else the description is of, for messages.
        most_weights: how many weights its file may hold, which a description of a few bytes must not ask more of.
        of_images: whether its inputs must be colour images.

    Raises:
        ConfigError: it is no such description.
    """

    class_name: str
    config: Mapping[str, Any]
    origin: str
    most_weights: int
    of_images: bool = True

    def __post_init__(self) -> None:
        if self.class_name not in MODELS:
            raise ConfigError(
                f"{self.origin} must hold a Functional or Sequential model. Received: {_shown(self.class_name)}, which "
                "is not known here"
            )
        if not isinstance(self.config, Mapping) or not isinstance(self.config.get("layers"), list):
            raise ConfigError(f"{self.origin} must list the layers of its model. Received: no list of layers")
        if _count_layers(self.config) > _MOST_LAYERS:
            raise ConfigError(f"{self.origin} may have at most {_MOST_LAYERS} layers. Received: more")

    def nested(self, class_name: str, config: Mapping[str, Any]) -> Description:
        """The description of a model in this one."""
        return dataclasses.replace(self, class_name=class_name, config=config)


@dataclasses.dataclass(frozen=True)
class _Zeros(keras.initializers.Initializer):
    """Zeros, as long as a file can hold as many weights."""

    most: int

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> tf.Tensor:
        if math.prod(shape) > self.most:
            raise ValueError(f"weights of shape {tuple(shape)}, which the file has no room for")
        return tf.zeros(shape, dtype or tf.float32)


def model_from(description: Description, image_size: int, depth: int = 0) -> keras.Model:
    """Makes the model; its weights are zeros.

    Args:
        description: of the model.
        image_size: the height and width that its input layer gets, whatever the description says; 0: as it says.
        depth: how deep the model is nested in others.

    Raises:
        ConfigError: a layer, an activation or an argument is not known, named in the message; or the layers do not fit
            to each other.
    """
    if depth > _DEEPEST:
        raise ConfigError(f"models in {description.origin} may be nested {_DEEPEST} deep. Received: more")
    builder = _Builder(description, image_size, depth)
    try:
        model = builder.sequential() if description.class_name == "Sequential" else builder.functional()
        _finish(model)
    except ConfigError:
        raise
    # Of damaged descriptions, which Keras's layers and the look-ups here meet in many ways.
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(
            f"the layers in {description.origin} must fit to each other. Received: {_first_line(error)}"
        ) from error
    return model


def _finish(model: keras.Model) -> None:
    """Checks the sizes of the maps, and leaves initializers behind that Keras can write."""
    for layer in model.layers:
        for tensor in tf.nest.flatten([node.outputs for node in layer.inbound_nodes]):
            if math.prod(length or 1 for length in tensor.shape) > _LARGEST_MAP:
                raise ValueError(f"a map of {tuple(tensor.shape)} behind {layer.name!r}")
        for name, value in list(vars(layer).items()):
            if isinstance(value, _Zeros):
                setattr(layer, name, keras.initializers.Zeros())


def _count_layers(config: Any, depth: int = 0) -> int:
    """The layers of a model and of those in it; deeper ones than can be made are not counted."""
    entries = config.get("layers") if isinstance(config, Mapping) else None
    if not isinstance(entries, list) or depth > _DEEPEST:
        return 0
    nested = (entry.get("config") for entry in entries if isinstance(entry, Mapping))
    return len(entries) + sum(_count_layers(each, depth + 1) for each in nested)


class _Builder:
    """Layers of one model and the symbols that they give."""

    def __init__(self, description: Description, image_size: int, depth: int):
        self.description, self.image_size, self.depth = description, image_size, depth
        self.layers: dict[str, keras.layers.Layer] = {}
        self.symbols: dict[tuple[str, int], list[tf.Tensor]] = {}
        self.augmentations: set[str] = set()

    @property
    def name(self) -> str | None:
        name = self.description.config.get("name")
        return name if isinstance(name, str) else None

    def sequential(self) -> keras.Model:
        """A chain of layers."""
        entries = self.description.config["layers"]
        if len(entries) > _LONGEST_CHAIN:
            raise ConfigError(
                f"a Sequential model in {self.description.origin} may have at most {_LONGEST_CHAIN} layers. Received: "
                f"{len(entries)}"
            )
        if not entries or _class_name(entries[0], self.description.origin) != "InputLayer":
            shape = self.description.config.get("build_input_shape") or self.input_shape(entries[0]["config"])
            entries = [{"class_name": "InputLayer", "config": {"batch_shape": shape, "name": "images"}}, *entries]
        # Of its own class, by which the files call its weights.
        return keras.Sequential([self.input(entries[0]), *map(self.layer, entries[1:])], name=self.name)

    def functional(self) -> keras.Model:
        """A graph of layers: calls are made when all their inputs are there."""
        waiting, first_call = [], self._first_calls()
        for entry in self.description.config["layers"]:
            if _class_name(entry, self.description.origin) == "InputLayer":
                self.symbols[entry["config"]["name"], 0] = [self.input(entry)]
            else:
                layer, nodes = self.layer(entry), entry["inbound_nodes"]
                waiting += [(layer, number, node) for number, node in enumerate(nodes, first_call.get(layer.name, 0))]
        while waiting:
            ready = [call for call in waiting if all(key[:2] in self.symbols for key in _sources(call[2]))]
            if not ready:
                raise ConfigError(
                    f"the layers in {self.description.origin} must form a graph without loops. Received: "
                    f"{waiting[0][0].name!r} waits for a layer that is not there"
                )
            for layer, number, node in ready:
                inputs = [self.symbols[name, call][index] for name, call, index in _sources(node)]
                # What stands for an augmentation does nothing, in training either.
                arguments = {} if layer.name in self.augmentations else _call_arguments(node, self.description.origin)
                outputs = layer(inputs if len(inputs) > 1 else inputs[0], **arguments)
                self.symbols[layer.name, number] = tf.nest.flatten(outputs)
            waiting = [call for call in waiting if call not in ready]
        inputs, outputs = (self._ends(self.description.config[end]) for end in ("input_layers", "output_layers"))
        return keras.Model(inputs, outputs, name=self.name)

    def _first_calls(self) -> dict[str, int]:
        """The number of each layer's first call: 1 for a nested model that was made from symbols, which count as one."""
        config = self.description.config
        calls = {entry["config"]["name"]: len(entry["inbound_nodes"]) for entry in config["layers"]}
        nodes = [node for entry in config["layers"] for node in entry["inbound_nodes"]]
        used = [source for node in nodes for source in _sources(node)] + _end_list(config["output_layers"])
        last = {name: max(call for other, call, *_ in used if other == name) for name, *_ in used}
        return {name: max(0, last[name] + 1 - calls[name]) for name in last if calls.get(name)}

    def input(self, entry: Mapping[str, Any]) -> tf.Tensor:
        """The symbol of an input layer."""
        shape = list(self.input_shape(entry["config"]))[1:]
        if self.image_size:
            shape[:2] = 2 * [self.image_size]
        return keras.Input(shape, name=entry["config"].get("name"))

    def input_shape(self, config: Mapping[str, Any]) -> Sequence[int | None]:
        """The shape of an input layer, the batch first."""
        shape = config.get("batch_shape") or config.get("batch_input_shape")
        images = self.description.of_images
        if not isinstance(shape, (list, tuple)) or (images and (len(shape) != 4 or shape[-1] != 3)):
            wanted = "colour images, (batch, height, width, 3)" if images else "inputs of known shapes, (batch, ...)"
            raise ConfigError(f"a model must take {wanted}. Received: {_shown(shape)}")
        return shape

    def layer(self, entry: Mapping[str, Any]) -> keras.layers.Layer:
        """Makes a layer, or a nested model."""
        origin = self.description.origin
        class_name = _class_name(entry, origin)
        config = entry["config"]
        name = config.get("name") or entry.get("name")
        if class_name in MODELS:
            layer = model_from(self.description.nested(class_name, config), 0, self.depth + 1)
        elif class_name in AUGMENTATIONS:
            layer = L.Activation("linear", name=name)
            self.augmentations.add(layer.name)
        elif class_name in LAYERS:
            layer = _made(LAYERS[class_name], config, self.description)
        else:
            hint = did_you_mean(class_name, LAYERS)
            raise ConfigError(
                f"{origin} must be made of layers that are known, Keras's ordinary ones. Received: a layer "
                f"{_shown(class_name)}{hint}"
            )
        if config.get("trainable") is False:
            layer.trainable = False
        self.layers[layer.name] = layer
        return layer

    def _ends(self, listed: Any) -> list[tf.Tensor]:
        """Symbols of the model's inputs or outputs; one alone may be listed by itself."""
        return [self.symbols[name, call][index] for name, call, index in _end_list(listed)]


def _class_name(entry: Any, origin: str) -> str:
    """The class of a layer, which must be Keras's own."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ConfigError(f"each layer in {origin} must have a class and a configuration. Received: {_shown(entry)}")
    class_name, module = entry.get("class_name"), entry.get("module")
    registered = entry.get("registered_name")
    if not _is_of_keras(module, class_name) or registered not in (None, class_name):
        raise ConfigError(
            f"{origin} must be made of Keras's own layers. Received: {_shown(registered or class_name)} of "
            f"{_shown(module)}, which is not loaded"
        )
    return class_name if isinstance(class_name, str) else repr(class_name)


def _is_of_keras(module: Any, class_name: Any) -> bool:
    """Whether a module is one of Keras, and of its layers: operations of Keras 3 are called as layers are, "Add"."""
    if module is None:
        return True
    if not isinstance(module, str) or not any(module == m or module.startswith(f"{m}.") for m in _MODULES):
        return False
    return class_name in MODELS or "layers" in module.split(".")


def _made(
    layer_class: type[keras.layers.Layer], config: Mapping[str, Any], description: Description
) -> keras.layers.Layer:
    """A layer of a known class; each argument is checked."""
    origin = description.origin
    known = {
        name
        for base in layer_class.__mro__
        if issubclass(base, keras.layers.Layer)
        for name in inspect.signature(base).parameters
    } | {"name", "dtype"}
    # Also those that the description does not mention.
    arguments: dict[str, Any] = {
        name: _Zeros(description.most_weights) for name in known if name.endswith("initializer")
    }
    for name, value in config.items():
        if name in ("trainable", "batch_input_shape", "batch_shape", "input_shape") or name in arguments:
            continue
        replaced = [new for suffix, new in _REPLACED.items() if name.endswith(suffix)]
        if replaced:
            arguments[name] = replaced[0]
        elif name == "activation" or (name == "negative_slope" and layer_class is L.LeakyReLU):
            arguments["alpha" if name == "negative_slope" else name] = (
                _activation(value, origin) if name == "activation" else value
            )
        elif name == "dtype":
            _check_precision(value, config.get("name"), origin)
        elif name in known:
            arguments[name] = _plain(value, name, origin)
        elif name not in _OF_KERAS_3 and value not in (None, False):
            raise ConfigError(
                f"the layers in {origin} must have arguments that are known. Received: {_shown(name)} of a layer "
                f"{layer_class.__name__}"
            )
    return layer_class(**arguments)


def _activation(value: Any, origin: str) -> str | None:
    """The name of a known activation; Keras 3 wraps it into a dictionary."""
    if isinstance(value, Mapping) and isinstance(value.get("config"), str):
        value = value["config"]
    if value is not None and (not isinstance(value, str) or value not in ACTIVATIONS):
        raise ConfigError(
            f"{origin} must have activations that are known. Received: {_shown(value)}, which is not loaded"
        )
    return value


def _check_precision(value: Any, layer: Any, origin: str) -> None:
    """Weights and computations are in single precision here; others are given up by name."""
    if isinstance(value, Mapping):
        value = value.get("config", {}).get("name") if isinstance(value.get("config"), Mapping) else None
    if value not in ("float32", "mixed_float16", "mixed_bfloat16", "float16", None):
        raise ConfigError(f"the layers in {origin} must work in float32. Received: {_shown(value)} in {_shown(layer)}")


def _plain(value: Any, name: str, origin: str) -> Any:
    """A value of numbers, strings and lists of them."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(each, name, origin) for each in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(f"arguments in {origin} must be numbers and words. Received: {_shown(value)} as {name!r}")


def _end_list(listed: Any) -> list[tuple[str, int, int]]:
    """Layer, call and output of each input or output of a model; one alone may be listed by itself."""
    if isinstance(listed, Mapping):
        raise ValueError("inputs or outputs in a dictionary; they must be one, or a list")
    return [tuple(end) for end in ([listed] if listed and isinstance(listed[0], str) else listed)]


def _sources(node: Any) -> list[tuple[str, int, int]]:
    """Layer, call and output that a call takes its inputs from, as Keras 2 (lists) and Keras 3 (dictionaries) write it."""
    if isinstance(node, Mapping):
        histories = [tensor["config"]["keras_history"] for tensor in _keras_tensors([node["args"], node["kwargs"]])]
        return [(str(name), int(call), int(index)) for name, call, index in histories]
    listed = [node] if node and isinstance(node[0], str) else node
    return [(str(source[0]), int(source[1]), int(source[2])) for source in listed]


def _call_arguments(node: Any, origin: str) -> dict[str, Any]:
    """What a layer is called with beside its inputs: that it does not train, or nothing."""
    if isinstance(node, Mapping):
        described = [node["kwargs"]]
    else:
        listed = [node] if node and isinstance(node[0], str) else node
        described = [source[3] for source in listed if len(source) > 3]
    arguments = {name: value for each in described for name, value in each.items() if value is not None}
    arguments = {name: value for name, value in arguments.items() if not _keras_tensors(value)}
    if any(name != "training" or value is not False for name, value in arguments.items()):
        raise ConfigError(f"layers in {origin} must be called with their inputs alone. Received: {_shown(arguments)}")
    return arguments


def _keras_tensors(value: Any) -> list[Mapping[str, Any]]:
    """The symbols in the arguments of a call, in order."""
    if isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__":
        return [value]
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in _keras_tensors(part)]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
