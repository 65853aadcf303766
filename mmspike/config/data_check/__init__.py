"""Compare data with config before the first iteration: one check for detection, segmentation, classification and events."""

from .check import check_data, stop_at_errors
from .findings import Finding, Report

__all__ = ['Finding', 'Report', 'check_data', 'stop_at_errors']
