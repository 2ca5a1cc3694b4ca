"""The Keras that everything here is written for, and what is derived from innvestigate: the one place that decides.

There are two lanes. The classic one is TensorFlow 2.14 and 2.15, whose `tensorflow.keras` is Keras 2. From TensorFlow 2.16
on that name is Keras 3; Keras 2 is released beside every TensorFlow as the package `tf_keras`, which is the current lane.
No environment variable chooses between them, and Keras 3 may be installed beside either.

innvestigate 2.1 needs TensorFlow 2.14. Where it is not installed, equal base classes of our own stand in for its.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import tensorflow as tf

from egt_tf.environment import lane

LANE = lane(tf.__version__)
"""The lane of this process: "classic" or "current"."""

if TYPE_CHECKING:
    from tensorflow import keras

    RuleBase = Any
    AnalyzerBase = Any
else:
    keras = importlib.import_module("tensorflow.keras" if LANE == "classic" else "tf_keras")


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _RuleBase(abc.ABC):
    """What innvestigate calls a reverse mapping: `apply` takes the relevance of outputs to the inputs."""

    @abc.abstractmethod
    def apply(self, Xs: Any, Ys: Any, Rs: Any, reverse_state: Any) -> Any:
        """Relevance of the inputs."""


class _AnalyzerBase(abc.ABC):
    """The part of innvestigate's interface of analyzers that does not need its own graphs.

    Args:
        model: a Keras model.
        neuron_selection_mode: "max_activation", "index" or "all".

    Raises:
        ValueError: another mode.
    """

    def __init__(self, model: keras.Model, neuron_selection_mode: str = "max_activation"):
        if neuron_selection_mode not in ("max_activation", "index", "all"):
            raise ValueError(
                "`neuron_selection_mode` must be max_activation, index or all. "
                f"Received: neuron_selection_mode={neuron_selection_mode!r}"
            )
        self._model = model
        self._neuron_selection_mode = neuron_selection_mode

    @abc.abstractmethod
    def analyze(self, X: Any, *args: Any, **kwargs: Any) -> Any:
        """Relevance of the model's input."""


_BASES: dict[str, tuple[str, str, type]] = {
    "RuleBase": ("innvestigate.backend.graph", "ReverseMappingBase", _RuleBase),
    "AnalyzerBase": ("innvestigate.analyzer.base", "AnalyzerBase", _AnalyzerBase),
}


def __getattr__(name: str) -> Any:
    """`RuleBase` and `AnalyzerBase`: innvestigate's where it is and works, else our own; imported when asked for."""
    if name not in _BASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, of_innvestigate, own = _BASES[name]
    return getattr(importlib.import_module(module), of_innvestigate) if has_innvestigate() else own


def has_innvestigate() -> bool:
    """Whether innvestigate is installed on the lane that it works on.

    Example:
        >>> has_innvestigate() and LANE == "current"
        False
    """
    return LANE == "classic" and importlib.util.find_spec("innvestigate") is not None


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`tf.function(function, **options)` that leaves out AutoGraph, which can take longer than all the rest.

    Code that `function` runs may not branch by the value of a tensor; layers may, since Keras converts those that are not
    its own.

    Example:
        >>> compiled(lambda x: x + 1)(tf.constant(1)).numpy()
        2
    """
    autograph = tf.__internal__.autograph
    plain = autograph.tf_convert(function, autograph.control_status_ctx(), convert_by_default=False)
    # Partial: TensorFlow counts the traces of functions with the same code together, and would warn of the fifth one.
    return tf.function(functools.partial(plain), **options)


def unconverted(function: _Function) -> _Function:
    """`function` itself, which AutoGraph runs as it stands from now on; Keras still converts layers that it calls.

    For code of this package, which does not branch by the value of a tensor: converting it takes time in every graph.

    Example:
        >>> @tf.function
        ... @unconverted
        ... def root(x):
        ...     return tf.sqrt(x)
        >>> root(tf.constant(4.0)).numpy()
        2.0
    """
    # What `tf.autograph.experimental.do_not_convert` marks its wrapper with, which Keras could not read the arguments of.
    function.autograph_info__ = None  # type: ignore[attr-defined]
    return function


def layer_code(layer: keras.layers.Layer) -> Callable[..., Any]:
    """`layer.call` as Keras runs it: in a graph, code that is not Keras's own is converted by AutoGraph.

    Example:
        >>> layer_code(keras.layers.ReLU())(tf.constant([-1.0, 2.0])).numpy()
        array([0., 2.], dtype=float32)
    """
    return layer.call if tf.executing_eagerly() else layer._autographed_call()


@contextlib.contextmanager
def layers_in(precision: str) -> Iterator[None]:
    """Layers made within the block compute in that precision, for good; other layers of the process do not.

    Args:
        precision: the name of a Keras policy: "float32", "mixed_float16" or "mixed_bfloat16".

    Example:
        >>> with layers_in("mixed_bfloat16"):
        ...     layer = keras.layers.Dense(1)
        >>> layer.compute_dtype, keras.layers.Dense(1).compute_dtype
        ('bfloat16', 'float32')
    """
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(precision)
    try:
        yield
    finally:
        # None, not the policy of that name: what is made afterwards follows `set_floatx` again.
        keras.mixed_precision.set_global_policy(None if before.name == keras.backend.floatx() else before)
