"""Every way to explain a prediction, by name: composites, gradient methods, innvestigate's own analyzers."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from egt_tf.errors import ExplainError, did_you_mean
from egt_tf.explain import adaptive_noise, gradients, noisy_gradients
from egt_tf.explain.adaptive_noise import Report
from egt_tf.explain.gradients import Select
from egt_tf.explain.innvestigate_methods import explain_by_innvestigate, innvestigate_names, require_innvestigate
from egt_tf.explain.purposes import PURPOSES
from egt_tf.keras_api import keras
from egt_tf.lrp.canonizers import fold_batch_norm, has_foldable
from egt_tf.lrp.composites import Composite
from egt_tf.lrp.output_relevance import LOG_ODDS, Start, get_start
from egt_tf.lrp.presets import COMPOSITES
from egt_tf.lrp.propagation import record, reverse

Maps = Callable[[keras.Model, Sequence[tf.Tensor], Sequence[Select]], list[list[tf.Tensor]]]
INNVESTIGATE = "innvestigate:"
LABELS = "support_labels"


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to explain.

    Attributes:
        name: what it is called.
        summary: one line about it.
        maps: `(model, inputs, selects) -> for each of selects, one map for each input`; a `select` gives, for the
            model's output, its relevance, or for gradients the weights of the output in the value explained.
        distributes: whether `maps` takes output relevance and distributes it, or takes weights of the scores and makes
            derivatives of the value they give.
        canonize: whether batch normalisation is folded away first.
        start: what it begins with at the scores.
        in_graph: whether `maps` can be compiled by a `tf.function`.

    Example:
        >>> method = get_method("epsilon_plus", start="margin")
        >>> method.distributes, method.canonize, method.start.name
        (True, True, 'margin')
    """

    name: str
    summary: str
    maps: Maps
    distributes: bool
    canonize: bool = False
    start: Start = LOG_ODDS
    in_graph: bool = True

    def prepared(self, model: keras.Model) -> keras.Model:
        """The model that `maps` takes: the given one, or if the method wants it, a copy with folded normalisations.

        Preparing a prepared model changes nothing.
        """
        return fold_batch_norm(model) if self.canonize and has_foldable(model) else model

    def begin(self, scores: tf.Tensor, probabilities: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """What `maps` is given for the scores: output relevance or weights, for the chosen classes.

        Args:
            scores: raw scores `(..., ways)`.
            probabilities: what the head makes of them.
            chosen: one-hot, or zeros where nothing is explained.
        """
        at_scores = self.start.relevance if self.distributes else self.start.weights
        return at_scores(scores, probabilities, chosen)


def composite_method(composite: Composite, summary: str = "", canonize: bool = False) -> Method:
    """Relevance by a composite.

    Args:
        composite: gives each layer its rule.
        summary: one line about it.
        canonize: fold batch normalisation first.

    Example:
        >>> composite_method(COMPOSITES.get("fsc"), "as in training").name
        'fsc'
    """

    def maps(model: keras.Model, inputs: Sequence[tf.Tensor], selects: Sequence[Select]) -> list[list[tf.Tensor]]:
        trace = record(model, inputs)
        return [reverse(trace, select(trace.outputs[0]), composite) for select in selects]

    return Method(composite.name, summary, maps, distributes=True, canonize=canonize)


def purpose(method: Method) -> str:
    """What a method is good for, in one line.

    Example:
        >>> purpose(get_method("grad_cam"))
        'where the query was looked at, coarsely: regions, not pixels'
    """
    if method.name in PURPOSES:
        return PURPOSES[method.name]
    if method.name.startswith(INNVESTIGATE):
        return "to compare with innvestigate itself: its own code, on the backbone, slow"
    return f"to compare with innvestigate, by our engine: {method.summary}"


# Composites that were made for networks without batch normalisation.
CANONIZED = (
    "attn_lrp",
    "cp_lrp",
    "epsilon",
    "epsilon_plus",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1_flat",
    "vit_gamma",
)


def get_method(
    name: str | Mapping[str, Any] | Method, start: str | Start | None = None, report: Report | None = None
) -> Method:
    """The method called `name`; it may have arguments, `{"name": ..., <arguments>}`.

    Args:
        name: of a composite or a method, or a method itself.
        start: what it begins with at the scores, "log_odds" or "margin"; None: the method's own.
        report: gets how many steps are done, and of how many, of a method that takes minutes.

    Raises:
        ExplainError: there is no such method, argument or start; the nearest is suggested.

    Example:
        >>> get_method("grad_cam").distributes
        False
        >>> get_method({"name": "fsc_gamma", "gamma": 0.5}).name
        'fsc_gamma'
    """
    method = _named(name, report)
    return method if start is None else dataclasses.replace(method, start=get_start(start))


def _named(name: str | Mapping[str, Any] | Method, report: Report | None) -> Method:
    if isinstance(name, Method):
        return name
    arguments = {} if isinstance(name, str) else {key: value for key, value in name.items() if key != "name"}
    name = name if isinstance(name, str) else str(name.get("name"))
    if name in _GRADIENTS:
        return _gradient_method(_GRADIENTS[name], arguments, report)
    if name in COMPOSITES.names():
        composite = COMPOSITES.get({"name": name, **arguments})
        return composite_method(composite, COMPOSITES.summary(name), name in CANONIZED)
    if name.startswith(INNVESTIGATE):
        return _innvestigate_method(name, arguments)
    hint = did_you_mean(name, [*COMPOSITES.names(), *_GRADIENTS], otherwise=".")
    raise ExplainError(
        f"unknown method {name!r}{hint} Known: {', '.join(COMPOSITES.names())}, "
        f"{', '.join(_GRADIENTS)}, {INNVESTIGATE}NAME"
    )


def all_methods() -> list[Method]:
    """Every method, innvestigate's among them where it is there.

    Example:
        >>> [method.name for method in all_methods()][:2]
        ['attn_lrp', 'cp_lrp']
    """
    names = [*COMPOSITES.names(), *_GRADIENTS, *(INNVESTIGATE + name for name in innvestigate_names())]
    return [get_method(name) for name in names]


def _innvestigate_method(name: str, arguments: Mapping[str, Any]) -> Method:
    analyzer = name.removeprefix(INNVESTIGATE)
    require_innvestigate()
    if arguments:
        raise ExplainError(f"innvestigate's analyzers are run as they are. Received: {', '.join(arguments)} for {name}")
    if analyzer not in innvestigate_names():
        known = [INNVESTIGATE + each for each in innvestigate_names()]
        hint = did_you_mean(INNVESTIGATE + analyzer, known, otherwise=".")
        raise ExplainError(f"innvestigate has no analyzer {analyzer!r}{hint} Known: {', '.join(innvestigate_names())}")
    return Method(
        name,
        "innvestigate's own analyzer, on the backbone, in a process of its own",
        _one_by_one(functools.partial(explain_by_innvestigate, analyzer=analyzer)),
        distributes=False,
        in_graph=False,
    )


def _gradient_method(
    function: Callable[..., list[tf.Tensor]], arguments: Mapping[str, Any], report: Report | None
) -> Method:
    """A method by a function of `gradients`, `noisy_gradients` or `adaptive_noise`, with arguments of its own."""
    # Behind the model, its inputs and what is selected.
    _, _, _, *taken = inspect.signature(function).parameters
    ours = {"fixed": (LABELS,), **({} if report is None else {"report": report})}
    known = [name for name in taken if name not in ("fixed", "report")]
    for argument in arguments:
        if argument not in known:
            hint = did_you_mean(argument, known, otherwise=f"; it has {', '.join(known) or 'none'}")
            raise ExplainError(f"the method {function.__name__} has no argument {argument!r}{hint}")
    given = {**arguments, **{name: value for name, value in ours.items() if name in taken}}
    summary = (inspect.getdoc(function) or "").splitlines()[0].replace("`", "")
    maps = _one_by_one(functools.partial(function, **given))
    # What reports its steps looks at numbers between them.
    return Method(function.__name__, summary, maps, distributes=False, in_graph="report" not in taken)


def _one_by_one(function: Callable[..., list[tf.Tensor]]) -> Maps:
    return lambda model, inputs, selects: [function(model, inputs, select) for select in selects]


_GRADIENTS = {
    function.__name__: function
    for function in (
        gradients.gradient,
        gradients.input_times_gradient,
        gradients.guided_backprop,
        gradients.integrated_gradients,
        noisy_gradients.smoothgrad,
        noisy_gradients.smooth_taylor,
        adaptive_noise.smoothgrad_adaptive,
        adaptive_noise.smooth_taylor_adaptive,
        gradients.grad_cam,
    )
}
