"""Recordings that a window cannot be read from are named; those that only look odd are read."""

import numpy as np
import pytest

from mmspike.datasets.events import LoadEventWindow
from mmspike.datasets.events.recording import RecordingError

SIZE = (240, 304)
HEADER = b'% Height 240\n% Width 304\n'


def dat(times, x=5, header=HEADER, kind=bytes([0, 8])):
    words = np.broadcast_to(np.asarray(x) | 7 << 14, (len(times),))
    return header + kind + np.stack([np.asarray(times) % 2**32, words], 1).astype('<u4').tobytes()


def load(tmp_path, content, window=(0, 1000), index=True, name='drive_td.dat'):
    path = tmp_path / name
    path.write_bytes(content)
    sample = dict(events_path=str(path), sensor_size=SIZE, window=window)
    if index:
        sample['index_path'] = str(tmp_path / 'index.npz')
    return LoadEventWindow()(sample)['events']['t'].tolist()


@pytest.mark.parametrize(
    'content, fault',
    [
        (dat([1, 2, 3])[:-3], 'cut off'),
        (HEADER[:10], 'drive_td.dat'),
        (dat([]), 'it has no events'),
        (dat([1, 2], x=304), '2 events lie outside the 240 x 304 px sensor, the first at x=304'),
        (dat([1, 2], kind=bytes([3, 16])), 'expected the type of event, 0 or 12'),
        (dat([1, 2], header=HEADER.replace(b'304', b'640')), 'its sensor has 240 x 640 px, expected 240 x 304 px'),
        (b'<html>Log in</html>' + bytes(5), 'and the window of a label of 0 to 1000 us.* It is a web page'),
    ],
)
def test_broken_ones_are_named(tmp_path, content, fault):
    with pytest.raises(RecordingError, match=f'drive_td.dat.*{fault}|{fault}'):
        load(tmp_path, content)


@pytest.mark.parametrize('named, other', [('2.0', '3.0'), ('3.0', '2.0')])
def test_a_header_that_names_another_format_than_the_events_have(tmp_path, named, other):
    t = np.arange(0, 640, 10)
    if other == '2.0':
        words = np.concatenate([[8 << 28], 1 << 28 | (t % 64) << 22 | 5 << 11 | 7]).astype('<u4')
    else:  # times, rows and columns in turn
        words = np.stack([8 << 12 | 0 * t, 6 << 12 | t, 0 << 12 | 7 + 0 * t, 2 << 12 | 5 + 0 * t], 1).astype('<u2')
    header = b'% evt %s\n% geometry 304x240\n% end\n'
    right, wrong = (header.replace(b'%s', version.encode()) + words.tobytes() for version in (other, named))
    assert len(load(tmp_path, right, name='right.raw')) == len(t)
    with pytest.raises(RecordingError, match='wrong.raw.* words are of types that the format in its header does not have'):
        load(tmp_path, wrong, name='wrong.raw')


def test_an_aedat4_that_is_cut_off(tmp_path, shared):
    whole = (shared / 'data/event_files/tonic.aedat4').read_bytes()
    with pytest.raises(RecordingError, match=f'half.aedat4.*it is cut off: it has {len(whole) // 2} bytes'):
        load(tmp_path, whole[: len(whole) // 2], name='half.aedat4')


@pytest.mark.parametrize('index', [True, False])
def test_odd_ones_are_read(tmp_path, index):
    assert load(tmp_path, dat([400]), index=index) == [400]
    # an event that comes late is put in order
    assert load(tmp_path, dat([100, 300, 200, 1500]), index=index) == [100, 200, 300]
    # a clock that began anew goes on
    wrapped = dat([2**32 - 10, 2**32 - 5, 2**32 + 5, 2**32 + 2000])
    assert load(tmp_path, wrapped, (2**32 - 6, 2**32 + 1000), index) == [2**32 - 5, 2**32 + 5]


def test_a_format_that_is_not_read_has_a_hint(tmp_path):
    with pytest.raises(RecordingError, match=r'drive.bag.*convert it with the package rosbags'):
        load(tmp_path, b'#ROSBAG V2.0', name='drive.bag')


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    import builtins

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == 'h5py':
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    with pytest.raises(ImportError, match='events.h5 is an HDF5 file: pip install h5py hdf5plugin'):
        load(tmp_path, b'\x89HDF\r\n', name='events.h5')
