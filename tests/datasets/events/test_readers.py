"""Every format gives the events that were recorded, and a broken file is named."""

import cv2
import numpy as np
import pytest

from mmspike.datasets.events import aedat, read_events, read_frames, readers
from mmspike.datasets.events.frames import choose_frames
from mmspike.utils.errors import UserError

from .recordings import aedat2_bytes, aedat3_bytes, atis_bytes, davis_bytes, random_events, write_npz

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
        ('a.aedat', b'#!AER-DAT1.0\r\n', 'expected #!AER-DAT2.0 or #!AER-DAT3.1'),
        ('b.aedat', b'#!AER-DAT3.1\r\nnothing', 'no #!END-HEADER'),
        ('a.npz', b'no archive', 'a.npz'),
        ('a.txt', b'', 'files of events end with'),
        ('a.npy', None, 'files of events end with'),
        ('packed.aedat', b'#!AER-DAT3.1\r\n#Format: SerializedTS\r\n#!END-HEADER\r\n', 'packed .format SerializedTS.'),
        ('chip.aedat', b'#!AER-DAT2.0\r\n# AEChip: es.cnm.imse.DVS_IMSE\r\n', 'names the chip es.cnm.imse.DVS_IMSE'),
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


@pytest.mark.parametrize('chip, size', [('DAVIS240C', (180, 240)), ('Davis346red', (260, 346)), ('Davis640', (480, 640))])
def test_a_davis_is_told_from_a_dvs128(tmp_path, chip, size):
    recorded = random_events(size=size)
    data = davis_bytes(*recorded, size, f'eu.seebetter.ini.chips.davis.{chip}')
    (tmp_path / 'davis.aedat').write_bytes(data)
    events = read_events(tmp_path / 'davis.aedat', size)
    for field, values in zip('txyp', recorded, strict=True):
        assert np.array_equal(events[field], values), field


@pytest.mark.parametrize('end', [b'', b'# End of ASCII Header\r\n'])
def test_a_first_event_that_begins_with_a_hash_is_none_of_the_header(tmp_path, end):
    t, x, y, p = (np.array(v) for v in ([10, 0x0A0A], [3, 4], [259 - 141, 5], [1, 0]))
    data = davis_bytes(t, x, y, p, (260, 346), end=end)
    assert data[-4 * 8 :].startswith(b'#')
    (tmp_path / 'a.aedat').write_bytes(data)
    assert read_events(tmp_path / 'a.aedat')['y'].tolist() == [118, 5]


def test_headers_of_real_files(shared):
    for name, rest in (('mibblez128', 38), ('mibblez240', 28)):  # then dollar signs, which are no events
        with pytest.raises(ValueError, match=f'{name}.aedat: {rest} bytes of events are no whole number'):
            read_events(shared / f'data/event_files/{name}.aedat', (34, 34))


def test_packed_packets_are_named(tmp_path):
    data = bytearray(aedat3_bytes(*random_events(5)))
    data[data.index(b'HEADER\r\n') + 9] |= 0x80  # high byte of the packet's type
    (tmp_path / 'a.aedat').write_bytes(data)
    with pytest.raises(ValueError, match=r'a\.aedat: the packet at byte 0 after the file header is packed'):
        read_events(tmp_path / 'a.aedat')


SECONDS = np.array([0.0, 0.1, 0.25])


@pytest.mark.parametrize(
    'arrays, reason',
    [
        (dict(t=SECONDS), r't has fractions, the first 0\.1 at event 1: times are whole us.*round\(t \* 1e6\)'),
        (dict(t=np.array([0, np.nan, 2.0])), 't is nan at event 1'),
        (dict(t=np.array([0, np.inf, 2.0])), 't is inf at event 1'),
        (dict(x=np.array([0.0, 1.4, -0.7])), r'x has fractions, the first 1\.4 at event 1'),
        (dict(y=np.array([0.0, -0.7, 2])), r'y has fractions, the first -0\.7'),
        (dict(x=np.array([0, 65539, 2])), 'outside the 34 x 34 px sensor, the first at x=65539, y=1'),
        (dict(y=np.array([0, 1, -1])), 'outside the 34 x 34 px sensor, the first at x=2, y=-1'),
        (dict(p=np.array([1, 2, 1])), r'p .polarity. has the values 1, 2: expected 0 and 1'),
        (dict(p=np.array([1, 255, 1], np.uint8)), 'values 1, 255: expected .*-1 kept as an unsigned byte'),
        (dict(p=np.array([255, 255, 255], np.uint8)), 'values 255: expected'),
        (dict(p=np.array([0, 1, np.nan])), 'values 0, 1, nan'),
        (dict(t=np.array([2**32 - 5, 2**32 - 1, 3], np.uint32)), r't falls from 4294967295 to 3 us at event 2: the clock'),
        (dict(t=np.array([2**32 - 5, 2**32 - 1, 3])), 't falls from 4294967295 to 3 us'),
        (dict(t=np.array([60000, 65000, 3], np.uint16)), 'counts to 65536 us'),
        (dict(t=np.array([['a'], ['b'], ['c']])), r't has shape \(3, 1\) and type <U1'),
    ],
)
def test_arrays_that_are_no_events_are_named(tmp_path, arrays, reason):
    good = dict(t=np.arange(3), x=np.arange(3), y=np.arange(3), p=np.array([0, 1, 1]))
    np.savez(tmp_path / 'a.npz', **(good | arrays))
    with pytest.raises(UserError, match=rf'cannot read recording .*a\.npz: .*{reason}'):
        read_events(tmp_path / 'a.npz', (34, 34))


@pytest.mark.parametrize(
    'p', [np.array([0, 1, 1]), np.array([-1, 1, 1], np.int8), np.array([False, True, True]), np.array([0, 255, 255], np.uint8)]
)
@pytest.mark.parametrize('dtype', [np.uint64, np.float64, np.int32])
def test_arrays_that_are_events(tmp_path, p, dtype):
    np.savez(tmp_path / 'a.npz', t=np.array([5, 20, 7], dtype), x=np.arange(3, dtype=dtype), y=np.zeros(3, dtype), p=p)
    events = read_events(tmp_path / 'a.npz', (34, 34))
    assert events['t'].tolist() == [5, 7, 20] and events['x'].tolist() == [0, 2, 1] and events['p'].tolist() == [0, 1, 1]


@pytest.mark.parametrize('name', ['wrap.bin', 'wrap.aedat'])
def test_a_clock_that_began_anew_is_named(tmp_path, name):
    late, early = (2**23 - 3, 4) if name == 'wrap.bin' else (2**32 - 3, 4)
    arrays = [np.array(v) for v in ([late, late + 1, early], [1, 2, 3], [1, 2, 3], [0, 1, 0])]
    (tmp_path / name).write_bytes((atis_bytes if name == 'wrap.bin' else aedat2_bytes)(*arrays))
    with pytest.raises(ValueError, match=rf'{name}: t falls from {late + 1} to 4 us at event 2'):
        read_events(tmp_path / name)


def test_blocks_of_a_long_recording_are_joined(tmp_path, monkeypatch):
    recorded = random_events(300, seed=1)
    (tmp_path / 'a.bin').write_bytes(atis_bytes(*recorded))
    (tmp_path / 'a.aedat').write_bytes(aedat2_bytes(*recorded))
    (tmp_path / 'b.aedat').write_bytes(aedat3_bytes(*recorded, packet=30))
    monkeypatch.setattr(readers, 'CHUNK', 64)
    monkeypatch.setattr(aedat, 'CHUNK', 64)
    monkeypatch.setattr(aedat, 'PACKETS', 3)
    for name in ('a.bin', 'a.aedat', 'b.aedat'):
        events = read_events(tmp_path / name, interval=(100_000, 200_000))
        inside = (recorded[0] >= 100_000) & (recorded[0] < 200_000)
        assert all(np.array_equal(events[k], v[inside]) for k, v in zip('txyp', recorded, strict=True)), name


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
    (folder / '._00000001.png').write_bytes(b'hidden')
    assert len(read_frames(folder, 1)) == 1
    with pytest.raises(ValueError, match='neither a folder'):
        read_frames(tmp_path / 'other', 4)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='empty: the folder has no images'):
        read_frames(tmp_path / 'empty', 4)
