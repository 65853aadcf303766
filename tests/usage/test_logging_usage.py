"""Curves in other places than the work directory: backends of mmengine's visualizer, named in a list on the command line."""

import argparse

import pytest

pytest.importorskip('mmpretrain')

from mmspike.config import launch, options  # noqa: E402
from mmspike.utils.errors import UserError  # noqa: E402

from .tiny import config  # noqa: E402

# as typed in a shell -> the package that it needs, the file that tells of the run
BACKENDS = {
    "dict(type='TensorboardVisBackend')": ('tensorboard', '**/events.out.tfevents*'),
    "dict(type='WandbVisBackend',init_kwargs=dict(mode='offline',project='spikes'))": ('wandb', '**/offline-run-*/*.wandb'),
    "dict(type='MLflowVisBackend')": ('mlflow', '**/metrics/loss'),
}


def parse(*items):
    parser = argparse.ArgumentParser()
    options.add_config_options(parser)
    return parser.parse_args(['--cfg-options', *items]).cfg_options


def runner(shapes, folder, backends):
    cfg = config('mmpretrain', 'SFA', shapes)
    cfg.merge_from_dict(parse(f'visualizer.vis_backends=[{backends}]'))
    cfg.work_dir, cfg.launcher = str(folder), 'none'
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.update(val_dataloader=None, val_cfg=None, val_evaluator=None, test_dataloader=None, test_cfg=None, test_evaluator=None)
    cfg.param_scheduler = []
    launch.complete_mmpretrain_loaders(cfg)
    return launch.build_runner(cfg)


@pytest.mark.parametrize('backend', BACKENDS)
def test_a_run_is_logged_offline(shapes, tmp_path, monkeypatch, backend):
    package, pattern = BACKENDS[backend]
    pytest.importorskip(package, reason=f'pip install {package}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    run = runner(shapes, tmp_path, f"dict(type='LocalVisBackend'),{backend.format(folder=tmp_path)}")
    run.train()
    run.visualizer.close()
    if package == 'wandb':  # as at the end of the process
        import wandb

        wandb.finish()
    (written,) = tmp_path.glob(pattern)
    content = written.read_bytes()
    assert b'loss' in content or len(content.splitlines()) == 2  # MLflow has a file a curve, a line a value
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    assert '"loss"' in scalars.read_text()


def test_a_missing_package_is_named(shapes, tmp_path, monkeypatch):
    monkeypatch.setattr('mmspike.config.launch.is_installed', lambda name: name != 'clearml')
    with pytest.raises(
        UserError, match='visualizer ClearMLVisBackend needs clearml, which is not installed: pip install clearml'
    ):
        runner(shapes, tmp_path, "dict(type='ClearMLVisBackend')")
