"""Classification with spikes. Needs mmpretrain."""

from .distilled_classifier import DistilledImageClassifier
from .linear_head import SpikingLinearClsHead

__all__ = ['DistilledImageClassifier', 'SpikingLinearClsHead']
