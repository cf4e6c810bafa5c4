"""Losses: ``loss.forward(prediction, target)`` returns the number, ``loss.backward()`` the gradient of exactly it."""

from fastfnn.losses.base import TASKS, Loss
from fastfnn.losses.classes import CrossEntropyLoss, NLLLoss
from fastfnn.losses.elements import BCELoss, BCEWithLogitsLoss, HuberLoss, L1Loss, MSELoss, PoissonNLLLoss

__all__ = [
    "TASKS",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "PoissonNLLLoss",
]
