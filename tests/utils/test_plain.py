"""What is put into a checkpoint is written so that it can be read without running code."""

import datetime
import enum
from collections import Counter, OrderedDict, deque, namedtuple
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer
from torch import nn

from mmspike.utils.checkpoint import read_checkpoint
from mmspike.utils.errors import UserError
from mmspike.utils.plain import plain_values


class Colour(enum.Enum):
    RED = 'red'


class Level(enum.IntEnum):
    LOW = 1


class Name(str):
    pass


Size = namedtuple('Size', 'width height')

CASES = dict(
    nested=(
        ConfigDict(site='Oslo', more=dict(year=2024, days=[dict(n=1)])),
        dict(site='Oslo', more=dict(year=2024, days=[dict(n=1)])),
    ),
    config=(Config(dict(a=dict(b=1)))._cfg_dict, dict(a=dict(b=1))),
    date=(datetime.date(2024, 5, 1), '2024-05-01'),
    datetime=(datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC), '2024-05-01T12:00:00+00:00'),
    duration=(datetime.timedelta(hours=1), '1:00:00'),
    path=(Path('data') / 'a.png', 'data/a.png'),
    enum=(Colour.RED, 'red'),
    int_enum=(Level.LOW, 1),
    text=(Name('a'), 'a'),
    named_tuple=(Size(3, Level.LOW), (3, 1)),
    set=({Level.LOW, 2}, {1, 2}),
    frozen_set=(frozenset('ab'), {'a', 'b'}),
    range=(range(3), [0, 1, 2]),
    deque=(deque([Path('a')]), ['a']),
    decimal=(Decimal('0.10'), '0.10'),
    keys=({Colour.RED: Path('r')}, dict(red='r')),
    numpy=(dict(a=np.float32(0.5), b=np.int64(3), c=np.str_('x')), dict(a=0.5, b=3, c='x')),
    dtype=(torch.float16, torch.float16),
)


@pytest.mark.parametrize('case', CASES)
def test_values_become_plain_and_are_read(tmp_path, case):
    value, expected = CASES[case]
    plain = plain_values(dict(meta=[value]), 'checkpoint')
    torch.save(plain, tmp_path / 'x.pth')
    for found in (plain, read_checkpoint(str(tmp_path / 'x.pth'))):
        assert found == dict(meta=[expected]) and type(found['meta'][0]) is type(expected)


@pytest.mark.parametrize(
    'array', [np.zeros((0, 3)), np.array(['a', 'bc']), np.arange(3, dtype='>i2'), np.array([1, 'a', None], object)]
)
def test_arrays_stay(tmp_path, array):
    torch.save(plain_values(dict(a=array), 'meta'), tmp_path / 'x.pth')
    found = read_checkpoint(str(tmp_path / 'x.pth'))['a']
    assert found.dtype == array.dtype.newbyteorder('=') and found.shape == array.shape and (found == array).all()


def test_what_is_plain_stays_the_same_object():
    weights = nn.BatchNorm2d(2).state_dict()  # with versions of layers in an attribute
    value = dict(state_dict=weights, meta=dict(classes=('a', 'b'), counts=Counter(a=1)), steps=[1, 2.5, None, b'', True])
    assert plain_values(value, 'checkpoint') is value and weights._metadata


@pytest.mark.parametrize('value', [nn.ReLU(), len, object(), lambda x: x, dict, slice(1), {1: [nn.ReLU]}])
def test_other_types_are_refused_by_place_and_type(value):
    kind = 'type' if isinstance(value, dict) else type(value).__name__
    where = r'a\.b\[1\]' + (r'\.1\[0\]' if isinstance(value, dict) else '')
    with pytest.raises(UserError, match=rf'^{where} is of type (\w|\.)*\.{kind}\..*resumed=False'):
        plain_values(dict(b=[0, value]), 'a')


def test_logs_with_statistics_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(HistoryBuffer, '_statistics_methods', dict(HistoryBuffer._statistics_methods, largest=lambda log: 9.0))
    log = HistoryBuffer([0.5, 0.25], [1, 1])
    torch.save(plain_values(dict(loss=log), 'log_scalars'), tmp_path / 'x.pth')
    read = read_checkpoint(str(tmp_path / 'x.pth'))['loss']
    assert isinstance(read, HistoryBuffer) and read.mean() == 0.375 and read.statistics('largest') == 9.0


def test_ordered_dicts_with_other_values_become_dicts():
    assert plain_values(OrderedDict(b=Path('x'), a=1), 'm') == dict(b='x', a=1)
