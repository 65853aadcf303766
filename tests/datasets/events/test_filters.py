"""Filters: what they leave out, and that nothing else changes."""

import numpy as np
import pytest

from mmspike.datasets import DropBackgroundActivity, DropHotPixels
from mmspike.datasets.events.moving_shapes import draw_recording
from mmspike.datasets.events.recording import make_events

from .recordings import random_events


@pytest.fixture
def results():
    return dict(events=make_events(*random_events(1003)), sensor_size=(34, 34))


def test_hot_pixels_are_dropped(results):
    events = results['events']
    hot = make_events(np.arange(1000), np.full(1000, 3), np.full(1000, 4), np.ones(1000))
    both = np.concatenate([events, hot])
    kept = DropHotPixels()(dict(events=both, sensor_size=(34, 34)))['events']
    assert np.array_equal(kept, events[(events['x'] != 3) | (events['y'] != 4)])
    assert np.array_equal(DropHotPixels()(dict(events=events, sensor_size=(34, 34)))['events'], events)
    assert len(DropHotPixels()(dict(events=events[:0], sensor_size=(34, 34)))['events']) == 0
    with pytest.raises(ValueError, match='factor must be above 1'):
        DropHotPixels(factor=1)


def _events(*rows):
    """Of rows t, x, y; every second one is ON."""
    t, x, y = np.array(rows).T
    return make_events(t, x, y, np.arange(len(t)) % 2)


def _kept(events, size=(7, 9), **settings):
    return DropBackgroundActivity(**settings)(dict(events=events, sensor_size=size))['events']


def test_support_of_neighbours_at_every_limit():
    first = (0, 4, 4)
    for x, y, near in [(3, 3, True), (5, 4, True), (4, 5, True), (4, 4, False), (6, 4, False), (4, 2, False)]:
        assert _kept(_events(first, (1000, x, y)), duration=1000)['t'].tolist() == [1000] * near, (x, y)
    assert len(_kept(_events(first, (1001, 5, 4)), duration=1000)) == 0
    # events of one time support each other, and rows have ends
    assert len(_kept(_events(first, (0, 5, 5)))) == 2
    assert len(_kept(_events((0, 8, 2), (5, 0, 3), (9, 0, 0), (9, 8, 6)))) == 0
    # two events of a neighbour are one neighbour
    three = _events(first, (10, 4, 4), (20, 5, 5), (30, 6, 5), (40, 5, 4))
    assert _kept(three, support=2)['t'].tolist() == [40] and len(_kept(three, support=3)) == 1
    assert len(_kept(three[:0])) == 0


@pytest.mark.parametrize('duration, support', [(2000, 1), (20_000, 3), (300_000, 8)])
def test_background_activity_by_the_definition(duration, support):
    t, x, y, p = random_events(300, (7, 9))
    events = make_events(t // 3, x, y, p)
    expected = []
    for event in events:
        since = events[(events['t'] <= event['t']) & (events['t'] >= event['t'] - duration)]
        away = {(int(e['x']) - int(event['x']), int(e['y']) - int(event['y'])) for e in since} - {(0, 0)}
        expected.append(sum(max(map(abs, place)) == 1 for place in away) >= support)
    assert 0 < sum(expected) < len(events)
    before = events.copy()
    assert np.array_equal(_kept(events, duration=duration, support=support), events[expected])
    assert np.array_equal(events, before)


def test_refractory_time_of_a_pixel():
    # the middle one has an event 99 us before it, which is itself left out
    pair = [(t + 1, 5, 4) for t in (0, 99, 198, 298)]
    events = _events(*sorted([(t, 4, 4) for t in (0, 99, 198, 298)] + pair))
    assert _kept(events, refractory=100)['t'].tolist() == [1, 298, 299]
    assert len(_kept(events, refractory=99)) == len(_kept(events)) == 7
    assert _kept(events, duration=50, refractory=400)['t'].tolist() == [1]  # of each pixel the first


def test_noise_goes_and_shapes_stay():
    rng = np.random.default_rng(0)
    kwargs = dict(seconds=0.5, shapes=(2, 2))
    noise = draw_recording(rng, noise=1.0, hot_pixels=2, **(kwargs | dict(shapes=(0, 0)))).events
    shapes = draw_recording(rng, noise=0.0, hot_pixels=0, **kwargs).events
    assert len(_kept(noise, (96, 128), duration=10_000)) < 0.15 * len(noise)
    assert len(_kept(shapes, (96, 128), duration=10_000)) > 0.9 * len(shapes)


def test_settings_that_are_no_filter():
    for wrong in (dict(duration=0), dict(support=0), dict(support=9), dict(refractory=-1)):
        with pytest.raises(ValueError, match='support of 1 to 8 pixels'):
            DropBackgroundActivity(**wrong)
