"""Recordings of event cameras: readers, transforms, datasets, pictures.

``__all__`` is written by hand: it has what works without a host. tests/utils/test_registered.py holds it against the files.
"""

from .augment import (
    DownscaleEvents,
    RandomEventAffine,
    RandomEventCrop,
    RandomEventDrop,
    RandomEventFlip,
    RandomEventZoom,
)
from .boxes import read_boxes
from .filters import DropBackgroundActivity, DropHotPixels
from .frames import read_frames
from .mosaic import EventMosaic
from .readers import open_events, read_events
from .representations import EventsToHistogram, EventsToLastPolarity, EventsToVoxelCube
from .sampler import StreamSampler
from .transforms import EventsToFrames, LoadEventFrames, LoadEvents
from .windows import LoadEventWindow

__all__ = [
    'DownscaleEvents',
    'DropBackgroundActivity',
    'DropHotPixels',
    'EventMosaic',
    'EventsToFrames',
    'EventsToHistogram',
    'EventsToLastPolarity',
    'EventsToVoxelCube',
    'LoadEventFrames',
    'LoadEventWindow',
    'LoadEvents',
    'RandomEventAffine',
    'RandomEventCrop',
    'RandomEventDrop',
    'RandomEventFlip',
    'RandomEventZoom',
    'StreamSampler',
    'open_events',
    'read_boxes',
    'read_events',
    'read_frames',
]
