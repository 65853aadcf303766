"""Inference for people who have no Runner: pictures and predictions of images, folders and videos."""

from .inferencer import Inferencer, inference
from .sources import InputError
from .zoo import find_config, list_configs

__all__ = ['Inferencer', 'InputError', 'find_config', 'inference', 'list_configs']
