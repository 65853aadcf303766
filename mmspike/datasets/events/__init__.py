"""Recordings of event cameras: readers, transforms, datasets, pictures."""

from .readers import read_events, read_frames
from .transforms import EventsToFrames, LoadEventFrames, LoadEvents, RandomEventAffine, RandomEventDrop

__all__ = [
    'EventsToFrames',
    'LoadEventFrames',
    'LoadEvents',
    'RandomEventAffine',
    'RandomEventDrop',
    'read_events',
    'read_frames',
]
