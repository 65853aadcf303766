"""What a Runner is given where the processes communicate on the CPU."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmspike.config import launch


@pytest.mark.parametrize(
    'env',
    [
        dict(),
        dict(env_cfg=dict()),
        dict(env_cfg=dict(cudnn_benchmark=True)),
        dict(env_cfg=dict(cudnn_benchmark=True, dist_cfg=dict(backend='nccl', timeout=60))),
    ],
    ids=str,
)
def test_backend_of_processes_on_the_cpu(env, monkeypatch):
    """It stands in the config that the Runner gets, whatever of the path to it the config had."""
    started, logged = [], []
    monkeypatch.setattr(launch, '_has_accelerator', lambda: False)
    monkeypatch.setattr(torch.distributed, 'init_process_group', started.append)
    monkeypatch.setattr(torch.distributed, 'get_world_size', lambda: 2)

    def from_cfg(cfg):
        return SimpleNamespace(cfg=cfg, logger=SimpleNamespace(info=logged.append))

    monkeypatch.setattr(Runner, 'from_cfg', from_cfg)
    runner = launch.build_runner(Config(dict(launcher='pytorch', **env)))
    before = env.get('env_cfg', {})
    assert runner.cfg.env_cfg == {**before, 'dist_cfg': {**before.get('dist_cfg', {}), 'backend': 'gloo'}}
    assert started == ['gloo'] and '2 processes on the CPU' in logged[0]
