"""Recordings of event cameras: readers, transforms, datasets, pictures.

``__all__`` is written by hand: it has what works without a host. tests/utils/test_registered.py holds it against the files.
"""

from .augment import DropHotPixels, RandomEventAffine, RandomEventDrop
from .frames import read_frames
from .readers import open_events, read_events
from .transforms import EventsToFrames, LoadEventFrames, LoadEvents

__all__ = [
    'DropHotPixels',
    'EventsToFrames',
    'LoadEventFrames',
    'LoadEvents',
    'RandomEventAffine',
    'RandomEventDrop',
    'open_events',
    'read_events',
    'read_frames',
]
