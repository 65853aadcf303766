"""Inference for people who have no Runner: pictures and predictions of images, folders and videos."""

from mmspike.utils.weights import find_weights, list_weights

from .event_stream import Answer, EventInferencer
from .inferencer import Inferencer, inference
from .sources import InputError
from .zoo import find_config, list_configs

__all__ = [
    'Answer',
    'EventInferencer',
    'Inferencer',
    'InputError',
    'find_config',
    'find_weights',
    'inference',
    'list_configs',
    'list_weights',
]
