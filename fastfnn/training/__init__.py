"""Training and inference as a user calls them: arguments are checked, epochs ordered, figures reported.

How a batch goes through the network is the business of `fastfnn.engine`.
"""

from fastfnn.training.fit import fit, train_step
from fastfnn.training.inference import Evaluation, evaluate, predict, predict_proba, predict_raw
from fastfnn.training.lr_find import LRSweep, lr_find
from fastfnn.training.predictor import Predictor

__all__ = [
    "Evaluation",
    "LRSweep",
    "Predictor",
    "evaluate",
    "fit",
    "lr_find",
    "predict",
    "predict_proba",
    "predict_raw",
    "train_step",
]
