"""Metrics of our runs."""

from .prophesee_metric import PropheseeMetric
from .protocols import PROTOCOLS, Protocol, evaluate_boxes

__all__ = ['PROTOCOLS', 'PropheseeMetric', 'Protocol', 'evaluate_boxes']
