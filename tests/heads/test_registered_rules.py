"""What the engine of relevance is told of the package's own layers: nothing is forgotten, and each import brings it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from egt_tf.backbones.batch_noise import BatchNoise, FixedNoise
from egt_tf.backbones.feature_transformation import FeatureTransformation
from egt_tf.backbones.layers import (
    BatchNormalization,
    ChannelScale,
    LearnedTokens,
    PositionEmbedding,
    Power,
    ReverseChannels,
    RMSNormalization,
)
from egt_tf.episodic_model import JoinEpisodes, SplitEpisodes
from egt_tf.errors import ExplainError
from egt_tf.explain.query_classifier import FirstQuery, WithSupport
from egt_tf.heads import Head
from egt_tf.heads.attention import AttendedPrototypeMean, AttendedQuery, FusedAttention, PositionCosines
from egt_tf.heads.graph_layers import (
    GraphNodes,
    Neighbourhood,
    NeighbourSoftmax,
    QueryScores,
    SkipConcatenate,
)
from egt_tf.heads.graph_pairs import PairBatchNormalization, PairDense, PairDifferences, PairMatrix
from egt_tf.heads.layers import (
    DropLastAxis,
    EpisodeBatchNormalization,
    FlattenMap,
    MapMaxPooling2D,
    MapMean,
    PairConcat,
    PairConvolution2D,
    PrototypeMean,
)
from egt_tf.heads.lrp_rules import (
    AttendedFraction,
    AttentionGate,
    CombinationShare,
    Fraction,
    NeighbourhoodShare,
    ShareProduct,
)
from egt_tf.heads.ridge_layers import CentredMaps, MapCombination, RidgeCoefficients, UnitVector
from egt_tf.heads.similarity import AxisMean, AxisSum, PairProduct, PairSplit, Scale, Square
from egt_tf.keras_api import keras
from egt_tf.lrp import COMPOSITES, Pass, RouteWithout

L = keras.layers

# A layer of the package, and one of Keras that has the same rule in every composite.
LIKE = {
    FeatureTransformation: (FeatureTransformation(), L.LeakyReLU()),
    BatchNoise: (BatchNoise(), L.LeakyReLU()),
    FixedNoise: (FixedNoise(), L.LeakyReLU()),
    Power: (Power(0.5), L.LeakyReLU()),
    ChannelScale: (ChannelScale([1.0], [0.0]), L.Rescaling(1.0)),
    BatchNormalization: (BatchNormalization(), L.BatchNormalization()),
    RMSNormalization: (RMSNormalization(), L.LayerNormalization()),
    PositionEmbedding: (PositionEmbedding(), L.Subtract()),
    EpisodeBatchNormalization: (EpisodeBatchNormalization(), L.BatchNormalization()),
    PairBatchNormalization: (PairBatchNormalization(), L.BatchNormalization()),
    PairConvolution2D: (PairConvolution2D(1, 1), L.Conv2D(1, 1)),
    PairDense: (PairDense(1), L.Dense(1)),
    MapMaxPooling2D: (MapMaxPooling2D(), L.MaxPooling2D()),
    MapMean: (MapMean(), L.GlobalAveragePooling2D()),
    PrototypeMean: (PrototypeMean(), L.Average()),
    **{
        type(layer): (layer, L.Flatten())
        for layer in (
            *(JoinEpisodes(), SplitEpisodes(), PairConcat(), PairSplit()),
            *(FlattenMap(), DropLastAxis(), GraphNodes(2), QueryScores()),
            *(ReverseChannels(), WithSupport(1, 1), FirstQuery(), LearnedTokens()),
        )
    },
}
OWN = (AxisMean(-1), AxisSum(-1), AttendedPrototypeMean(), Neighbourhood(), MapCombination(), PairProduct())
OWN_RULES = {
    "published": (
        *2 * [Fraction(0.01)],
        AttendedFraction(0.01),
        NeighbourhoodShare(0.01, False),
        CombinationShare(0.0),
        ShareProduct(1, 1),
    ),
    "zennit": (
        *2 * [Fraction(1e-6)],
        AttendedFraction(1e-6),
        NeighbourhoodShare(1e-6, True),
        CombinationShare(1e-6),
        ShareProduct(0.5, 0.5),
    ),
    "innvestigate": (
        *2 * [Fraction(0.0)],
        AttendedFraction(0.0),
        NeighbourhoodShare(0.0, True),
        CombinationShare(0.0),
        ShareProduct(),
    ),
}
SAME_EVERYWHERE = {
    **{layer: Pass() for layer in (Scale(2.0), Square(), UnitVector(), CentredMaps())},
    AttendedQuery(): AttentionGate(),
}
LOSES_SKIPS = ("fsc", "fsc_gamma")
# What weighs other values: relevance does not go there.
WITHOUT_A_RULE = (
    PositionCosines(),
    FusedAttention((1, 1)),
    PairDifferences(),
    PairMatrix(),
    NeighbourSoftmax(),
    RidgeCoefficients(1.0),
)


@pytest.fixture(params=COMPOSITES.names())
def composite(request):
    return COMPOSITES.get(request.param)


def test_conventions():
    conventions = {name: COMPOSITES.get(name).convention for name in COMPOSITES.names()}
    assert {name for name, convention in conventions.items() if convention == "published"} == {
        *("fsc", "fsc_gamma", "fsc_can")
    }
    assert {name for name, convention in conventions.items() if convention == "innvestigate"} == {
        name for name in conventions if name.startswith("lrp.")
    }


@pytest.mark.parametrize("first", [False, True])
def test_layers_that_are_like_others(composite, first):
    for ours, kerass in LIKE.values():
        assert composite.rule_for(ours, first) == composite.rule_for(kerass, first), ours.name
    skip = RouteWithout((1,)) if composite.name in LOSES_SKIPS else composite.rule_for(L.Concatenate(), first)
    assert composite.rule_for(SkipConcatenate(), first) == skip


def test_layers_with_rules_of_their_own(composite):
    assert tuple(composite.rule_for(layer) for layer in OWN) == OWN_RULES[composite.convention]
    assert [composite.rule_for(layer) for layer in SAME_EVERYWHERE] == list(SAME_EVERYWHERE.values())


def test_what_relevance_does_not_go_through_has_no_rule(composite):
    for layer in WITHOUT_A_RULE:
        with pytest.raises(ExplainError, match="no rule of composite"):
            composite.rule_for(layer)


def test_no_layer_is_forgotten():
    listed = {*LIKE, SkipConcatenate, *map(type, (*OWN, *SAME_EVERYWHERE, *WITHOUT_A_RULE))}
    ours = {
        member
        for name, member in keras.saving.get_custom_objects().items()
        if name.startswith("egt_tf>") and issubclass(member, L.Layer) and member.__module__.startswith("egt_tf.")
    }
    assert {member for member in ours if not issubclass(member, (Head, keras.Model))} == listed


@pytest.mark.parametrize(
    ("module", "layer", "rule"),
    [
        pytest.param("egt_tf.heads.layers", "DropLastAxis()", "Derivative()", marks=pytest.mark.slow),
        ("egt_tf.heads.similarity", "PairProduct()", "ShareProduct(query=1.0, prototype=1.0)"),
        pytest.param(
            "egt_tf.backbones.feature_transformation", "FeatureTransformation()", "Pass()", marks=pytest.mark.slow
        ),
        pytest.param("egt_tf.episodic_model", "JoinEpisodes()", "Derivative()", marks=pytest.mark.slow),
    ],
)
def test_whoever_has_a_layer_has_its_rule(module, layer, rule):
    code = f"from {module} import *\nimport egt_tf.lrp\nprint(egt_tf.lrp.COMPOSITES.get('fsc').rule_for({layer}))\n"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == rule, result.stderr
