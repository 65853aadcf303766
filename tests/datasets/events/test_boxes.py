"""Boxes beside recordings: fields of both spellings, tracks, places outside the sensor, files that are none."""

import numpy as np
import pytest

from mmspike.datasets.events.boxes import BOX, GEN1_FILE, TOOLBOX_FILE, cut_boxes, large_boxes, read_boxes
from mmspike.datasets.events.recording import RecordingError


def box(t, x=10.0, y=20.0, w=30.0, h=40.0, label=0, track=1, score=1.0):
    return (t, x, y, w, h, label, track, score)


def stored(rows, dtype):
    """``BOX`` rows in the fields of a file."""
    values = np.array(rows, BOX)
    names = dict(ts='t', confidence='class_confidence')
    out = np.zeros(len(rows), dtype)
    for name in dtype.names:
        out[name] = values[names.get(name, name)]
    return out


@pytest.mark.parametrize('dtype', [GEN1_FILE, TOOLBOX_FILE, np.dtype(TOOLBOX_FILE.descr[::-1])])
def test_fields_of_both_spellings_in_any_order(tmp_path, dtype):
    rows = [box(5, score=0.5), box(9, x=-4.5, label=1, track=7)]
    np.save(tmp_path / 'a.npy', stored(rows, dtype))
    assert read_boxes(tmp_path / 'a.npy').tolist() == rows


def test_order_of_time_and_the_last_of_a_track(tmp_path):
    rows = [box(9, track=2), box(5, x=1.0, track=3), box(5, track=2), box(5, x=2.0, track=3)]
    np.save(tmp_path / 'a.npy', stored(rows, GEN1_FILE))
    assert read_boxes(tmp_path / 'a.npy').tolist() == [rows[2], rows[3], rows[0]]
    # without tracks, all boxes of a time count
    alone = [box(5, track=0), box(5, x=1.0, track=0)]
    np.save(tmp_path / 'b.npy', stored(alone, GEN1_FILE))
    assert read_boxes(tmp_path / 'b.npy').tolist() == alone


def test_boxes_are_cut_by_their_corners():
    boxes = np.array([box(0, x=-10, w=30), box(0, x=295, w=50), box(0, y=239.5), box(0, x=400)], BOX)
    cut = cut_boxes(boxes, (240, 304))
    assert [[float(b[n]) for n in 'xywh'] for b in cut] == [[0, 20, 20, 40], [295, 20, 8, 40]]
    assert boxes['x'][0] == -10


def test_limits_of_size_hold_the_limit_itself():
    boxes = np.array([box(0, w=18, h=24), box(0, w=17.99, h=24), box(0, w=10, h=90), box(0, w=9.99, h=90)], BOX)
    assert large_boxes(boxes, 30, 10).tolist() == [True, False, True, False]
    assert large_boxes(boxes, 30, 10, strict=True).tolist() == [False, False, False, False]
    assert large_boxes(boxes, 29, 9, strict=True).tolist() == [True] * 4


@pytest.mark.parametrize(
    'content, fault',
    [
        (np.zeros(3), 'expected one row a box'),
        (np.zeros(3, [('t', 'i8'), ('x', 'f4')]), 'with t .or ts., x, y, w, h, class_id'),
        (stored([box(0, label=2)], GEN1_FILE), 'has the classes .2., expected 0 to 1'),
        (stored([box(0), box(1, x=np.nan)], GEN1_FILE), 'box 1 has a place that is no number'),
        (None, 'no such file of boxes'),
    ],
)
def test_faults_name_the_file(tmp_path, content, fault):
    path = tmp_path / 'drive_bbox.npy'
    if content is not None:
        np.save(path, content)
    with pytest.raises(RecordingError, match=f'drive_bbox.npy.*{fault}'):
        read_boxes(path, num_classes=2)


def test_an_empty_file_is_no_fault_and_a_cut_off_one_is(tmp_path):
    path = tmp_path / 'a_bbox.npy'
    np.save(path, np.zeros(0, GEN1_FILE))
    assert len(read_boxes(path)) == 0
    np.save(path, stored([box(i) for i in range(9)], GEN1_FILE))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RecordingError, match='a_bbox.npy'):
        read_boxes(path)
    path.write_bytes(b'ts,x,y,w,h')
    with pytest.raises(RecordingError, match='a_bbox.npy: it is no .npy of numpy'):
        read_boxes(path)
