"""Samples in time: windows before labels, sequences, the index that is kept."""

import numpy as np
import pytest

from mmspike.datasets.events import LoadEventWindow, StreamSampler, open_events
from mmspike.datasets.events import kept_index as kept
from mmspike.datasets.events.drawn_files import write_dat
from mmspike.datasets.events.recording import EVENT, RecordingError
from mmspike.datasets.events.windows import check_samples, label_grid, rectify, sequence, windows_before
from mmspike.utils.errors import UserError


def some_events(number=1000, step=1000):
    events = np.zeros(number, EVENT)
    events['t'], events['x'], events['y'] = np.arange(number) * step, np.arange(number) % 304, np.arange(number) % 240
    events['p'] = np.arange(number) % 2
    return events


def test_a_label_grid_takes_what_is_within_the_tolerance():
    times = np.array([99_999, 100_000, 348_000, 350_000, 352_001, 602_001, 1_100_001])
    # 348000 is 2000 us early and taken; from there 602001 is 4001 late, 1100001 is 2001 late
    assert label_grid(times, 250_000).tolist() == [100_000, 348_000]
    assert label_grid(times + 0, 250_000, tolerance=2001).tolist() == [100_000, 348_000, 1_100_001]
    assert label_grid(np.empty(0, np.int64), 250_000).tolist() == []


def test_windows_before_labels_may_begin_before_the_recording():
    assert [tuple(w) for w in windows_before(np.array([60_000, 200_000]), 100_000)] == [
        (-40_000, 60_000, True, True),
        (100_000, 200_000, True, True),
    ]


def test_a_sequence_has_no_gaps_and_ends_at_every_label():
    times = np.array([120_000, 200_000, 430_000])
    windows = sequence(times, 50_000, 10_000)
    assert [w.end for w in windows[:-1]] == [w.start for w in windows[1:]]
    assert [w.end for w in windows if w.labelled] == times.tolist()
    assert [w.first for w in windows] == [True] + [False] * (len(windows) - 1)
    # 80 ms are two windows of 40, 230 ms five of 46; before the first label two whole ones of 50
    assert [w.end - w.start for w in windows] == [50_000] * 2 + [40_000] * 2 + [46_000] * 5
    assert sequence(times[:0], 50_000, 0) == []


@pytest.mark.parametrize(
    'arguments, fault',
    [
        (('window', 50_000, None), 'samples='),
        (('windows', 0, None), 'window=0'),
        (('sequences', 50_000, 40_000), 'grid=40000 us is shorter'),
    ],
)
def test_samples_that_cannot_be_made_are_refused(arguments, fault):
    with pytest.raises(ValueError, match=fault):
        check_samples(*arguments)


def test_an_index_is_made_once_and_anew_for_another_file(tmp_path, monkeypatch):
    path, index = tmp_path / 'a_td.dat', tmp_path / 'kept' / 'a.npz'
    write_dat(path, some_events(), (240, 304))
    passes = []
    reading = open_events.__globals__['DatStream']._read
    monkeypatch.setattr(open_events.__globals__['DatStream'], '_read', lambda self: passes.append(1) or reading(self))

    def read():
        with kept.open_indexed(path, index, (240, 304)) as stream:
            return stream.between(100_000, 200_000)['t'].tolist()

    assert read() == read() == list(range(100_000, 200_000, 1000))
    assert len(passes) == 1
    write_dat(path, some_events(500, 500), (240, 304))
    assert read() == list(range(100_000, 200_000, 500))
    assert len(passes) == 2
    assert sorted(f.name for f in index.parent.iterdir()) == ['a.npz']


def test_a_place_for_the_index_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / 'a_td.dat'
    write_dat(path, some_events(), (240, 304))
    (tmp_path / 'file').write_text('')
    with pytest.raises(RecordingError, match='file/a.npz.*index_dir'):
        kept.open_indexed(path, tmp_path / 'file' / 'a.npz')


def test_loading_a_window(tmp_path):
    path = tmp_path / 'a_td.dat'
    write_dat(path, some_events(), (240, 304))
    sample = dict(events_path=str(path), sensor_size=(240, 304), window=(100_000, 300_000))
    events = LoadEventWindow()(dict(sample))['events']
    assert events['t'].tolist() == list(range(100_000, 300_000, 1000))
    # rows that the labels do not have are left out
    cropped = LoadEventWindow()(dict(sample, image_size=(150, 304)))
    assert cropped['sensor_size'] == (150, 304) and cropped['events']['y'].tolist() == [*range(100, 150), *range(60)]
    assert len(LoadEventWindow()(dict(sample, window=(1_200_000, 1_500_000)))['events']) == 0
    with pytest.raises(RecordingError, match='events are of 0 to 999000 us, and the window of a label of 2000000 to 2300000'):
        LoadEventWindow()(dict(sample, window=(2_000_000, 2_300_000)))
    with pytest.raises(RecordingError, match=r'a_td.dat: its sensor has 240 x 304 px, expected 96 x 128'):
        LoadEventWindow()(dict(sample, sensor_size=(96, 128)))
    path.write_bytes(path.read_bytes()[:-3])
    skipping = LoadEventWindow(on_error='skip')
    assert skipping(dict(sample)) is None and skipping.skipped.total() == 1
    with pytest.raises(RecordingError, match='a_td.dat.*cut off'):
        LoadEventWindow()(dict(sample))


def test_rectified_events_lie_at_the_nearest_pixel():
    events = some_events(3)
    moved = np.stack(np.meshgrid(np.arange(4.0), np.arange(4.0)), -1)
    moved[0, 0] = (2.4, 1.6)
    moved[1, 1] = (-0.6, 0)
    assert rectify(events, moved)[['t', 'x', 'y']].tolist() == [(0, 2, 2), (2000, 2, 2)]


class Infos(list):
    def get_data_info(self, i):
        return dict(continues=self[i]) if self[i] is not None else {}


def test_every_place_of_a_batch_goes_through_its_recordings():
    runs = Infos([False, True, True, False, True, False, False, True])  # of 3, 2, 1 and 2 windows
    sampler = StreamSampler(runs, batch_size=2, shuffle=False)
    indices = list(sampler)
    # the first place has runs 0 and 3, the second runs 1 and 2, of which less come first
    assert indices[0::2] == [0, 1, 2] and indices[1::2] == [3, 4, 5]
    assert len(sampler) == len(indices) == 6
    shuffled = StreamSampler(runs, batch_size=2)
    orders = []
    for epoch in range(4):
        shuffled.set_epoch(epoch)
        orders.append(list(shuffled))
        for place in (orders[-1][0::2], orders[-1][1::2]):
            for before, now in zip(place[:-1], place[1:], strict=True):
                assert now == before + 1 or not runs[now]
    assert len(set(map(tuple, orders))) > 1
    with pytest.raises(UserError, match="samples='sequences'"):
        StreamSampler(Infos([None]), 1)
    with pytest.raises(UserError, match='4 sequences for 5 places'):
        StreamSampler(runs, 5)
    with pytest.raises(UserError, match='part of a sequence'):
        StreamSampler(Infos([True, True]), 1)


def test_processes_share_the_recordings(monkeypatch):
    runs = Infos([False, True, True, False, True, False, True])  # of 3, 2 and 2 windows
    orders = []
    for rank in (0, 1):
        monkeypatch.setattr('mmspike.datasets.events.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = StreamSampler(runs, batch_size=1, shuffle=False)
        orders.append(list(sampler))
        assert len(sampler) == 3
    assert orders == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(UserError, match='3 sequences for 2 places of a batch in 2 process'):
        StreamSampler(runs, batch_size=2)
