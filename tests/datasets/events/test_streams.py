"""Recordings that are read in part, against the events that were written, and real ones against themselves."""

import h5py
import numpy as np
import pytest

from mmspike.datasets.events import open_events, read_events
from mmspike.datasets.events import prophesee as prophesee_module
from mmspike.datasets.events import stream as stream_module
from mmspike.datasets.events.recording import RecordingError
from mmspike.datasets.events.stream import MissingPackage

from .recordings import dat_bytes, evt2_bytes, evt3_bytes, random_events, write_dsec, write_rvt

SIZE = (34, 34)


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    """Blocks of some events, so that a small file has many; of real files as they are."""
    if 'shared' in request.fixturenames:
        return
    for module in (stream_module, prophesee_module):
        monkeypatch.setattr(module, 'BLOCK', 64)
    monkeypatch.setattr('mmspike.datasets.events.hdf5.BLOCK', 64)
    monkeypatch.setattr(prophesee_module.Evt3Stream, 'CHUNK', 256)


def write(path, events):
    if path.name == 'rvt.h5':
        write_rvt(path, *events, size=SIZE)
    elif path.name == 'dsec.h5':
        write_dsec(path, *events)
    else:
        path.write_bytes(dict(dat=dat_bytes, evt2=evt2_bytes, evt3=evt3_bytes)[path.stem](*events))
    return path


NAMES = ('dat.dat', 'evt2.raw', 'evt3.raw', 'rvt.h5', 'dsec.h5')


@pytest.mark.parametrize('name', NAMES)
def test_what_was_written_is_read(tmp_path, name):
    t, x, y, p = events = random_events()
    with open_events(write(tmp_path / name, events)) as stream:
        assert len(stream.parts) > 3 and stream.count == len(t) and stream.span == (t[0], t[-1])
        whole = np.concatenate(list(stream.blocks()))
        for field, values in zip('txyp', (t, x, y, p), strict=True):
            assert whole[field].tolist() == values.tolist()
        # a later stream with the index of this one; intervals from the back, so that nothing is known from before
        again = open_events(stream.path, index=stream.index)
        for start, end in ((200_000, 300_001), (0, 1), (90_000, 90_000), (50_000, 200_000), (299_000, 10**9), (-5, 50_000)):
            within = (t >= start) & (t < end)
            part = again.between(start, end)
            assert part['t'].tolist() == t[within].tolist() and part['x'].tolist() == x[within].tolist()
            assert part['y'].tolist() == y[within].tolist() and part['p'].tolist() == p[within].tolist()
        again.close()
    assert len(read_events(stream.path, interval=(50_000, 200_000))) == ((t >= 50_000) & (t < 200_000)).sum()


@pytest.mark.parametrize('name', ['dat.dat', 'evt2.raw'])
def test_late_events_and_a_clock_that_begins_anew(tmp_path, name):
    """An event some us late stays in its place; times beyond what the clock counts to go on."""
    period = 2**32 if name == 'dat.dat' else 2**34
    t, x, y, p = random_events(300)
    t = t + period - 150_000
    t[[40, 200]] -= 30
    expected = np.sort(t)
    with open_events(write(tmp_path / name, (t, x, y, p))) as stream:
        assert stream.span == (expected[0], expected[-1])
        assert stream.between(*(expected[[0, -1]] + [0, 1]))['t'].tolist() == expected.tolist()
        late = stream.between(int(expected[150]), int(expected[250]))['t']
        assert late.tolist() == expected[(expected >= expected[150]) & (expected < expected[250])].tolist()


def test_times_of_evt3_go_on_beyond_its_clock(tmp_path):
    t, x, y, p = random_events(400)
    t = np.sort(t * 200)  # 60 s, where the clock counts to 16.8 s
    with open_events(write(tmp_path / 'evt3.raw', (t, x, y, p))) as stream:
        assert stream.between(0, 10**9)['t'].tolist() == t.tolist()
        assert stream.between(40_000_000, 50_000_000)['t'].tolist() == t[(t >= 40_000_000) & (t < 50_000_000)].tolist()


def test_polarity_and_times_of_hdf5(tmp_path):
    """-1 and 1 are OFF and ON; times that fall are raised; DSEC's offset is added."""
    t, x, y, p = random_events(200)
    fallen = t.copy()
    fallen[100] -= 5000
    write_rvt(tmp_path / 'a.h5', fallen, x, y, (2 * p - 1).astype(np.int8), size=SIZE)
    with open_events(tmp_path / 'a.h5') as stream:
        events = stream.between(0, 10**9)
        assert stream.repaired == 1 and stream.sensor_size == SIZE
    assert events['p'].tolist() == p.tolist() and events['t'][100] == t[99]
    write_dsec(tmp_path / 'b.h5', t, x, y, p, offset=49_599_300_523)
    with open_events(tmp_path / 'b.h5') as stream:
        assert stream.span == (t[0] + 49_599_300_523, t[-1] + 49_599_300_523) and stream.sensor_size == (480, 640)


@pytest.mark.parametrize('name', ['tonic_ncars.dat', 'exp_evt3.raw', 'tonic.aedat4'])
def test_real_recordings_in_parts_are_the_whole(shared, name):
    with open_events(shared / 'data' / 'event_files' / name) as stream:
        whole = np.concatenate(list(stream.blocks()))
        whole = whole[np.argsort(whole['t'], kind='stable')]
        first, last = stream.span
        cuts = [first, first + (last - first) // 3, last - (last - first) // 5, last + 1]
        parts = [stream.between(a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert len(whole) == {'tonic_ncars.dat': 2009, 'exp_evt3.raw': 219596, 'tonic.aedat4': 111954}[name]
    assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize('name', NAMES)
def test_files_that_are_cut_off_or_empty_are_named(tmp_path, name):
    path = write(tmp_path / name, random_events())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordingError, match=f'cannot read recording .*{name}'):
        read_events(path)
    path.write_bytes(b'')
    with pytest.raises(RecordingError, match=f'cannot read recording .*{name}'):
        read_events(path)


@pytest.mark.parametrize(
    ('name', 'content', 'reason'),
    [
        ('a.raw', b'% evt 2.1\n% end\n', 'names the format 2.1: EVT 2.0 and 3.0 are read.*metavision_file_to_dat'),
        ('a.raw', b'% date 2026\n% end\n', 'names the format nowhere'),
        ('a.dat', b'% Height 240\n' + bytes([3, 8]), r'the bytes \[3, 8\].*0 or 12'),
        ('a.es', b'Event Stream', 'event-stream or faery'),
        ('a.bag', b'#ROSBAG', 'rosbags'),
        ('a.mat', b'MATLAB', 'loadmat'),
        ('a.h5', b'\x00' * 64, 'a.h5'),
    ],
)
def test_other_formats_are_refused_with_a_hint(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordingError, match=reason):
        open_events(tmp_path / name)


def test_layouts_of_hdf5_that_are_not_read(tmp_path):
    with h5py.File(tmp_path / 'ecf.hdf5', 'w') as file:
        file.create_group('CD')
    with pytest.raises(RecordingError, match='ECF.*metavision_file_to_dat'):
        open_events(tmp_path / 'ecf.hdf5')
    with h5py.File(tmp_path / 'other.h5', 'w') as file:
        file['events/t'] = np.arange(3)
    with pytest.raises(RecordingError, match='no arrays events/x, events/y, events/p'):
        open_events(tmp_path / 'other.h5')


def test_events_outside_the_sensor_and_another_sensor(tmp_path):
    t, x, y, p = random_events()
    path = write(tmp_path / 'dat.dat', (t, x, y, p))
    with pytest.raises(RecordingError, match='34 x 34 px, expected 240 x 304 px'):
        open_events(path, (240, 304))
    x[7] = 40
    path.write_bytes(dat_bytes(t, x, y, p))
    with pytest.raises(RecordingError, match='1 events lie outside the 34 x 34 px sensor, the first at x=40'):
        read_events(path)


@pytest.mark.parametrize(('name', 'package'), [('evt3.raw', 'evt3'), ('rvt.h5', 'h5py hdf5plugin'), ('a.aedat4', 'aedat')])
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, package):
    path = tmp_path / name
    if name == 'a.aedat4':
        path.write_bytes(b'#!AER-DAT4.0\r\n')
    else:
        write(path, random_events())
    monkeypatch.setitem(__import__('sys').modules, package.split()[0], None)
    with pytest.raises(MissingPackage, match=f'pip install {package}'):
        open_events(path)
