"""Recordings with boxes and label maps in time, against a config."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from mmspike.config.data_check import check_data
from mmspike.datasets.events.drawn_files import write_moving_shapes
from mmspike.datasets.events.moving_shapes import CLASSES

SIZE = (48, 64)


@pytest.fixture
def roots(tmp_path):
    drawing = dict(size=SIZE, seconds=0.5, label_period=125_000, shapes=(3, 3))
    return dict(
        mmdet=write_moving_shapes(tmp_path / 'gen1', 'gen1', (3, 0, 0), **drawing),
        mmseg=write_moving_shapes(tmp_path / 'dsec', 'dsec_semantic', (2, 0, 0), **drawing),
    )


def check(roots, task, **more):
    dataset = dict(data_root=str(roots[task]), split='train', sensor_size=SIZE, metainfo=dict(classes=CLASSES))
    if task == 'mmdet':
        dataset |= dict(type='mmspike.Gen1')
    else:
        classes = ('background', *CLASSES)
        meta = dict(classes=classes, palette=[[i] * 3 for i in range(4)])
        dataset |= dict(type='mmspike.DSECSemantic', image_size=(44, 64), skip=0, every=1, metainfo=meta)
    cfg = Config(dict(default_scope=task, model=dict(), train_dataloader=dict(dataset=dataset | more | dict(pipeline=[]))))
    report = check_data(cfg, ('train_dataloader',), ())
    return report, '\n'.join(finding.text for finding in report.findings)


def test_data_that_fit(roots):
    report, text = check(roots, 'mmdet')
    assert text == '' and report.rows[0][2].startswith('3 recordings, 12 windows, ')
    assert report.rows[0][3] == 'all boxes, 3 of 3 recordings'
    report, text = check(roots, 'mmseg', samples='sequences')
    assert text == '' and report.rows[0][2] == '2 recordings, 16 sequences, 8 label maps'
    assert report.rows[0][3] == '8 of 8 label maps, 2 of 2 recordings'


def test_faults_of_boxes(roots):
    found = check(roots, 'mmdet', metainfo=dict(classes=CLASSES[:2]))[1]
    assert '_bbox.npy: it has the classes [' in found and 'expected 0 to 1' in found
    assert 'its sensor has 48 x 64 px, expected 240 x 304' in check(roots, 'mmdet', sensor_size=None)[1]
    files = sorted(roots['mmdet'].rglob('*_td.dat'))
    files[0].write_bytes(files[0].read_bytes()[:60])
    assert f'{files[0].name}: ' in check(roots, 'mmdet')[1]
    files[1].unlink()
    assert f'has no recording {files[1].name}' in check(roots, 'mmdet')[1]


def test_faults_of_label_maps(roots):
    assert 'has (44, 64) px, the data set (40, 64)' in check(roots, 'mmseg', image_size=(40, 64))[1]
    first = next(roots['mmseg'].rglob('000002.png'))
    cv2.imwrite(str(first), np.full((44, 64), 7, np.uint8))
    assert 'the label 7 does not fit' in check(roots, 'mmseg')[1]
    first.write_bytes(b'')
    assert f'{first} is no label image' in check(roots, 'mmseg')[1]
