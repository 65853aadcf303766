"""Classification with spikes. Needs mmpretrain."""

from .attention_pool_head import AttentionPoolClsHead
from .distilled_classifier import DistilledImageClassifier
from .event_preprocessor import EventDataPreprocessor
from .linear_head import SpikingLinearClsHead

__all__ = ['AttentionPoolClsHead', 'DistilledImageClassifier', 'EventDataPreprocessor', 'SpikingLinearClsHead']
