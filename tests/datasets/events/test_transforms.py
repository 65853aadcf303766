import numpy as np
import pytest

from mmspike.datasets import (
    DownscaleEvents,
    EventsToFrames,
    LoadEventFrames,
    LoadEvents,
    RandomEventAffine,
    RandomEventDrop,
)
from mmspike.datasets.events.recording import make_events
from mmspike.datasets.events.transforms import integrate

from .recordings import random_events, write_npz


@pytest.fixture
def results():
    return dict(events=make_events(*random_events(1003)), sensor_size=(34, 34))


@pytest.mark.parametrize('by, theirs', [('count', 'number'), ('time', 'time')])
@pytest.mark.parametrize('T', [1, 4, 7])
def test_frames_are_spikingjellys(results, by, theirs, T):
    utils = pytest.importorskip('spikingjelly.datasets').utils
    events = {field: results['events'][field] for field in 'txyp'}
    expected = utils.integrate_events_by_fixed_frames_number(events, theirs, T, 34, 34)
    assert np.array_equal(integrate(results['events'], (34, 34), T, by), expected)


def test_layout_of_the_picture(results):
    frames = integrate(results['events'], (34, 34), 4, 'count')
    out = EventsToFrames(T=4)(results)
    assert out['img'].shape == (34, 34, 8) and out['img_shape'] == (34, 34) and 'events' not in out
    assert np.array_equal(out['img'][..., 2 * 3 + 1], frames[3, 1])


@pytest.mark.parametrize('by', ['count', 'time'])
def test_few_or_no_events(by):
    two = make_events(*(np.array(v) for v in ([5, 9], [0, 1], [0, 0], [1, 0])))
    assert integrate(two, (2, 2), 4, by).sum() == 2
    assert integrate(two[:0], (2, 2), 4, by).sum() == 0


def test_a_pause_gives_an_empty_frame():
    events = make_events(*(np.array(v) for v in ([0, 1, 98, 99], [0] * 4, [0] * 4, [1] * 4)))
    assert integrate(events, (1, 1), 3, 'time').sum((1, 2, 3)).tolist() == [2, 0, 2]


def test_fixed_duration():
    events = make_events(*(np.array(v) for v in ([10, 19, 20, 45], [0] * 4, [0] * 4, [1] * 4)))
    assert EventsToFrames(T=3, by='time', duration=10)(dict(events=events, sensor_size=(1, 1)))['img'].sum((0, 1)).tolist() == [
        *(0, 2),
        *(0, 1),
        *(0, 0),
    ]


@pytest.mark.parametrize(
    'build',
    [
        lambda: EventsToFrames(T=0),
        lambda: EventsToFrames(T=4, by='number'),
        lambda: EventsToFrames(T=4, by='count', duration=10),
        lambda: LoadEventFrames(T=2.5),
        lambda: DownscaleEvents(factor=1),
        lambda: RandomEventAffine(scale=(1.2, 1.0)),
        lambda: RandomEventDrop(ratio=(0.1, 1.0)),
        lambda: RandomEventDrop(kinds=('space',)),
    ],
)
def test_wrong_settings(build):
    with pytest.raises(ValueError):
        build()


def test_load(tmp_path):
    write_npz(tmp_path / 'a.npz', *(np.array(v) for v in ([1, 2], [3, 7], [9, 2], [1, 0])))
    assert LoadEvents()(dict(events_path=tmp_path / 'a.npz', sensor_size=None))['sensor_size'] == (10, 8)
    with pytest.raises(ValueError, match='a.npz.*outside the 5 x 8'):
        LoadEvents()(dict(events_path=tmp_path / 'a.npz', sensor_size=(5, 8)))


def test_affine_moves_events():
    np.random.seed(0)
    block = np.stack(np.meshgrid(np.arange(14, 20), np.arange(14, 20)), -1).reshape(-1, 2).repeat(100, 0)
    events = make_events(np.arange(len(block)), block[:, 0], block[:, 1], np.ones(len(block)))
    still = RandomEventAffine()(dict(events=events, sensor_size=(34, 34)))['events']
    assert np.array_equal(still, events)
    out = RandomEventAffine(degrees=45)(dict(events=events, sensor_size=(34, 34)))['events']
    assert len(out) == len(events) and not np.array_equal(out, events)
    assert abs(out['x'].mean() - 16.5) < 0.3 and abs(out['y'].mean() - 16.5) < 0.3  # about the middle
    large = RandomEventAffine(scale=(2, 2))(dict(events=events, sensor_size=(34, 34)))['events']
    occupied = integrate(large, (34, 34), 1, 'count').sum((0, 1)) > 0
    assert occupied[11:23, 11:23].all() and occupied.sum() == 144  # twice as wide, and no gaps
    shifted = [RandomEventAffine(translate=0.5)(dict(events=events, sensor_size=(34, 34)))['events'] for _ in range(20)]
    assert min(len(e) for e in shifted) < len(events)
    assert all(0 <= e[k].min() and e[k].max() < 34 for e in shifted if len(e) for k in 'xy')
    assert np.array_equal(events['x'], block[:, 0])  # the input is left alone


def _turned(angle, **annotations):
    """Results after a turn by exactly ``angle`` degrees, of a sensor with events in one pixel."""
    events = make_events(np.arange(50), np.full(50, 20), np.full(50, 5), np.ones(50))
    turn = RandomEventAffine(degrees=1)
    turn.degrees = angle / np.random.RandomState(3).uniform(-1, 1, 3)[1]  # the draws: prob, then the angle
    np.random.seed(3)
    return turn(dict(events=events, sensor_size=(30, 40), **annotations))


@pytest.mark.parametrize('boxes', ['array', 'mmdet'])
def test_boxes_follow_the_events(boxes):
    corners = np.array([[20, 5, 21, 6], [0, 14, 2, 16], [10, 5, 30, 25], [39, 0, 40, 1]], np.float32)
    if boxes == 'mmdet':
        corners = pytest.importorskip('mmdet.structures.bbox').HorizontalBoxes(corners)
    labels = dict(gt_bboxes_labels=np.arange(4), gt_ignore_flags=np.zeros(4, bool))
    out = _turned(90, gt_bboxes=corners, **labels)
    events = out['events']  # about (20, 15): (20.5, 5.5) comes to (29.5, 15.5)
    assert set(events['x']) <= {29} and set(events['y']) <= {15} and len(events) == 50
    moved = out['gt_bboxes'] if boxes == 'array' else out['gt_bboxes'].tensor.numpy()
    # the second box leaves below (y = -5 to -3), as does the last (x = 34 to 35, y = 34)
    assert np.allclose(moved, [[29, 15, 30, 16], [10, 5, 30, 25]], atol=1e-4)
    assert out['gt_bboxes_labels'].tolist() == [0, 2] and len(out['gt_ignore_flags']) == 2


def test_a_label_map_follows_the_events():
    labels = np.zeros((30, 40), np.uint8)
    labels[5, 20] = 7
    out = _turned(90, gt_seg_map=labels)
    assert np.argwhere(out['gt_seg_map'] == 7).tolist() == [[15, 29]]
    assert (out['gt_seg_map'][:, :5] == 255).all() and (out['gt_seg_map'][:, 5:35] == labels.max()).sum() == 1


def test_downscaled_boxes_are_found_in_the_sensors_pixels():
    events = make_events(*(np.array(v) for v in ([0, 1, 2], [0, 3, 4], [1, 2, 4], [0, 1, 1])))
    corners = np.array([[0, 1, 4, 5]], np.float32)
    labels = dict(gt_bboxes=corners, gt_bboxes_labels=np.zeros(1, int))
    out = DownscaleEvents()(dict(events=events, sensor_size=(5, 5), **labels))
    assert out['events'][['x', 'y']].tolist() == [(0, 0), (1, 1), (2, 2)]
    assert out['gt_bboxes'].tolist() == [[0, 0.5, 2, 2.5]] and out['sensor_size'] == (3, 3)
    out = EventsToFrames(T=1)(out)
    assert (out['img_shape'], out['ori_shape'], out['scale_factor']) == ((3, 3), (5, 5), (0.5, 0.5))
    plain = EventsToFrames(T=1)(dict(events=events, sensor_size=(5, 5)))
    assert (plain['img_shape'], plain['ori_shape'], plain['scale_factor']) == ((5, 5), (5, 5), (1.0, 1.0))
    with pytest.raises(ValueError, match='is for boxes'):
        DownscaleEvents()(dict(events=events, sensor_size=(5, 5), gt_seg_map=np.zeros((5, 5), np.uint8)))


@pytest.mark.parametrize(
    'annotations, reason',
    [
        (dict(gt_bboxes=np.zeros((0, 4)), gt_masks=object()), 'no gt_masks'),
        (dict(instances=[dict(bbox=[0, 0, 1, 1])]), 'put LoadAnnotations before it'),
        (dict(seg_map_path='a.png'), 'put LoadAnnotations before it'),
    ],
)
def test_annotations_that_would_stay_are_refused(results, annotations, reason):
    with pytest.raises(ValueError, match=reason):
        RandomEventAffine(prob=0.0)(results | annotations)


@pytest.mark.parametrize('start', [0, 10_000_000])
@pytest.mark.parametrize('kind', ['time', 'area', 'random'])
def test_drop(results, kind, start):
    np.random.seed(0)
    events = results['events']
    events['t'] += start  # a window late in a recording loses the same part
    out = RandomEventDrop(ratio=(0.4, 0.4), kinds=(kind,), prob=1.0)(results)['events']
    gone = np.setdiff1d(events['t'], out['t'])
    lost = 1 - len(out) / len(events)
    assert abs(lost - (0.16 if kind == 'area' else 0.4)) < 0.08
    if kind == 'time':
        assert not ((out['t'] > gone.min()) & (out['t'] < gone.max())).any()
    assert (np.diff(out['t']) >= 0).all()
    assert len(RandomEventDrop(prob=0.0)(dict(events=events, sensor_size=(34, 34)))['events']) == len(events)


def test_drop_of_an_area_stays_in_its_range():
    events = make_events(np.arange(10_000), *np.divmod(np.arange(10_000), 100), np.ones(10_000))  # one in every pixel
    drop = RandomEventDrop(ratio=(0.1, 0.2), kinds=('area',), prob=1.0)
    np.random.seed(0)
    dropped = [10_000 - len(drop(dict(events=events, sensor_size=(100, 100)))['events']) for _ in range(100)]
    assert 81 <= min(dropped) <= 150 and 350 <= max(dropped) <= 441  # sides of 10 to 20 px, one more or less
