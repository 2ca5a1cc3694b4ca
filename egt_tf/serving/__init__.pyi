# What `__init__.py` imports on first use, for type checkers and editors.
from egt_tf.serving.client import ExplainedPrediction as ExplainedPrediction
from egt_tf.serving.client import ModelServer as ModelServer
from egt_tf.serving.client import Prediction as Prediction
from egt_tf.serving.client import RemoteClassifier as RemoteClassifier
from egt_tf.serving.client import SupportFiles as SupportFiles
from egt_tf.serving.client import read_support_files as read_support_files
from egt_tf.serving.explainer import ExportedExplainer as ExportedExplainer
from egt_tf.serving.explainer import open_explainer as open_explainer
from egt_tf.serving.exported_model import ExportedModel as ExportedModel
