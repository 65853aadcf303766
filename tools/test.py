"""Test a checkpoint with a config of mmdet, mmseg or mmpretrain; the config's default_scope decides which."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import (
    CONFIG,
    add_amp_option,
    add_engine_option,
    add_run_options,
    add_tf32_option,
    engine_of,
    parse,
)
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help=CONFIG)
    parser.add_argument('checkpoint', help='checkpoint file or URL, or an ONNX file that deploy.py --onnx wrote')
    add_engine_option(parser)
    parser.add_argument(
        '--out', help='keep the predictions: a .pkl file (mmdet, mmpretrain) or a directory of label images (mmseg)'
    )
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', help='directory for images with the predictions drawn')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds for which --show shows an image')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation')
    add_amp_option(parser)
    add_tf32_option(parser, True)
    parser.add_argument('--no-data-check', action='store_true', help='do not compare the data with the config beforehand')
    add_run_options(parser)
    return parse(parser)


def main(args: argparse.Namespace) -> None:
    import torch

    from mmspike.config import data, launch, precision, testing
    from mmspike.config.config_faults import config_faults_explained
    from mmspike.config.data_check import stop_at_errors
    from mmspike.config.trained_neurons import name_changed_neurons
    from mmspike.models.checkpoints import check_checkpoint_fits, read

    precision.set_tf32(args.tf32)
    engine = engine_of(args)
    cfg = launch.load_run_config(args)
    if engine is not None:
        from mmspike.deploy.exported import exported_config

        if args.tta or args.amp:
            raise UserError(
                f'--tta and --amp need the network itself, {args.checkpoint} is an exported file: give its checkpoint'
            )
        cfg.model = exported_config(cfg, args.checkpoint, engine)
    cfg.load_from = args.checkpoint if engine is None else None
    cfg.resume = False
    if args.show or args.show_dir:
        testing.draw_predictions(cfg, args.show, args.show_dir, args.wait_time)
    if args.tta:
        testing.enable_tta(cfg)
    if args.out:
        testing.check_out(cfg, args.out)
    if engine is None:
        content = read(args.checkpoint)
        name_changed_neurons(cfg, content.get('meta') or {}, args.checkpoint)
    parts = ('test_dataloader',), ('test_evaluator',)
    if not args.no_data_check:
        stop_at_errors(cfg, *parts)
    data_faults = data.data_faults_explained(cfg, *parts)
    with data_faults, config_faults_explained(cfg):
        runner = launch.build_runner(cfg)
        if engine is None:
            check_checkpoint_fits(runner.model, args.checkpoint, content=content)
            del content  # the runner reads the weights into the model
        if args.amp:
            precision.halve_test_step(runner.model, args.amp)
        if args.out:
            testing.dump_predictions(runner, args.out)
        if args.show_dir:
            testing.keep_folders(runner, args.show_dir)
        if isinstance(runner.model, torch.nn.Module):  # FlexibleRunner builds it later
            testing.name_images(runner)
        runner.test()


if __name__ == '__main__':
    run(parse_args, main)
