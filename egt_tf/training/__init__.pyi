# What `__init__.py` imports on first use, for type checkers and editors.
from egt_tf.training.backbone_classifier import BackboneClassifier as BackboneClassifier
from egt_tf.training.backbone_classifier import PretrainingModel as PretrainingModel
from egt_tf.training.checkpoints import Checkpoints as Checkpoints
from egt_tf.training.cluster import read_cluster as read_cluster
from egt_tf.training.guidance import GuidedScores as GuidedScores
from egt_tf.training.guidance import LossWeights as LossWeights
from egt_tf.training.guidance import guided_scores as guided_scores
from egt_tf.training.guidance import loss_weights as loss_weights
from egt_tf.training.guidance import relevance_weights as relevance_weights
from egt_tf.training.guided_model import GuidedModel as GuidedModel
from egt_tf.training.learned_transformation import TransformationLearner as TransformationLearner
from egt_tf.training.loop import train as train
from egt_tf.training.optimizers import OPTIMIZERS as OPTIMIZERS
from egt_tf.training.pretraining import pretrain as pretrain
from egt_tf.training.schedules import SCHEDULES as SCHEDULES
from egt_tf.training.state import TrainingState as TrainingState
from egt_tf.training.strategy import open_strategy as open_strategy
