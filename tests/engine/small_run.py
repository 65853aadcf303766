"""A run of a model with two parameters on four numbers."""

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmspike.config import resuming
from mmspike.engine.hooks import EpochLengthHook, ObeyConfigHook


@DATASETS.register_module()
class FourNumbers(Dataset):
    def __init__(self, metainfo=None):
        self.metainfo = metainfo

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.full((1,), float(index)))


@MODELS.register_module()
class OneWeight(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.layer(torch.stack(inputs)).square().mean())


def config(work_dir, metainfo=None, hooks=(), scheduler=None, max_epochs=2, by_epoch=True, optimizer=None, interval=1, **more):
    """A config of epochs of two iterations, or of as many iterations without epochs."""
    end = 2 * max_epochs
    return Config(
        dict(
            model=dict(type='OneWeight'),
            work_dir=str(work_dir),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(type='FourNumbers', metainfo=metainfo),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=max_epochs) if by_epoch else dict(by_epoch=False, max_iters=end),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9) | (optimizer or {})),
            param_scheduler=scheduler,
            default_hooks=dict(
                checkpoint=dict(type='mmspike.SafeCheckpointHook', interval=interval, by_epoch=by_epoch), logger=None
            ),
            custom_hooks=list(hooks),
            randomness=dict(seed=0),
            experiment_name=f'{work_dir}{max_epochs}',
        )
        | more
    )


class RatesHook(Hook):
    """The learning rates of the groups in each iteration."""

    def before_run(self, runner):
        self.rates = {}

    def before_train_iter(self, runner, *args, **kwargs):
        self.rates[runner.iter] = [group['lr'] for group in runner.optim_wrapper.param_groups]


def train(cfg, resume=None, settings=None):
    """Train as tools/train.py does; the runner gets ``rates``."""
    resuming.set_resume(cfg, resume, settings)
    with DefaultScope.overwrite_default_scope('mmengine'):
        runner = Runner.from_cfg(cfg)
        hook = RatesHook()
        runner.register_hook(hook)
        runner.register_hook(EpochLengthHook(refuse=settings is None))
        if settings == 'config':
            runner.register_hook(ObeyConfigHook())
        runner.train()
    runner.rates = hook.rates
    return runner
