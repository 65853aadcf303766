"""tools/dist_train.sh and dist_test.sh with two processes on the CPU compute what one process with the doubled batch does."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

import mmengine.runner  # noqa: F401  (once, and not in every forked process)
import pytest
import torch

import mmspike.models.hosted  # noqa: F401

FORK = multiprocessing.get_context('fork')
REPO = Path(__file__).resolve().parents[2]

MODULE = """
import torch
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn

@MODELS.register_module()
class Network(BaseModel):
    # frozen norms and stem; in float64, in which rounding flips no spike

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = MODELS.get('mmspike.MetaSpikeFormer')(
            arch=dict(dims=(16, 16, 32, 32), depths=(1, 1, 1, 1, 1), num_heads=2),
            T=2,
            neuron=dict(type='LIF', v_threshold=0.2),
            out_indices=(3,),
            norm_eval=True,
            frozen_stages=0,
        )
        self.head = nn.Linear(32, 1)
        self.double()

    def forward(self, inputs, mode='tensor', **kwargs):
        out = self.head(self.backbone(torch.stack(inputs).double())[0].mean((2, 3)))
        return dict(loss=(out - 1).square().mean()) if mode == 'loss' else list(out)

@DATASETS.register_module()
class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index)))

@METRICS.register_module()
class Mean(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(float(sample) for sample in data_samples)

    def compute_metrics(self, results):
        return dict(mean=sum(results) / len(results), count=len(results))

@HOOKS.register_module()
class Losses(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(f'{runner.work_dir}/losses{get_rank()}.txt', 'a') as file:
            print(float(outputs['loss'].detach()), file=file)
"""

CONFIG = """
custom_imports = dict(imports=['network'])
default_scope = 'mmengine'
model = dict(type='Network')
loader = dict(batch_size=4, num_workers=0, dataset=dict(type='Images'))
train_dataloader = dict(**loader, sampler=dict(type='DefaultSampler', shuffle=True))
test_dataloader = dict(**loader, sampler=dict(type='DefaultSampler', shuffle=False))
train_cfg = dict(by_epoch=True, max_epochs=3)
test_cfg = dict()
test_evaluator = dict(type='Mean')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05, momentum=0.9))
custom_hooks = [dict(type='Losses'), dict(type='mmspike.IterationSeedHook'), dict(type='mmspike.SpikeResetHook')]
randomness = dict(seed=0)
env_cfg = dict(dist_cfg=dict(backend='nccl'))
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / 'network.py').write_text(MODULE)
    (tmp_path / 'config.py').write_text(CONFIG)
    # no GPU, even if there is one
    environment = os.environ | dict(
        CUDA_VISIBLE_DEVICES='', PYTHONPATH=str(tmp_path), PYTHON=sys.executable, OMP_NUM_THREADS='1'
    )

    def call(*command):
        result = subprocess.run([str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        output = result.stdout + result.stderr
        assert result.returncode == 0, output
        return output

    return call


def _in_fork(arguments, folder):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = [str(argument) for argument in arguments]
    runpy.run_path(sys.argv[0], run_name='__main__')


def losses(path):
    return torch.tensor([float(line) for line in path.read_text().splitlines()])


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path, run):
    tools = REPO / 'tools'
    alone = FORK.Process(target=_in_fork, args=((tools / 'train.py', 'config.py', '--work-dir', 'one'), tmp_path))
    alone.start()
    alone.join()
    assert alone.exitcode == 0
    halved = ['--cfg-options', 'train_dataloader.batch_size=2']
    output = run(tools / 'dist_train.sh', 'config.py', 2, '--work-dir', 'two', *halved)
    assert '2 processes on the CPU communicate through gloo' in output

    one = losses(tmp_path / 'one' / 'losses0.txt')
    ranks = [losses(tmp_path / 'two' / f'losses{rank}.txt') for rank in (0, 1)]
    assert len(one) == 6 and not torch.allclose(ranks[0], ranks[1])
    torch.testing.assert_close(sum(ranks) / 2, one, rtol=1e-5, atol=1e-6)
    weights = [torch.load(tmp_path / name / 'epoch_3.pth', weights_only=False)['state_dict'] for name in ('one', 'two')]
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    module = runpy.run_path(str(tmp_path / 'network.py'))
    start = module['Network']().state_dict()
    learned = {k for k, v in weights[0].items() if not torch.equal(v, start[k])}
    assert any(k.startswith('backbone.stages.0') for k in learned) and not any('.stem.' in k or 'running' in k for k in learned)

    network, images = module['Network']().eval(), module['Images']()
    network.load_state_dict(weights[0])
    with torch.no_grad():
        mean = float(torch.cat(network([images[index]['inputs'] for index in range(8)])).mean())
    output = run(tools / 'dist_test.sh', 'config.py', 'one/epoch_3.pth', 2)
    assert f'mean: {mean:.4f}  count: 8' in output


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_usage(script):
    result = subprocess.run([REPO / 'tools' / script, 'config.py'], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith('usage: ')


@pytest.mark.parametrize('tool', ['train', 'test'])
def test_slurm_command(tmp_path, tool):
    """What is given to srun: one task per GPU, and options with blanks in one piece."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    srun.chmod(0o755)
    environment = os.environ | dict(PATH=f'{tmp_path}:{os.environ["PATH"]}', GPUS='4', SRUN_ARGS='--nodes=1 --qos=a')
    arguments = ['gpu', 'job', 'my config.py', 'second', '--cfg-options', 'key=[1, 2]']
    result = subprocess.run([REPO / 'tools' / f'slurm_{tool}.sh', *arguments], env=environment, capture_output=True, text=True)
    words = result.stdout.splitlines()
    for word in ('--ntasks=4', '--gres=gpu:4', '--ntasks-per-node=4', '--nodes=1', '--qos=a', 'key=[1, 2]', 'my config.py'):
        assert word in words
    assert words[words.index('--launcher') + 1] == 'slurm' and str(REPO / 'tools' / f'{tool}.py') in words
