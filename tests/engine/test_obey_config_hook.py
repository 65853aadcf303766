"""A resumed run that obeys a changed config has the learning rates of a fresh run of that config."""

import mmengine.runner.loops
import pytest

from mmspike.utils.errors import UserError

from .small_run import config, train


def cosine(end, **kwargs):
    return [dict(type='CosineAnnealingLR', eta_min=1e-5, begin=0, T_max=end, end=end, **kwargs)]


def steps(*milestones, **kwargs):
    return [dict(type='MultiStepLR', milestones=list(milestones), gamma=0.1, **kwargs)]


WARMUP = dict(type='LinearLR', start_factor=0.1, begin=0, end=3, by_epoch=False)
# name -> the schedule of 4 epochs, that of 8 epochs, what else changes
CHANGES = dict(
    cosine=(cosine(4), cosine(8), {}),
    cosine_by_iteration=(cosine(4, convert_to_iter_based=True), cosine(8, convert_to_iter_based=True), {}),
    cosine_behind_a_warmup=([WARMUP, *cosine(4)], [WARMUP, *cosine(8)], {}),
    milestones=(steps(2), steps(2, 6), {}),
    end_of_the_training=(dict(type='PolyLR', power=1.0), dict(type='PolyLR', power=1.0), {}),
    milestones_without_an_end=(steps(2, 6), steps(2, 6), {}),
    kind=(cosine(4), steps(2, 6), {}),
    more=(steps(2, end=8), [WARMUP, *steps(2, end=8)], {}),
    none=(cosine(4), None, {}),
    first=(None, cosine(8), {}),
    one_cycle=(
        [dict(type='OneCycleLR', eta_max=0.5, total_steps=8, by_epoch=False)],
        [dict(type='OneCycleLR', eta_max=0.5, total_steps=16, by_epoch=False)],
        {},
    ),
    rate=(cosine(8), cosine(8), dict(optimizer=dict(lr=0.02))),
    iterations=(cosine(8, by_epoch=False), cosine(16, by_epoch=False), dict(by_epoch=False)),
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(mmengine.runner.loops.time, 'sleep', lambda seconds: None)  # between two passes over the data


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """For a change: the rates of a fresh run of 8 epochs, and a folder in which the old config was trained for 4."""

    def run(name):
        before, after, more = CHANGES[name]
        folder = tmp_path_factory.mktemp(name)
        old = {key: value for key, value in more.items() if key != 'optimizer'}
        interval = 2 if more.get('by_epoch', True) else 4
        train(config(folder / 'parts', scheduler=before, max_epochs=4, interval=interval, **old))
        fresh = train(config(folder / 'fresh', scheduler=after, max_epochs=8, interval=16, **more))
        return fresh.rates, folder / 'parts', dict(scheduler=after, max_epochs=8, interval=interval, **more)

    return run


@pytest.mark.parametrize('name', CHANGES)
def test_the_rates_are_those_of_a_fresh_run(runs, name):
    fresh, folder, changed = runs(name)
    with pytest.raises(UserError, match='--resume-settings config .* or --resume-settings checkpoint'):
        train(config(folder, **changed), 'auto')
    resumed = train(config(folder, **changed), 'auto', 'config').rates
    assert list(resumed) == list(range(8, 16))
    assert resumed == {i: rates for i, rates in fresh.items() if i >= 8}
    # what was saved is of the new config: nothing is left to decide
    (folder / 'last_checkpoint').write_text(str(folder / ('epoch_6.pth' if changed.get('by_epoch', True) else 'iter_12.pth')))
    again = train(config(folder, **changed), 'auto').rates
    assert again == {i: rates for i, rates in fresh.items() if i >= 12}


def test_settings_of_the_checkpoint(tmp_path):
    """The run goes on as one of the old schedule would, and so does the next resume with the old config."""
    old = train(config(tmp_path / 'old', scheduler=steps(1, 6), max_epochs=8))
    train(config(tmp_path / 'parts', scheduler=steps(1, 6, end=8), max_epochs=2))
    changed = dict(scheduler=steps(3), optimizer=dict(lr=1.0, weight_decay=0.1), randomness=dict(seed=7))
    parts = train(config(tmp_path / 'parts', max_epochs=4, **changed), 'auto', 'checkpoint')
    assert parts.rates == {i: old.rates[i] for i in range(4, 8)}
    assert parts.optim_wrapper.param_groups[0]['weight_decay'] == 0 and parts.seed == 0
    with pytest.raises(UserError, match=r'randomness\.seed = 7'):
        train(config(tmp_path / 'parts', max_epochs=8, **changed), 'auto')
    rest = train(config(tmp_path / 'parts', scheduler=steps(1, 6, end=8), max_epochs=8), 'auto')
    assert rest.rates == {i: old.rates[i] for i in range(8, 16)}


def test_other_settings_of_the_optimizer_and_the_seed(tmp_path):
    train(config(tmp_path, max_epochs=1))
    changed = dict(optimizer=dict(momentum=0.5, weight_decay=0.1), randomness=dict(seed=7))
    runner = train(config(tmp_path, **changed), 'auto', 'config')
    group = runner.optim_wrapper.param_groups[0]
    assert (group['momentum'], group['weight_decay'], runner.seed) == (0.5, 0.1, 7)
    assert runner.optim_wrapper.optimizer.state_dict()['state'], 'the moments go on'


def test_groups_of_parameters(tmp_path):
    """lr of a group that a paramwise_cfg gives, and parameters that are divided otherwise."""
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    by_name = [wrapper | dict(paramwise_cfg=dict(custom_keys={'bias': dict(lr_mult=mult)})) for mult in (1.0, 10.0)]
    train(config(tmp_path, max_epochs=1, scheduler=cosine(4), optim_wrapper=by_name[0]))
    fresh = train(config(tmp_path / 'fresh', max_epochs=4, scheduler=cosine(4), optim_wrapper=by_name[1]))
    resumed = train(config(tmp_path, max_epochs=4, scheduler=cosine(4), optim_wrapper=by_name[1]), 'auto', 'config')
    assert resumed.rates == {i: rates for i, rates in fresh.rates.items() if i >= 2}
    with pytest.raises(UserError, match='2 parameters in 2 groups, the config 2 in 1'):
        train(config(tmp_path, max_epochs=5, scheduler=cosine(4), optim_wrapper=wrapper), 'auto', 'config')


def test_schedules_by_scores_cannot_be_repeated(tmp_path):
    train(config(tmp_path, max_epochs=1))
    plateau = dict(type='ReduceOnPlateauLR', monitor='loss')
    with pytest.raises(UserError, match='ReduceOnPlateauLR depends on the scores'):
        train(config(tmp_path, scheduler=plateau), 'auto', 'config')
