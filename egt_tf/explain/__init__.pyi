# What `__init__.py` imports on first use, for type checkers and editors.
from egt_tf.explain.explainer import Explainer as Explainer
from egt_tf.explain.explainer import RunExplainer as RunExplainer
from egt_tf.explain.explainer import chosen_support as chosen_support
from egt_tf.explain.explanation import EpisodeExplanation as EpisodeExplanation
from egt_tf.explain.explanation import to_json as to_json
from egt_tf.explain.methods import Method as Method
from egt_tf.explain.methods import all_methods as all_methods
from egt_tf.explain.methods import composite_method as composite_method
from egt_tf.explain.methods import get_method as get_method
from egt_tf.explain.query import QueryRelevance as QueryRelevance
from egt_tf.explain.query import explain_image as explain_image
from egt_tf.explain.query import relevance_of_query as relevance_of_query
