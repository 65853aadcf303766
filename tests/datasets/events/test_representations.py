"""Frames of several channels, and events that move with their boxes and label maps."""

import numpy as np
import pytest
from mmdet.structures.bbox import HorizontalBoxes

from mmspike.datasets.events import (
    DropHotPixels,
    EventMosaic,
    EventsToFrames,
    EventsToHistogram,
    EventsToLastPolarity,
    EventsToVoxelCube,
    RandomEventAffine,
    RandomEventCrop,
    RandomEventDrop,
    RandomEventFlip,
    RandomEventZoom,
)
from mmspike.datasets.events.recording import EVENT

SIZE = (8, 16)


def sample(rows, window=(100, 200), **more):
    """Events of rows (t, x, y, p)."""
    return dict(events=np.array(rows, EVENT), sensor_size=SIZE, window=window, **more)


def pixel(results, y, x):
    """Values of a pixel by step and channel."""
    return results['img'][y, x].reshape(results['steps'], -1).tolist()


# two steps of 50 us; the first event of a window counts for the first, the last for the last
ROWS = [(100, 3, 5, 1), (124, 3, 5, 0), (125, 3, 5, 0), (149, 3, 5, 0), (150, 3, 5, 1), (199, 3, 5, 1), (160, 0, 0, 0)]


def test_frames_by_time_count_from_the_start_of_the_window():
    results = EventsToFrames(T=2, by='time')(sample(ROWS))
    assert pixel(results, 5, 3) == [[3, 1], [0, 2]] and pixel(results, 0, 0) == [[0, 0], [1, 0]]
    # without a window from the first event to the last
    alone = sample(ROWS)
    del alone['window']
    assert pixel(EventsToFrames(T=2, by='time')(alone), 5, 3) == [[2, 1], [1, 2]]
    assert results['scale_factor'] == (1.0, 1.0) and 'events' not in results


@pytest.mark.parametrize(
    'transform',
    [
        EventsToFrames(T=2, by='time'),
        EventsToFrames(T=2, by='count'),
        EventsToVoxelCube(T=2),
        EventsToHistogram(T=2),
        EventsToLastPolarity(T=2),
        DropHotPixels(),
        RandomEventAffine(degrees=30.0),
        RandomEventDrop(kinds=('time',), prob=1.0),
        RandomEventFlip(prob=1.0),
        RandomEventZoom(prob=1.0),
        RandomEventCrop((4, 4)),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_events_stay_as_they_were_given(transform):
    """A second epoch, or another window on the same events, sees what the first saw."""
    np.random.seed(0)
    given = sample(ROWS)
    events, before = given['events'], given['events'].copy()
    transform(given)
    assert np.array_equal(events, before)


def test_voxel_cubes_say_whether_there_were_events():
    results = EventsToVoxelCube(T=2, micro_bins=2)(sample(ROWS))
    # OFF, ON of the first 25 us, then of the second
    assert pixel(results, 5, 3) == [[1, 1, 1, 0], [0, 1, 0, 1]]
    assert results['img'].shape == (8, 16, 8) and results['img'].dtype == np.float32


def test_histograms_count_up_to_a_limit():
    results = EventsToHistogram(T=1, bins=4, limit=2)(sample([*ROWS, (126, 3, 5, 0)]))
    # OFF of the four parts, then ON
    assert pixel(results, 5, 3) == [[1, 2, 0, 0, 1, 0, 1, 1]]


def test_the_last_polarity_of_a_pixel():
    grey = np.float32(127 / 255)
    results = EventsToLastPolarity(T=2, channels=3)(sample(ROWS))
    assert pixel(results, 5, 3) == [[0] * 3, [1] * 3]
    assert pixel(results, 0, 0) == [[grey] * 3, [0] * 3]


@pytest.mark.parametrize('kind', [EventsToVoxelCube, EventsToHistogram, EventsToLastPolarity, EventsToFrames])
def test_a_window_without_events(kind):
    results = kind(T=2)(sample([]))
    assert np.unique(results['img']).tolist() == [np.float32(127 / 255) if kind is EventsToLastPolarity else 0]


def annotated(**more):
    labels = np.arange(8 * 16, dtype=np.uint8).reshape(SIZE)
    boxes = np.array([[1.0, 2.0, 5.0, 6.0], [10.0, 0.0, 16.0, 8.0]], np.float32)
    return sample(ROWS, gt_bboxes=boxes, gt_bboxes_labels=np.array([0, 1]), gt_seg_map=labels, **more)


def test_a_flip_moves_events_boxes_and_maps_alike():
    before = annotated()
    results = RandomEventFlip(prob=1.0)(annotated())
    assert results['events']['x'].tolist() == (15 - before['events']['x']).tolist()
    assert results['gt_bboxes'].tolist() == [[11, 2, 15, 6], [0, 0, 6, 8]]
    assert np.array_equal(results['gt_seg_map'], before['gt_seg_map'][:, ::-1])
    results = RandomEventFlip(prob=1.0, direction='vertical')(annotated())
    assert results['events']['y'].tolist() == (7 - before['events']['y']).tolist()
    assert np.array_equal(results['gt_seg_map'], before['gt_seg_map'][::-1])


def test_a_crop_moves_events_boxes_and_maps_alike(monkeypatch):
    monkeypatch.setattr(np.random, 'randint', lambda high: high - 1)
    results = RandomEventCrop((4, 20))(annotated())  # the lower half
    assert results['sensor_size'] == (4, 16)
    assert results['events'][['x', 'y']].tolist() == [(3, 1)] * 6
    assert results['gt_bboxes'].tolist() == [[1, 0, 5, 2], [10, 0, 16, 4]]
    assert np.array_equal(results['gt_seg_map'], annotated()['gt_seg_map'][4:])


def test_zoom_keeps_a_marked_pixel_inside_its_box():
    for seed in range(6):
        np.random.seed(seed)
        rows = [(100 + i, 6, 4, 1) for i in range(9)]
        boxes = HorizontalBoxes(np.array([[6.0, 4.0, 7.0, 5.0]], np.float32))
        start = sample(rows, gt_bboxes=boxes, gt_bboxes_labels=np.array([0]))
        results = RandomEventZoom(zoom_in=(2.0, 3.0), prob=1.0, weights=(1, 0))(start)
        if not len(results['gt_bboxes']):
            continue
        left, top, right, bottom = results['gt_bboxes'].tensor[0].tolist()
        assert right - left > 1.5 or left == 0 or right == 16
        events = results['events']
        assert len(events) and ((events['x'] + 1 > left) & (events['x'] < right)).all()
        assert ((events['y'] + 1 > top) & (events['y'] < bottom)).all()


def test_a_mosaic_has_four_windows_in_its_quarters():
    np.random.seed(0)
    others = [annotated() for _ in range(3)]
    for number, other in enumerate(others):
        other['window'] = (1000 * number, 1000 * number + 100)
        other['events']['t'] += 1000 * number - 100
    mosaic = EventMosaic(scale=(1.0, 1.0), centre=(0.5, 0.5))
    results = mosaic(annotated(mix_results=others))
    # of each window the quarter next to the point where they meet is left
    first = annotated()['gt_seg_map']
    quarters = [[first[4:, 8:], first[4:, :8]], [first[:4, 8:], first[:4, :8]]]
    assert np.array_equal(results['gt_seg_map'], np.block(quarters))
    assert results['gt_bboxes'].tolist() == [[2, 0, 8, 4], [9, 0, 13, 2], [2, 4, 8, 8], [9, 6, 13, 8]]
    assert results['gt_bboxes_labels'].tolist() == [1, 0, 1, 0]
    assert (np.diff(results['events']['t']) >= 0).all() and 100 <= results['events']['t'].min()
    assert len(mosaic.get_indexes(range(5))) == 3
    with pytest.raises(ValueError, match='put LoadAnnotations before it'):
        mosaic(sample(ROWS, instances=[dict(bbox=[0, 0, 1, 1])], mix_results=others))
