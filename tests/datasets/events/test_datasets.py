"""The data sets in mmpretrain, from files as they are published to batches."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner

from mmspike.utils.errors import UserError

from .recordings import aedat2_bytes, aedat3_bytes, atis_bytes, random_events, write_npz


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def build(kind, root, **kwargs):
    return DATASETS.build(dict(type=f'mmspike.{kind}', data_root=str(root), **kwargs))


def pipeline(T=4, *more):
    return [dict(type='mmspike.LoadEvents'), dict(type='mmspike.EventsToFrames', T=T), *more, dict(type='mmspike.PackEvents')]


def write_folders(root, classes, ending, encode, number=3, **kwargs):
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(number):
            recorded = random_events(100, seed=10 * label + i, **kwargs)
            (root / name / f'{name}_{i}{ending}').write_bytes(encode(*recorded))


def test_nmnist(tmp_path):
    write_folders(tmp_path / 'Train', '0123456789', '.bin', atis_bytes)
    dataset = build('NMNIST', tmp_path, data_prefix='Train', pipeline=pipeline())
    assert len(dataset) == 30 and dataset.CLASSES[7] == '7'
    sample = dataset[21]
    assert sample['inputs'].shape == (4, 2, 34, 34) and sample['inputs'].sum() == 100
    assert sample['data_samples'].gt_label.tolist() == [7]
    assert sample['data_samples'].events_path.endswith('7/7_0.bin')


def test_cifar10_dvs_and_shares_in_order_of_numbers(tmp_path):
    classes = ('airplane', 'truck')
    write_folders(tmp_path, classes, '.aedat', aedat2_bytes, number=20, size=(128, 128))
    test = build('CIFAR10DVS', tmp_path, share=(0.0, 0.15))
    train = build('CIFAR10DVS', tmp_path, share=(0.15, 1.0), pipeline=pipeline(16))
    names = [test.get_data_info(i)['events_path'].rsplit('/')[-1] for i in range(len(test))]
    assert names == [f'{c}_{i}.aedat' for c in classes for i in range(3)]  # truck_10 is no test recording
    assert len(train) == 34 and not set(names) & {train.get_data_info(i)['events_path'].rsplit('/')[-1] for i in range(34)}
    assert train[33]['inputs'].shape == (16, 2, 128, 128) and train[33]['data_samples'].gt_label.tolist() == [9]


def test_n_caltech101_takes_its_classes_from_the_folders(tmp_path):
    write_folders(tmp_path, ('ant', 'yin_yang'), '.bin', atis_bytes, size=(180, 240))
    dataset = build('NCaltech101', tmp_path, pipeline=pipeline())
    assert dataset.CLASSES == ('ant', 'yin_yang') and dataset[5]['inputs'].shape == (4, 2, 180, 240)


def write_gestures(root):
    t, x, y, p = random_events(1000, (128, 128))
    (root / 'user01_lab.aedat').write_bytes(aedat3_bytes(t, x, y, p))
    (root / 'user01_lab_labels.csv').write_text('class,startTime_usec,endTime_usec\n1,0,100000\n11,150000,250000\n')
    (root / 'trials_to_train.txt').write_text('user01_lab.aedat\n\n')
    return t


def test_gestures_are_parts_of_a_recording(tmp_path):
    t = write_gestures(tmp_path)
    dataset = build('DVS128Gesture', tmp_path, ann_file='trials_to_train.txt', pipeline=pipeline())
    assert [dataset.get_data_info(i)['gt_label'] for i in range(2)] == [0, 10]
    assert dataset[0]['inputs'].sum() == (t < 100000).sum()
    assert dataset[1]['inputs'].sum() == ((t >= 150000) & (t < 250000)).sum()


@pytest.mark.parametrize('row', ['12,0,100', '0,0,100', '3,100,100', '3,x,100', '3,100'])
def test_wrong_gestures_are_named(tmp_path, row):
    write_gestures(tmp_path)
    (tmp_path / 'user01_lab_labels.csv').write_text(f'class,startTime_usec,endTime_usec\n{row}\n')
    with pytest.raises(ValueError, match='user01_lab.aedat.*user01_lab_labels.csv'):
        build('DVS128Gesture', tmp_path, ann_file='trials_to_train.txt')


def test_gestures_prepared_by_spikingjelly(tmp_path):
    for label in (0, 10):
        (tmp_path / 'train' / str(label)).mkdir(parents=True)
        write_npz(tmp_path / 'train' / str(label) / 'user01_0.npz', *random_events(50, (128, 128)))
    dataset = build('DVS128Gesture', tmp_path, data_prefix='train', pipeline=pipeline())
    assert [int(dataset[i]['data_samples'].gt_label) for i in range(2)] == [0, 10]


def test_har_dvs_frames_and_events(tmp_path):
    (tmp_path / 'train_label.txt').write_text('action_003/dvSave-1 9 2\naction_300/dvSave-2 9 299\n')
    for name in ('action_003/dvSave-1', 'action_300/dvSave-2'):
        (tmp_path / name).mkdir(parents=True)
        for i in range(9):
            cv2.imwrite(str(tmp_path / name / f'{i:08d}.png'), np.full((26, 34, 3), 25 * i, np.uint8))
        write_npz(tmp_path / f'{name}.npz', *random_events(50, (260, 346)))
    frames = [
        dict(type='mmspike.LoadEventFrames', T=3),
        dict(type='Resize', scale=(48, 48)),
        dict(type='RandomCrop', crop_size=32),
        dict(type='RandomFlip', prob=0.5),
        dict(type='mmspike.PackEvents'),
    ]
    dataset = build('HARDVS', tmp_path, ann_file='train_label.txt', pipeline=frames)
    assert [dataset.get_data_info(i)['gt_label'] for i in range(2)] == [2, 299]
    assert torch.allclose(dataset[1]['inputs'].mean((1, 2, 3)) * 255, torch.tensor([25.0, 100.0, 175.0]))
    assert dataset[1]['inputs'].shape == (3, 2, 32, 32)
    events = build('HARDVS', tmp_path, ann_file='train_label.txt', suffix='.npz', pipeline=pipeline(8))
    assert events[0]['inputs'].shape == (8, 2, 260, 346)
    (tmp_path / 'wrong.txt').write_text('action_301/dvSave-1 9 2\n')
    with pytest.raises(ValueError, match='wrong.txt.*action_301'):
        build('HARDVS', tmp_path, ann_file='wrong.txt')


def test_lists_of_recordings(tmp_path):
    write_npz(tmp_path / 'a b.npz', *random_events(50))
    (tmp_path / 'list.txt').write_text('a b.npz 1\n')
    kwargs = dict(ann_file='list.txt', sensor_size=(40, 50), classes=('x', 'y'), pipeline=pipeline())
    assert build('EventFolders', tmp_path, **kwargs)[0]['inputs'].shape == (4, 2, 40, 50)
    for line in ('a.npz 2', 'a.npz', 'a.npz y'):
        (tmp_path / 'list.txt').write_text(line)
        with pytest.raises(ValueError, match='list.txt.*0 to 1'):
            build('EventFolders', tmp_path, **kwargs)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match='Train does not exist'):
        build('NMNIST', tmp_path, data_prefix='Train')
    with pytest.raises(ValueError, match='cannot read the list of recordings .*trials.txt'):
        build('DVS128Gesture', tmp_path, ann_file='trials.txt')
    (tmp_path / 'Train').mkdir()
    with pytest.raises(ValueError, match='Train has no recordings'):
        build('NMNIST', tmp_path, data_prefix='Train')
    (tmp_path / 'Train' / 'ten').mkdir()
    with pytest.raises(ValueError, match='ten is no class of NMNIST'):
        build('NMNIST', tmp_path, data_prefix='Train')
    with pytest.raises(ValueError, match='share'):
        build('NMNIST', tmp_path, share=(0.5, 0.5))


def test_hidden_folders_and_files_are_left_out(tmp_path, capsys):
    for name in ('left', 'right', '.ipynb_checkpoints', 'left/.ipynb_checkpoints'):
        (tmp_path / name).mkdir(exist_ok=True)
        write_npz(tmp_path / name / 'a.npz', *random_events(5))
    (tmp_path / 'left' / '._a.npz').write_bytes(b'hidden')
    (tmp_path / 'left' / 'notes.csv').write_text('')
    (tmp_path / 'empty').mkdir()
    dataset = build('EventFolders', tmp_path, test_mode=True)
    assert dataset.CLASSES == ('empty', 'left', 'right')
    found = [(d['events_path'].removeprefix(f'{tmp_path}/'), d['gt_label']) for d in dataset]
    assert found == [('left/a.npz', 1), ('right/a.npz', 2)]
    said = capsys.readouterr().out
    assert f'{tmp_path}/empty has no recording: its class has no sample here' in said
    assert f'Files under {tmp_path} that are no recordings are left out: 1 .csv' in said


@pytest.mark.parametrize('suffix', ['.es', '.npy', '.mat', '.bag'])
def test_formats_that_nobody_reads_are_named(tmp_path, suffix):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'1{suffix}').write_bytes(b'events')
    write_npz(tmp_path / 'a' / '2.npz', *random_events(5))
    with pytest.raises(UserError, match=rf'/a has 1 recordings of formats that are not read, such as 1\{suffix}.*convert'):
        build('EventFolders', tmp_path, test_mode=True)


def test_a_broken_recording_stops_with_its_name(tmp_path):
    write_folders(tmp_path, '0', '.bin', atis_bytes, number=2)
    (tmp_path / '0/0_1.bin').write_bytes((tmp_path / '0/0_1.bin').read_bytes()[:-2])
    dataset = build('NMNIST', tmp_path, pipeline=pipeline())
    with pytest.raises(ValueError, match=r'0/0_1\.bin.*cut off.*on_error'):
        [dataset[i] for i in range(2)]


def test_broken_recordings_are_skipped_in_training_on_request(tmp_path):
    write_folders(tmp_path, '0', '.bin', atis_bytes, number=4)
    (tmp_path / '0/0_1.bin').write_bytes(b'')
    steps = pipeline()
    steps[0]['on_error'] = 'skip'
    dataset = build('NMNIST', tmp_path, pipeline=steps)
    names = [dataset[i]['data_samples'].events_path[-7:] for i in range(4)]
    assert [n for i, n in enumerate(names) if i != 1] == ['0_0.bin', '0_2.bin', '0_3.bin'] and names[1] != '0_1.bin'
    assert dataset.pipeline.transforms[0].skipped.total() >= 1
    with pytest.raises(Exception, match='None'):
        build('NMNIST', tmp_path, pipeline=steps, test_mode=True)[1]
    steps = [dict(type='mmspike.LoadEventFrames', T=3, on_error='skip'), dict(type='mmspike.PackEvents')]
    assert TRANSFORMS.build(steps[0])(dict(events_path=tmp_path / 'nothing')) is None


def test_spawned_workers_read_and_count(tmp_path):
    write_folders(tmp_path, 'ab', '.bin', atis_bytes, number=2, size=(34, 34))
    (tmp_path / 'b' / 'b_1.bin').write_bytes(b'cut')
    load = [dict(type='mmspike.LoadEvents', on_error='skip'), *pipeline()[1:]]
    dataset = build('EventFolders', tmp_path, sensor_size=(34, 34), pipeline=load, max_refetch=100)
    loader = torch.utils.data.DataLoader(dataset, 2, num_workers=1, collate_fn=list, multiprocessing_context='spawn')
    samples = [sample for batch in loader for sample in batch]
    assert len(samples) == 4 and all(sample['inputs'].shape == (4, 2, 34, 34) for sample in samples)
    assert dataset.pipeline.transforms[0].skipped.total() >= 1


def test_geometric_transforms_of_the_host_treat_all_steps_alike(tmp_path):
    init_default_scope('mmpretrain')
    picture = np.random.default_rng(0).poisson(1.0, (34, 34, 32)).astype(np.float32)
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=1.0, direction='horizontal'))
    assert np.array_equal(flip(dict(img=picture))['img'], picture[:, ::-1])
    crop = TRANSFORMS.build(dict(type='RandomCrop', crop_size=34, padding=4))(dict(img=picture))['img']
    assert crop.shape == picture.shape and not np.array_equal(crop, picture)


def test_predictions_are_drawn(tmp_path):
    """What --show-dir of tools/test.py does: the hook of the host, on strips of frames."""
    write_folders(tmp_path / 'data', '01', '.bin', atis_bytes, number=2)
    dataset = dict(type='mmspike.NMNIST', data_root=str(tmp_path / 'data'), pipeline=pipeline())
    loader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False))
    hook = dict(type='mmspike.EventVisualizationHook', enable=True, interval=1, out_dir=str(tmp_path / 'drawn'))
    model = SMALL | dict(head=SMALL['head'] | dict(num_classes=10))
    runner = Runner(
        model=dict(model, data_preprocessor=dict(type='mmspike.EventDataPreprocessor')),
        work_dir=str(tmp_path),
        test_dataloader=loader | dict(collate_fn=dict(type='default_collate')),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy'),
        default_hooks=dict(visualization=hook, checkpoint=None),
        visualizer=dict(type='UniversalVisualizer'),
        default_scope='mmpretrain',
        experiment_name=tmp_path.name,
    )
    runner.test()
    drawn = sorted((tmp_path / 'drawn').iterdir())
    assert [p.name for p in drawn] == [f'{i}_0.png' for i in range(4)]
    assert all(cv2.imread(str(p)).shape == (106, 4 * 106, 3) for p in drawn)


SMALL = dict(
    type='ImageClassifier',
    data_preprocessor=dict(type='mmspike.EventDataPreprocessor', num_classes=11),
    backbone=dict(
        type='mmspike.Spikformer',
        arch=dict(dims=(8, 16, 32, 64), depth=1, num_heads=4, mlp_ratio=2),
        T=4,
        in_channels=2,
        strides=(1, 2, 2, 1),
        out_indices=(-1,),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=11, in_channels=64),
)


def test_overfits_real_gestures(shared, tmp_path):
    files = sorted((shared / 'data/dvs_gesture').glob('*.npz'))
    (tmp_path / 'list.txt').write_text(''.join(f'{f} {i}\n' for i, f in enumerate(files)))
    resize = dict(type='Resize', scale=(32, 32), interpolation='area')
    dataset = dict(type='mmspike.DVS128Gesture', ann_file=str(tmp_path / 'list.txt'), pipeline=pipeline(4, resize))
    loader = dict(batch_size=10, num_workers=0, collate_fn=dict(type='default_collate'))
    sampler = dict(type='DefaultSampler', shuffle=False)
    (batch,) = Runner.build_dataloader(loader | dict(dataset=dataset, sampler=sampler), seed=0)
    model = MODELS.build(SMALL)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    inputs = model.data_preprocessor(batch, training=True)
    assert inputs['inputs'].shape == (4, 10, 2, 32, 32)
    for _ in range(40):
        loss = model(**inputs, mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictions = model(**inputs, mode='predict')  # with the norms of the batch: running ones lag behind in 40 steps
    assert [int(s.pred_label) for s in predictions] == list(range(10)), loss
