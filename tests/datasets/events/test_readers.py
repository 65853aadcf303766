"""Every format gives the events that were recorded, and a broken file is named."""

import cv2
import numpy as np
import pytest

from mmspike.datasets.events import read_events, read_frames
from mmspike.datasets.events.readers import choose_frames

from .recordings import aedat2_bytes, aedat3_bytes, atis_bytes, random_events, write_npz

FORMATS = {'atis.bin': atis_bytes, 'two.aedat': aedat2_bytes, 'three.aedat': aedat3_bytes}


@pytest.fixture
def recording(tmp_path):
    """Writes a recording by the name of its format; returns the path and what was recorded."""

    def write(name, **kwargs):
        recorded = random_events(**kwargs)
        if name.endswith('.npz'):
            write_npz(tmp_path / name, *recorded)
        else:
            (tmp_path / name).write_bytes(FORMATS[name](*recorded))
        return tmp_path / name, recorded

    return write


@pytest.mark.parametrize('name', [*FORMATS, 'plain.npz'])
def test_recorded_events_are_read(recording, name):
    path, recorded = recording(name)
    events = read_events(path, (34, 34))
    for field, values in zip('txyp', recorded, strict=True):
        assert np.array_equal(events[field], values), field


@pytest.mark.parametrize(
    'name, reader',
    [
        ('atis.bin', 'utils.load_ATIS_bin'),
        ('two.aedat', 'cifar10_dvs._load_origin_data'),
        ('three.aedat', 'utils.load_aedat_v3'),
        ('plain.npz', 'base._load_events'),
    ],
)
def test_as_spikingjelly_reads(recording, name, reader):
    datasets = pytest.importorskip('spikingjelly.datasets')
    path, _ = recording(name, size=(128, 128))
    events = read_events(path)
    module, function = reader.split('.')
    theirs = getattr(getattr(datasets, module), function)(path)
    assert all(np.array_equal(events[field], theirs[field]) for field in 'txyp')


def test_real_recordings(shared):
    sizes = [len(read_events(p, (34, 34))) for p in sorted((shared / 'data/nmnist/Test/0').iterdir())]
    assert sizes and all(1000 < n < 10000 for n in sizes)


def test_wraps_of_the_clock_and_time_overflow(tmp_path):
    t, x, y, p = (np.array(v) for v in ([8000, 0, 5], [1, 0, 2], [1, 240, 2], [1, 0, 0]))
    (tmp_path / 'wrap.bin').write_bytes(atis_bytes(t, x, y, p))
    assert read_events(tmp_path / 'wrap.bin', (34, 34))['t'].tolist() == [8000, 5 + 2**13]
    t, x, y, p = random_events(5)
    (tmp_path / 'late.aedat').write_bytes(aedat3_bytes(t, x, y, p, overflow=2))
    assert np.array_equal(read_events(tmp_path / 'late.aedat')['t'], t + 2**32)


def test_order_of_time_and_interval(tmp_path):
    write_npz(tmp_path / 'a.npz', np.array([30, 10, 20]), np.array([3, 1, 2]), np.zeros(3, int), np.array([-1, 1, 1]))
    events = read_events(tmp_path / 'a.npz')
    assert events['x'].tolist() == [1, 2, 3] and events['p'].tolist() == [1, 1, 0]
    assert read_events(tmp_path / 'a.npz', interval=(10, 30))['t'].tolist() == [10, 20]
    with pytest.raises(ValueError, match=r'a\.npz: it has no events from 40 to 50 us'):
        read_events(tmp_path / 'a.npz', interval=(40, 50))


@pytest.mark.parametrize('name', [*FORMATS, 'plain.npz'])
@pytest.mark.parametrize('left', [0.0, 0.7])
def test_cut_off_recordings_are_named(recording, name, left):
    path, _ = recording(name, number=501)
    data = path.read_bytes()
    path.write_bytes(data[: int(left * len(data)) // 10 * 10 + 3 if left else 0])
    with pytest.raises(ValueError, match=f'cannot read recording .*{name}'):
        read_events(path)


@pytest.mark.parametrize(
    'name, content, reason',
    [
        ('a.bin', bytes([200, 10, 128, 0, 1]), 'outside the 34 x 34 px sensor'),
        ('a.aedat', b'#!AER-DAT4.0\r\n', 'expected #!AER-DAT2.0 or #!AER-DAT3.1'),
        ('b.aedat', b'#!AER-DAT3.1\r\nnothing', 'no #!END-HEADER'),
        ('a.npz', b'no archive', 'a.npz'),
        ('a.txt', b'', 'files of events end with'),
        ('a.dat', None, 'files of events end with'),
        ('missing.bin', None, 'FileNotFoundError'),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f'cannot read recording .*{name}.*{reason}|cannot read recording .*{reason}'):
        read_events(tmp_path / name, (34, 34))


def test_npz_of_other_arrays_is_named(tmp_path):
    np.savez(tmp_path / 'a.npz', t=np.zeros(3), x=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz: it has the arrays \['t', 'x'\]"):
        read_events(tmp_path / 'a.npz')
    write_npz(tmp_path / 'b.npz', np.zeros(3), np.zeros(3), np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match=r'b\.npz: t, x, y and p have different lengths'):
        read_events(tmp_path / 'b.npz')


def test_choice_of_frames():
    assert choose_frames(8, 4, False).tolist() == [1, 3, 5, 7]
    assert choose_frames(2, 4, False).tolist() == [0, 0, 1, 1]
    for _ in range(20):
        assert (choose_frames(8, 4, True) // 2).tolist() == [0, 1, 2, 3]


def test_folders_and_arrays_of_frames(tmp_path):
    folder = tmp_path / 'dvSave'
    folder.mkdir()
    for i in range(8):
        cv2.imwrite(str(folder / f'{i + 1:08d}.png'), np.full((6, 5, 3), (i, 0, 100 + i), np.uint8))
    frames = read_frames(folder, 4)
    assert frames.shape == (4, 2, 6, 5)
    assert np.allclose(frames[:, 0, 0, 0] * 255, [1, 3, 5, 7]) and np.allclose(frames[:, 1, 0, 0] * 255, [101, 103, 105, 107])
    np.savez(tmp_path / 'frames.npz', frames=np.arange(4 * 2 * 3 * 3).reshape(4, 2, 3, 3))
    assert read_frames(tmp_path / 'frames.npz', 2)[:, 0, 0, 0].tolist() == [18, 54]

    (folder / '00000002.png').write_bytes((folder / '00000002.png').read_bytes()[:40])
    with pytest.raises(ValueError, match='00000002.png: it is no image'):
        read_frames(folder, 8)
    with pytest.raises(ValueError, match='neither a folder'):
        read_frames(tmp_path / 'other', 4)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty: the folder has no images'):
        read_frames(tmp_path / 'empty', 4)
