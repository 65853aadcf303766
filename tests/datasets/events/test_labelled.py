"""Data sets of boxes and label maps, on drawn recordings in their layouts."""

import json
import shutil

import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from mmspike.datasets.events import open_events, read_boxes
from mmspike.datasets.events.drawn_files import OFFSET, write_moving_shapes
from mmspike.datasets.events.moving_shapes import CLASSES, draw_recording
from mmspike.datasets.events.recording import RecordingError

SIZE = (48, 64)
NUMBER = dict(gen1=(2, 1, 1), dsec_det=(2, 1, 1), dsec_semantic=(1, 0, 1), ddd17=(5, 1, 1), n_caltech101=(5, 0, 0))
NUMBER['1mpx'] = (1, 1, 1)
META = dict(classes=CLASSES)
# type, layout, scope, what it takes beside the size
KINDS = [
    ('Gen1', 'gen1', 'mmdet', dict(metainfo=META)),
    ('OneMegapixel', '1mpx', 'mmdet', dict(metainfo=META)),
    ('DSECDet', 'dsec_det', 'mmdet', {}),
    ('NCaltech101Boxes', 'n_caltech101', 'mmdet', {}),
    ('DSECSemantic', 'dsec_semantic', 'mmseg', dict(image_size=(44, 64), skip=0, every=1)),
    ('DDD17', 'ddd17', 'mmseg', dict(image_size=(36, 64))),
]


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    """A data set of each layout."""
    folder = tmp_path_factory.mktemp('moving')
    return {
        layout: write_moving_shapes(
            folder / layout, layout, number, size=SIZE, seconds=0.5, label_period=125_000, shapes=(2, 3)
        )
        for layout, number in NUMBER.items()
    }


def build(roots, kind, split='train', **more):
    name, layout, scope, arguments = next(entry for entry in KINDS if entry[0] == kind)
    init_default_scope(scope)
    arguments = (
        dict(data_root=str(roots[layout]), split=split, sensor_size=SIZE, pipeline=[], serialize_data=False) | arguments | more
    )
    return DATASETS.build(dict(type=f'mmspike.{name}', **arguments))


def pipeline(scope, T=2):
    labels = dict(type='LoadAnnotations', with_bbox=True) if scope == 'mmdet' else dict(type='mmspike.LoadEventSegMap')
    pack = 'mmspike.PackEventDetInputs' if scope == 'mmdet' else 'mmspike.PackEventSegInputs'
    frames = dict(type='mmspike.EventsToFrames', T=T, by='time')
    return [dict(type='mmspike.LoadEventWindow'), labels, dict(type='mmspike.RandomEventFlip'), frames, dict(type=pack)]


@pytest.mark.parametrize('kind, layout, scope', [entry[:3] for entry in KINDS])
@pytest.mark.parametrize('samples', ['windows', 'sequences'])
def test_samples_have_events_and_labels(roots, kind, layout, scope, samples):
    data = build(roots, kind, samples=samples, window=100_000, pipeline=pipeline(scope))
    infos = [data.get_data_info(i) for i in range(len(data))]
    assert {'continues' in info for info in infos} == {samples == 'sequences'}
    labelled = next(i for i, info in enumerate(infos) if info['labelled'])
    item = data[labelled]
    height, width = infos[labelled].get('image_size', SIZE)
    assert item['inputs'].shape == (2, 2, height, width) and item['inputs'].sum() > 50
    if scope == 'mmdet':
        assert len(item['data_samples'].gt_instances) == len(infos[labelled]['boxes']) > 0
    else:
        assert len(item['data_samples'].gt_sem_seg.data.unique()) > 1
    blank = [i for i, info in enumerate(infos) if not info['labelled']]
    if samples == 'sequences' and blank:
        item = data[blank[-1]]['data_samples']
        assert len(item.gt_instances) == 0 if scope == 'mmdet' else item.gt_sem_seg.data.unique().tolist() == [255]
    # an index was made, of what was read
    assert list((roots[layout] / '.event_index').rglob('*.npz'))


def test_labels_are_those_that_were_drawn(roots):
    drawn = draw_recording(np.random.default_rng([0, 0, 0]), size=SIZE, seconds=0.5, label_period=125_000, shapes=(2, 3))
    path = roots['gen1'] / 'train' / '17-01-01_00-00-00_0_train'
    assert np.array_equal(read_boxes(f'{path}_bbox.npy'), drawn.boxes)
    with open_events(f'{path}_td.dat') as stream:
        assert np.array_equal(stream.between(0, 10**6), drawn.events) and stream.sensor_size == SIZE
    data = build(roots, 'Gen1', test_mode=True)
    first = [data.get_data_info(i) for i in range(4)]
    assert np.array_equal(np.concatenate([info['boxes'] for info in first]), drawn.boxes)
    assert [info['t'] for info in first] == drawn.label_times.tolist() == [125_000, 250_000, 375_000, 500_000]
    left, top, right, bottom = first[0]['instances'][0]['bbox']
    box = drawn.boxes[0]
    assert (left, top, right - left, bottom - top) == pytest.approx([box[name] for name in 'xywh'])
    # DSEC's clock, and label maps of fewer rows
    semantic = build(roots, 'DSECSemantic')
    assert semantic.get_data_info(1)['t'] == OFFSET + 250_000
    assert build(roots, 'DDD17').get_data_info(0)['t'] == 125_000


def test_the_drawing_is_as_it_says():
    rng = np.random.default_rng
    still = dict(size=SIZE, seconds=1.2, label_period=200_000, shapes=(1, 1), noise=0.0, hot_pixels=0)
    moving, resting = (draw_recording(rng(3), rests=rests, **still) for rests in (0.0, 0.8))
    assert len(moving.events) > 1.5 * len(resting.events) > 0
    noisy = draw_recording(rng(3), **still | dict(noise=5.0))
    expected = 5.0 * 48 * 64 * 1.2
    assert abs(len(noisy.events) - len(moving.events) - expected) < 5 * expected**0.5
    for drawn in (moving, noisy):
        box = drawn.boxes[0]
        seen = np.argwhere(drawn.maps[0] == 1 + box['class_id'])
        low, high = seen.min(0), seen.max(0) + 1
        inside = np.clip([box['y'], box['x'], box['y'] + box['h'], box['x'] + box['w']], 0, [48, 64, 48, 64])
        assert np.abs(inside - [*low, *high]).max() <= 2
    with pytest.raises(ValueError, match='expected a sensor of at least 32 px'):
        draw_recording(rng(0), size=(16, 64))


def test_scenes_have_other_shapes():
    settings = dict(size=SIZE, seconds=0.6, label_period=100_000, shapes=(2, 2))
    one, cut = (draw_recording(np.random.default_rng(3), scene=scene, **settings) for scene in (None, 0.3))
    assert set(one.boxes['track_id']) == {0, 1}
    first, second = (set(cut.boxes['track_id'][part]) for part in (cut.boxes['t'] <= 300_000, cut.boxes['t'] > 300_000))
    assert first == {0, 1} and second == {2, 3}
    # the first scene is the one that would go on, and the change sends no events
    assert np.array_equal(one.maps[:3], cut.maps[:3]) and not np.array_equal(one.maps[3], cut.maps[3])
    assert np.array_equal(*(drawn.events[drawn.events['t'] < 300_000] for drawn in (one, cut)))
    around, usual = ((np.abs(cut.events['t'] - t) < 4000).sum() for t in (300_000, 200_000))
    assert around < 3 * usual
    with pytest.raises(ValueError, match='scenes of at least 0.004 s'):
        draw_recording(np.random.default_rng(0), scene=0.0)


def test_classes_that_the_config_does_not_have_are_refused(roots):
    found = set(np.concatenate([read_boxes(f) for f in roots['gen1'].rglob('*_bbox.npy')])['class_id'].tolist())
    assert max(found) == 2
    with pytest.raises(RecordingError, match='_bbox.npy: it has the classes .*, expected 0 to 1'):
        for split in ('train', 'val', 'test'):
            build(roots, 'Gen1', split, metainfo=dict(classes=CLASSES[:2]))


def test_boxes_to_train_on_are_cut_and_those_to_test_on_are_not(roots):
    test = build(roots, 'Gen1', test_mode=True)
    boxes = np.concatenate([test.get_data_info(i)['boxes'] for i in range(len(test))])
    train = build(roots, 'Gen1')
    cut = np.concatenate([train.get_data_info(i)['boxes'] for i in range(len(train))])
    outside = (boxes['x'] < 0) | (boxes['x'] + boxes['w'] > 63)
    assert outside.any() and not ((cut['x'] < 0) | (cut['x'] + cut['w'] > 63)).any()
    large = build(roots, 'Gen1', min_side=22)
    kept = np.concatenate([large.get_data_info(i)['boxes'] for i in range(len(large))])
    assert 0 < len(kept) < len(cut) and kept['w'].min() >= 22 and kept['h'].min() >= 22


def test_splits(roots):
    named = {
        split: {i['recording'] for i in build(roots, 'DSECDet', split).load_data_list()} for split in ('train', 'val', 'test')
    }
    assert {name.split('/')[1] for name in named['val']} == {'zurich_city_16_a'}
    assert {name.split('/')[0] for name in named['train'] | named['val']} == {'train'} and len(named['train']) == 2
    folders = {
        split: sorted({i['recording'].split('/')[0] for i in build(roots, 'DDD17', split).load_data_list()}) for split in named
    }
    assert folders == dict(train=['dir0', 'dir2', 'dir3', 'dir5', 'dir6'], val=['dir1'], test=['dir4'])
    with pytest.raises(ValueError, match="split='val': DSECSemantic has train, test"):
        build(roots, 'DSECSemantic', 'val')
    shares = [len(build(roots, 'NCaltech101Boxes', share=share)) for share in ((0.0, 0.5), (0.5, 1.0))]
    assert sum(shares) == 5


def test_two_classes_of_dsec(roots):
    data = build(roots, 'DSECDet', two_classes=True)
    assert data.metainfo['classes'] == ('car', 'pedestrian')
    labels = [box['class_id'] for i in range(len(data)) for box in data.get_data_info(i)['boxes']]
    # the drawn classes 0, 1 and 2 are called pedestrian, rider and car there
    assert set(labels) <= {0, 1} and labels


def test_classes_of_ones_own(roots):
    own = build(roots, 'DSECSemantic', metainfo=dict(classes=('background', *CLASSES), palette=[[i, 0, 0] for i in range(4)]))
    assert own.label_map is None and own.metainfo['palette'][3] == [3, 0, 0]
    some = build(roots, 'DDD17', metainfo=dict(classes=('flat', 'human')))
    assert some.label_map == {0: 0, 1: 255, 2: 255, 3: 255, 4: 1, 5: 255}


def test_the_second_call_finds_what_the_first_one_wrote(roots, tmp_path):
    root = roots['gen1']
    marker = (root / 'moving_shapes.json').stat().st_mtime_ns
    again = dict(size=SIZE, seconds=0.5, label_period=125_000, shapes=(2, 3))
    assert write_moving_shapes(root, 'gen1', NUMBER['gen1'], **again) == root
    assert (root / 'moving_shapes.json').stat().st_mtime_ns == marker
    assert json.loads((root / 'moving_shapes.json').read_text())['seconds'] == 0.5
    with pytest.raises(FileExistsError, match='delete it, or choose another folder'):
        write_moving_shapes(root, 'gen1', NUMBER['gen1'], seed=1, **again)
    with pytest.raises(ValueError, match="layout='x': expected one of gen1"):
        write_moving_shapes(tmp_path / 'x', 'x')
    with pytest.raises(ValueError, match='at most .8, 0, 3.'):
        write_moving_shapes(tmp_path / 'x', 'dsec_semantic', (1, 1, 1))


def test_faults_name_the_file(roots, tmp_path):
    root = shutil.copytree(roots['gen1'], tmp_path / 'gen1')
    moved = {'gen1': root}
    lone = root / 'train' / '17-01-01_00-00-00_0_train_td.dat'
    lone.rename(tmp_path / 'away')
    with pytest.raises(RecordingError, match='0_train_bbox.npy has no recording .*0_train_td.dat'):
        build(moved, 'Gen1')
    (tmp_path / 'away').rename(lone)
    boxes = root / 'train' / '17-01-01_00-00-00_1_train_bbox.npy'
    content = boxes.read_bytes()
    boxes.unlink()
    with pytest.raises(RecordingError, match='1_train_td.dat has no boxes .*1_train_bbox.npy'):
        build(moved, 'Gen1')
    boxes.write_bytes(content[:-7])
    with pytest.raises(RecordingError, match='1_train_bbox.npy'):
        build(moved, 'Gen1')
    with pytest.raises(RecordingError, match='train does not exist: Gen1 needs it'):
        build({'gen1': tmp_path}, 'Gen1')
    boxes.write_bytes(content)
    with pytest.raises(RecordingError, match='its sensor has 48 x 64 px, expected 240 x 304'):
        build(moved, 'Gen1', sensor_size=None, pipeline=pipeline('mmdet'))[0]


def test_faults_of_label_maps_name_the_file(roots, tmp_path):
    root = shutil.copytree(roots['dsec_semantic'], tmp_path / 'dsec')
    moved = {'dsec_semantic': root}
    with pytest.raises(RecordingError, match=r'000000.png: it has \(44, 64\) px, the data set \(40, 64\)'):
        build(moved, 'DSECSemantic', image_size=(40, 64), pipeline=pipeline('mmseg'))[0]
    with pytest.raises(ValueError, match=r'image_size=\(50, 64\) is not within the sensor of \(48, 64\)'):
        build(moved, 'DSECSemantic', image_size=(50, 64))
    semantic = root / 'train' / 'zurich_city_00_a' / 'semantic'
    first = semantic / '11classes' / 'data' / '000000.png'
    first.write_bytes(first.read_bytes()[:40])
    with pytest.raises(RecordingError, match='000000.png'):
        build(moved, 'DSECSemantic', pipeline=pipeline('mmseg'))[0]
    first.unlink()
    with pytest.raises(RecordingError, match='4 times of labels and 3 label maps'):
        build(moved, 'DSECSemantic')
    root = shutil.copytree(roots['ddd17'], tmp_path / 'ddd17')
    moved = {'ddd17': root}
    pixels = root / 'dir0' / 'events.dat.xyp'
    pixels.write_bytes(pixels.read_bytes()[:-6])
    with pytest.raises(RecordingError, match='events.dat.t: it has .* times .* cut off'):
        build(moved, 'DDD17', pipeline=pipeline('mmseg'))[0]
    shutil.rmtree(root / 'dir6')
    with pytest.raises(RecordingError, match='has 6 folders dir.*, expected 7'):
        build(moved, 'DDD17')
