"""Prepares a config for a run: options, work directory, processes."""

import argparse
import os
import os.path as osp
import re
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmspike.config.config_faults import check_options, check_top_level, check_values
from mmspike.config.data_paths import move_data_root
from mmspike.config.difference import config_difference
from mmspike.config.names import read_file, type_name
from mmspike.config.swap import SwapError, parse_backbone, swap_backbone
from mmspike.utils.errors import UserError
from mmspike.utils.files import check_folder
from mmspike.utils.optional import is_installed

# backend of mmengine's visualizer -> what it imports
VIS_PACKAGES = dict(
    AimVisBackend='aim',
    ClearMLVisBackend='clearml',
    DVCLiveVisBackend='dvclive',
    MLflowVisBackend='mlflow',
    NeptuneVisBackend='neptune',
    TensorboardVisBackend='tensorboard',
    WandbVisBackend='wandb',
)


def load_config(args: argparse.Namespace) -> Config:
    """The config of a command line with :func:`mmspike.config.options.add_config_options`.

    Explicit ``--cfg-options`` are applied last and win.

    Raises:
        UserError: The config or an option cannot be used; the message says which and why.
    """
    cfg = read_config(args.config, args.backbone, args.spiking_heads)
    if args.data_root is not None:
        try:
            cfg = move_data_root(cfg, args.data_root)
        except ValueError as error:
            raise UserError(str(error)) from None
    check_top_level(cfg)
    if args.cfg_options is not None:
        check_options(cfg, args.cfg_options)
        cfg.merge_from_dict({key: _as_before(cfg, key, value) for key, value in args.cfg_options.items()})
    if cfg.get('default_scope') == 'mmpretrain':
        complete_mmpretrain_loaders(cfg)
    drop_worker_settings(cfg)
    return cfg


def _as_before(cfg: Config, option: str, value: Any) -> Any:
    """A list of the command line as a tuple where the config has one: some transforms take tuples only."""
    before: Any = cfg
    for part in option.split('.'):
        if isinstance(before, list | tuple):
            before = before[int(part)] if part.isdigit() and int(part) < len(before) else None
        else:
            before = before.get(part) if hasattr(before, 'get') else None
    return tuple(value) if isinstance(before, tuple) and isinstance(value, list) else value


def load_run_config(args: argparse.Namespace) -> Config:
    """As :func:`load_config`, for a command line with :func:`mmspike.config.options.add_run_options`: launcher, work_dir."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = load_config(args)
    check_values(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        backbone = f'_{re.sub(r"[^0-9A-Za-z]+", "-", args.backbone.removeprefix("mmspike."))}' if args.backbone else ''
        cfg.work_dir = osp.join('work_dirs', (name + backbone)[:200])
    check_folder(cfg.work_dir, '--work-dir')
    return cfg


def read_config(config: str, backbone: str | None, spiking_heads: bool) -> Config:
    """The config of a file or of a name such as ``mmdet::…``, with another backbone if there is one, the changes printed.

    Raises:
        UserError: There is no such config, or it cannot be swapped.
    """
    try:
        cfg = read_file(config)
        if backbone is None:
            if spiking_heads:
                raise SwapError('--spiking-heads replaces heads together with the backbone: add --backbone')
            return cfg
        new, notes = swap_backbone(cfg, parse_backbone(backbone), spiking_heads)
    except UserError as error:
        raise UserError(f'{config}: {error}' if backbone else str(error)) from None
    if os.environ.get('RANK', os.environ.get('LOCAL_RANK', '0')) == '0':
        print(f'{config} with {backbone}:\n{config_difference(cfg, new)}\n' + '\n'.join(notes), flush=True)
    return new


def complete_mmpretrain_loaders(cfg: Config) -> None:
    """Loader defaults that mmpretrain's configs leave to mmpretrain's own tools (its preprocessor needs stacked batches)."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(name)
        if loader is not None:
            defaults = dict(
                pin_memory=torch.cuda.is_available(),
                persistent_workers=loader.get('num_workers', 0) > 0,
                collate_fn=dict(type='default_collate'),
            )
            cfg[name] = ConfigDict(defaults | loader)


def drop_worker_settings(cfg: Config) -> None:
    """Loaders without worker processes (``num_workers=0``) lose the settings of workers, which torch refuses then."""
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for loader in _loaders(cfg.get(name)):
            if loader.get('num_workers', 0) == 0:
                for key in ('persistent_workers', 'prefetch_factor', 'multiprocessing_context'):
                    loader.pop(key, None)


def _loaders(loader: Any) -> list[dict]:
    """The loaders of a config's entry; that of several data sets at once is a list."""
    return [item for item in (loader if isinstance(loader, list | tuple) else [loader]) if isinstance(item, dict)]


def enable_lr_scaling(cfg: Config) -> None:
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise UserError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config, which has none')
    cfg.auto_scale_lr.enable = True


def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def check_backends(cfg: Config) -> None:
    """Leave where a backend of the visualizer needs a package that is not installed.

    Raises:
        UserError: Which package.
    """
    for backend in (cfg.get('visualizer') or {}).get('vis_backends') or []:
        name = type_name(backend)
        package = VIS_PACKAGES.get(name)
        if package is not None and not is_installed(package):
            raise UserError(f'visualizer {name} needs {package}, which is not installed: pip install {package}')


def build_runner(cfg: Config) -> Runner:
    """The config's runner. Without an accelerator its processes communicate through gloo.

    Raises:
        UserError: The launcher does not fit the machine, or a package is missing.
    """
    check_backends(cfg)
    if cfg.launcher == 'none' or _has_accelerator():
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'--launcher {cfg.launcher} needs a GPU on every process and this machine shows none: '
            'for processes on the CPU use tools/dist_train.sh or tools/dist_test.sh'
        )
    strategy: Any = cfg.get('strategy') or {}
    if cfg.get('sync_bn') or strategy.get('sync_bn'):
        raise UserError('sync_bn needs a GPU for every process: torch and mmcv synchronise batch norms on GPUs only')
    # mmengine would select a CUDA device per process, and hand it to the wrapper of the model
    torch.distributed.init_process_group('gloo')
    wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False)
    if str(strategy.get('type')).endswith('FSDPStrategy'):
        wrapper = dict(type='MMFullyShardedDataParallel')
        strategy.model_wrapper = wrapper | (strategy.get('model_wrapper') or {}) | dict(device_id='cpu')
        if strategy.get('state_dict_cfg') == 'full':  # moves the weights to the CPU, which frees them if they are there
            strategy.state_dict_cfg = dict(
                state_dict_type='FULL_STATE_DICT',
                state_dict_config=dict(type='FullStateDictConfig', rank0_only=True),
                optim_state_dict_config=dict(type='FullOptimStateDictConfig', rank0_only=True),
            )
    elif strategy:
        strategy.model_wrapper = wrapper | (strategy.get('model_wrapper') or {}) | dict(device_ids=None)
    else:
        wrapper['find_unused_parameters'] = cfg.get('find_unused_parameters', False)
        cfg.model_wrapper_cfg = wrapper | cfg.get('model_wrapper_cfg', {}) | dict(device_ids=None)
    cfg.merge_from_dict(dict(env_cfg=dict(dist_cfg=dict(backend='gloo'))))
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    size = torch.distributed.get_world_size()
    runner.logger.info(f'No GPU found: {size} processes on the CPU communicate through gloo instead of nccl')
    return runner
