"""A resume with another number of batches an epoch, as with another number of processes."""

import mmengine.runner.loops
import pytest

from mmspike.utils.errors import UserError

from .small_run import FourNumbers, config, train
from .test_obey_config_hook import cosine

BY_ITERATION = cosine(4, convert_to_iter_based=True)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(mmengine.runner.loops.time, 'sleep', lambda seconds: None)


def test_schedules_that_count_iterations(tmp_path, monkeypatch):
    train(config(tmp_path / 'a', scheduler=BY_ITERATION, max_epochs=2))
    goes_on = config(tmp_path / 'a', scheduler=BY_ITERATION, max_epochs=3)
    assert list(train(goes_on, 'auto').rates) == [4, 5]
    monkeypatch.setattr(FourNumbers, '__len__', lambda self: 8)
    goes_on = config(tmp_path / 'a', scheduler=BY_ITERATION, max_epochs=4)
    with pytest.raises(UserError, match='has 4 batches, and had 2 before the checkpoint'):
        train(goes_on, 'auto')
    fresh = train(config(tmp_path / 'fresh', scheduler=BY_ITERATION, max_epochs=4))
    resumed = train(goes_on, 'auto', 'config')
    assert list(resumed.rates.values()) == list(fresh.rates.values())[12:]
    # the checkpoint of that run is one of epochs of four
    assert list(train(config(tmp_path / 'a', scheduler=BY_ITERATION, max_epochs=4), 'auto').rates) == []


def test_schedules_by_epoch_and_checkpoints_within_an_epoch(tmp_path, monkeypatch):
    train(config(tmp_path / 'a', scheduler=cosine(4), max_epochs=2))
    hooks = dict(
        default_hooks=dict(checkpoint=dict(type='mmspike.SafeCheckpointHook', interval=3, by_epoch=False), logger=None)
    )
    train(config(tmp_path / 'b', scheduler=BY_ITERATION, max_epochs=2, **hooks))
    assert list(train(config(tmp_path / 'b', scheduler=BY_ITERATION, max_epochs=3, **hooks), 'auto').rates)
    monkeypatch.setattr(FourNumbers, '__len__', lambda self: 8)
    assert list(train(config(tmp_path / 'a', scheduler=cosine(4), max_epochs=3), 'auto').rates) == [4, 5, 6, 7]
