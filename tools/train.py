"""Train a model of mmdet, mmseg or mmpretrain; the config's default_scope decides which."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import CONFIG, add_amp_option, add_run_options, add_tf32_option, parse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue an interrupted training from CHECKPOINT; without one, or with auto, from the latest whole '
        'checkpoint in the work directory, and from the beginning if there is none',
    )
    parser.add_argument(
        '--resume-settings',
        choices=('config', 'checkpoint'),
        help='whose schedules, learning rates and seed count with --resume where the config was changed (default: such a '
        'resume is refused)',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='start from the beginning although the work directory has checkpoints'
    )
    add_amp_option(parser)
    add_tf32_option(parser, True)
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate with the total batch size over auto_scale_lr'
    )
    parser.add_argument('--no-data-check', action='store_true', help='do not compare the data with the config beforehand')
    add_run_options(parser)
    return parse(parser)


def main(args: argparse.Namespace) -> None:
    from mmspike.config import data, launch, precision, resuming
    from mmspike.config.config_faults import config_faults_explained
    from mmspike.config.data_check import stop_at_errors
    from mmspike.engine.hooks import EpochLengthHook, ObeyConfigHook
    from mmspike.engine.unused_parameters import unused_parameters_named
    from mmspike.models.checkpoints import check_checkpoint_fits

    precision.set_tf32(args.tf32)
    cfg = launch.load_run_config(args)
    if args.amp:
        precision.enable_amp(cfg, args.amp)
    if args.auto_scale_lr:
        launch.enable_lr_scaling(cfg)
    resuming.set_resume(cfg, args.resume, args.resume_settings)
    if not args.overwrite:
        resuming.check_not_overwritten(cfg)
    read = ('train_dataloader', 'val_dataloader'), ('val_evaluator',)
    if not args.no_data_check:
        stop_at_errors(cfg, *read)
    data_faults = data.data_faults_explained(cfg, *read)
    with data_faults, config_faults_explained(cfg):
        runner = launch.build_runner(cfg)
        if cfg.get('load_from'):
            # heads may differ where a training starts from other weights, nothing where it goes on
            check_checkpoint_fits(runner.model, cfg.load_from, '' if cfg.get('resume') else 'backbone.')
        runner.register_hook(EpochLengthHook(refuse=args.resume_settings is None))
        if args.resume_settings == 'config' and cfg.get('resume'):
            runner.register_hook(ObeyConfigHook())
        with unused_parameters_named(runner.model):
            runner.train()


if __name__ == '__main__':
    run(parse_args, main)
