"""From a trained network to addition-only inference: fuse, expand, audit, export.

Folds norms, re-parameterised convolutions, spike units and attention scales into weights and thresholds; with --expand integer
spikes become binary steps. Compares the result with the trained network on a test image, lists what feeds every operation, and
writes OUT/deployed.py and OUT/deployed.pth, which tools/test.py takes. With --audit it only lists, for any model.
"""

import argparse
import sys
import tempfile
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, add_engine_option
from mmspike.utils.errors import UserError

#: points of the metric that rounding may take before weights are rounded otherwise
MAY_LOSE = 0.5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or URL; --audit goes without')
    parser.add_argument('-o', '--out', help='directory to write deployed.py and deployed.pth into')
    parser.add_argument('--audit', action='store_true', help='only list what feeds every operation, and write nothing')
    parser.add_argument('--as-trained', action='store_true', help='with --audit: without fusing before')
    parser.add_argument('--expand', action='store_true', help='send integer spikes as binary steps')
    parser.add_argument(
        '--keep-depthwise',
        action='store_true',
        help="leave Meta-SpikeFormer's depthwise and pointwise convolutions apart: fewer weights, but floats between them",
    )
    parser.add_argument(
        '--onnx',
        metavar='FILE',
        help='write the fused classifier, segmentor or detector as ONNX; of a two-stage detector also FILE_box and FILE_mask',
    )
    parser.add_argument(
        '--int8',
        metavar='FILE',
        help='write the whole model as ONNX in integers for --engine, and test it on the test set beside the trained network',
    )
    parser.add_argument(
        '--int8-first',
        action='store_true',
        help='with --int8: the first convolution in integers, too, of pixels in 8 bits (default: float32)',
    )
    parser.add_argument(
        '--int8-correct',
        action='store_true',
        help='with --int8: round weights such that errors of a channel cancel out (default: only if rounding loses more than '
        '0.5 points)',
    )
    add_engine_option(parser, 'what the file of --int8 is written for')
    parser.add_argument('--nir', metavar='FILE', help='write the fused --part as NIR')
    parser.add_argument(
        '--part',
        help='part of the model to write: with --nir such as backbone.stem (default: backbone), with --onnx backbone '
        '(default: the whole model)',
    )
    parser.add_argument(
        '--dt',
        type=float,
        metavar='SECONDS',
        help='with --nir: length of a time step, which readers of the file have to set, too (default: 1e-4, the fixed value '
        'of snntorch and the default of spikingjelly)',
    )
    parser.add_argument(
        '--frames',
        action='store_true',
        help='with --onnx: the input is event frames [T, B, C, H, W]; those of a model with EventDataPreprocessor are, anyway',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='run on a random image of this size instead of one of the test set; size for --nir (default: 224 224) and for '
        "--onnx (default: that of the test image, behind the model's preprocessor)",
    )
    parser.add_argument(
        '--any-size', action='store_true', help='with --onnx and --int8: height and width are free, multiples of 32'
    )
    add_device_option(parser)
    add_config_options(parser)
    args = parser.parse_args()
    if args.as_trained and not args.audit:
        parser.error('--as-trained is for --audit')
    if not args.audit and args.checkpoint is None:
        parser.error('a checkpoint is needed, but for --audit')
    if args.dt is not None and not args.nir:
        parser.error('--dt is for --nir')
    if args.frames and not (args.onnx or args.int8):
        parser.error('--frames is for --onnx and --int8')
    for option in ('int8_first', 'int8_correct'):
        if getattr(args, option) and not args.int8:
            parser.error(f'--{option.replace("_", "-")} is for --int8')
    if args.engine and not args.int8:
        parser.error('--engine is for --int8')
    if args.any_size and not (args.onnx or args.int8):
        parser.error('--any-size is for --onnx and --int8')
    if args.part and not (args.nir or args.onnx):
        parser.error('--part is for --nir and --onnx')
    if not args.audit and not (args.out or args.onnx or args.int8 or args.nir):
        parser.error('say what to write, with -o, --onnx, --int8 or --nir, or --audit')
    for option in ('onnx', 'int8'):
        if (file := getattr(args, option)) and not str(file).lower().endswith('.onnx'):
            parser.error(f'--{option} {file}: the name of an ONNX file ends with .onnx')
    return args


def image(cfg, model, shape, required):
    """A batch of one image: of the test set, or random where ``shape`` is given, or no test data are there nor ``required``."""
    from mmspike.config import data
    from mmspike.config.loading import random_batch_for, sample_image

    if shape is None and (required or cfg.get('test_dataloader') is not None):
        try:
            with data.data_faults_explained(cfg, ('test_dataloader',), ()):
                return sample_image(cfg, 0)
        except UserError as error:
            if required:
                raise
            print(error)
    shape = shape or (224, 224)
    print(f'On a random image of {shape[0]} x {shape[1]} px.')
    return random_batch_for(cfg, model, shape)


def part_of(model, name: str):
    try:
        return model.get_submodule(name)
    except AttributeError:
        children = [n for n, _ in model.named_children()]
        raise UserError(
            f"--part {name}: the model has no such part; its own are {children}, and 'backbone.stem' is one within"
        ) from None


def check_packages(args: argparse.Namespace) -> None:
    """Name what the files need and is missing here, or is too old, before minutes of work."""
    from mmspike.deploy.engines import require_engine
    from mmspike.deploy.nir_export import NIR_PACKAGES
    from mmspike.deploy.onnx_export import ONNX_PACKAGES, require

    try:
        if args.onnx or args.int8:
            require(ONNX_PACKAGES, 'ONNX export')
        if args.nir:
            require(NIR_PACKAGES, 'NIR export')
    except ImportError as error:
        raise UserError(str(error)) from error
    if args.onnx or args.int8:  # every file is compared in onnxruntime
        require_engine('onnxruntime')
    if args.engine:
        require_engine(args.engine)


def main(args: argparse.Namespace) -> None:
    from mmspike.analysis.flips import plain, spike_flips
    from mmspike.config import launch, precision
    from mmspike.config.loading import build_model
    from mmspike.deploy import audit, compare, expand, fuse, leftovers, save

    check_packages(args)
    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    model = build_model(cfg, args.checkpoint, args.device)
    if args.nir:
        part_of(model, args.part or 'backbone')
    batch = image(cfg, model, args.shape, required=not args.audit)
    network = fused = model if args.as_trained else fuse(model, not args.keep_depthwise)
    if args.expand:
        try:
            network = expand(fused)
        except ValueError as error:
            raise UserError(f'--expand: {error}') from error
    if args.audit:
        print(f'Audit of the network as {"trained" if args.as_trained else "deployed"}:')
        print(audit(network, lambda: network.test_step(batch)))
        return

    # in float64 only an error makes a difference
    double = deepcopy(model).double()
    print(f'fused, float64: {compare(double, fuse(double, not args.keep_depthwise), batch)}')
    flips = spike_flips([batch], plain(model), plain(fused))
    print(f'fused, float32: {compare(model, fused, batch)}; {flips}')
    if args.expand:
        print(f'binary steps against integers: {compare(expand(fused, binary=False), network, batch)}')
    left = leftovers(network)
    if left:
        print(f'Not folded, since they are no modules of mmspike: {", ".join(left)}')
    print(audit(network, lambda: network.test_step(batch)))
    export(args, cfg, model, fused, batch)
    if args.out:
        for path in save(network, cfg, args.out, args.expand, not args.keep_depthwise):
            print(f'Wrote {path}')


def export(args: argparse.Namespace, cfg, model, fused, batch) -> None:
    from mmspike.deploy.nir_export import DT, export_nir

    if args.onnx:
        write_onnx(args, cfg, fused.cpu(), batch)
    if args.int8:
        write_int8(args, cfg, model.cpu(), fused.cpu(), batch)
    if not args.nir:
        return
    name = args.part or 'backbone'
    part = part_of(model.cpu(), name)
    first = next((m for m in part.modules() if hasattr(m, 'in_channels')), None)
    if first is None:
        raise UserError(f'--part {name}: it has no convolution, so nothing tells how many channels it reads')
    try:
        notes = export_nir(part, (first.in_channels, *(args.shape or (224, 224))), args.nir, DT if args.dt is None else args.dt)
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    print('\n'.join([f'Wrote {args.nir}. To read it:', *(f'- {note}' for note in notes)]))


def graph_input(args: argparse.Namespace, model, batch):
    """The batch behind the preprocessor, T of a file of event frames or None, and whether the preprocessor makes what it reads.

    To a file of frames whose model has a preprocessor of images (--frames), the image is every frame.
    """
    from mmspike.config.loading import sees_events

    inputs = model.data_preprocessor(deepcopy(batch))['inputs'].cpu().float()
    if sees_events(model):
        return inputs, model.backbone.T, True
    if not args.frames:
        return inputs, None, True
    print('The preprocessor makes images, and --frames a file of event frames: predictions are not compared.')
    return inputs.expand(model.backbone.T, *inputs.shape), model.backbone.T, False


def write_onnx(args: argparse.Namespace, cfg, fused, batch) -> None:
    from mmengine.registry import MODELS

    from mmspike.deploy import compare
    from mmspike.deploy.exported import exported_config
    from mmspike.deploy.onnx_export import export_onnx, export_whole

    alone = args.part if not args.nir else None  # with both, --part is that of --nir
    if alone not in (None, 'backbone'):
        raise UserError(f"--part {alone}: ONNX files have the whole model, or with '--part backbone' its backbone")
    test_cfg = getattr(fused, 'test_cfg', None) or {}
    if args.shape and not alone and test_cfg.get('mode') == 'slide' and any(map(int.__lt__, args.shape, test_cfg['crop_size'])):
        height, width = test_cfg['crop_size']
        raise UserError(
            f'--shape {" ".join(map(str, args.shape))}: this segmentor slides windows of {height} x {width} px, '
            'and the file takes those. Give an image that is not smaller, or other windows with --cfg-options '
            "'model.test_cfg.crop_size=(H,W)'"
        )
    inputs, steps, comparable = graph_input(args, fused, batch)
    size = tuple(args.shape or inputs.shape[-2:])
    try:
        if alone:
            shape = (1, getattr(fused.backbone, 'in_channels', 3), *size)
            gap = export_onnx(fused.backbone, shape if steps is None else (steps, *shape), args.onnx)
            print(f'Wrote {args.onnx}: in onnxruntime its outputs differ by at most {gap:.2g}')
            return
        files = export_whole(fused, args.onnx, None if args.any_size else size, steps)
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    for file in files:
        print(f'Wrote {file.path}: in onnxruntime its outputs differ by at most {file.gap:.2g}')
    exported = MODELS.build(exported_config(cfg, args.onnx, 'onnxruntime'))
    if comparable:
        print(f'predictions in onnxruntime: {compare(fused, exported, batch)}')
    height, width = exported.about.get('window') or (None, None)
    check_engines(files[0], inputs[..., :height, :width].numpy())


def check_engines(file, image) -> None:
    """Compare what neurons send in every installed engine with PyTorch; an engine that computes otherwise is an error."""
    from mmspike.deploy.engine_check import bfloat16_warning, check_engine, mended
    from mmspike.deploy.engines import installed_engines

    others = []
    for engine in installed_engines():
        check = check_engine(file.path, file.module, image, engine)
        print(f'spikes in {check}')
        if not check.same:
            what = mended(file.path, file.module, image, engine)
            others.append(f'{engine} {check.version} ({check.spikes.total.share:.3%}): {what}')
    if (warning := bfloat16_warning(file.path, file.module, image)) is not None:
        print(warning)
    if others:
        raise UserError('\n'.join([f'{file.path} has other spikes than the network:', *(f'- in {other}' for other in others)]))


def write_int8(args: argparse.Namespace, cfg, model, fused, batch) -> None:
    from mmspike.config.testing import points_lost

    inputs, steps, comparable = graph_input(args, fused, batch)
    export = partial(int8_files, args, fused, inputs.numpy(), steps)
    files = export(args.int8, args.int8_correct)
    if args.shape is None and comparable:
        engine = args.engine or 'onnxruntime'
        results = tested(cfg, args.int8, engine, files, {'as trained': model, 'folded': fused})
        before, after = results['as trained'], results[f'int8 in {engine}']
        lost = points_lost(cfg.get('default_scope'), before, after)
        if lost is not None and lost > MAY_LOSE and not args.int8_correct:
            print(f'Rounding loses {lost:.2f} points, more than {MAY_LOSE}. With errors of a channel that cancel out:')
            with tempfile.TemporaryDirectory(dir=Path(args.int8).parent) as folder:
                others = export(Path(folder) / Path(args.int8).name, True)
                after = tested(cfg, others[0].path, engine, others, {})[f'int8 in {engine}']
                if points_lost(cfg.get('default_scope'), before, after) < lost:
                    files = [move(other, args.int8) for other in others]
                else:
                    print('That is no better, and the first files stay.')
    others = [
        f'- {file.path.name} in {file.check.engine} {file.check.version} ({file.check.spikes.total.share:.3%}): {file.mended}'
        for file in files
        if not file.check.same
    ]
    if others:
        raise UserError('\n'.join(['the engine has other spikes than the network with the weights of the file:', *others]))


def int8_files(args: argparse.Namespace, fused, image, steps, path, corrected: bool) -> list:
    """Write the integer files, and print what each is like."""
    from mmspike.deploy.int8 import export_int8, pixels_of

    size = tuple(args.shape or image.shape[-2:])
    try:
        pixels = pixels_of(fused.data_preprocessor) if args.int8_first else None
        files = export_int8(
            fused, path, args.engine or 'onnxruntime', None if args.any_size else size, steps, image, corrected, pixels
        )
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from error
    for file in files:
        print(file)
    return files


def tested(cfg, path, engine: str, files: list, networks: dict) -> dict:
    """Name -> metrics on the test set of networks and of the integer file. Prints them, and its flipped spikes there."""
    from mmengine.registry import MODELS

    from mmspike.config.testing import metrics_of
    from mmspike.deploy.engine_check import check_engine
    from mmspike.deploy.exported import exported_config
    from mmspike.deploy.int8 import preprocessed

    exported = MODELS.build(exported_config(cfg, str(path), engine))
    results = metrics_of(cfg, networks | {f'int8 in {engine}': exported})
    for name, metrics in results.items():
        print(f'{name}: {", ".join(f"{key} {value:.4g}" for key, value in metrics.items())}')
    first = files[0]
    images = preprocessed(cfg, exported.data_preprocessor, exported.about.get('window'))
    spikes = check_engine(first.path, first.module, images, engine).spikes
    total = spikes.total
    print(
        f'flipped by rounded weights on {spikes.batches} images: {total.flipped} of {total.outputs} spikes ({total.share:.2%})'
    )
    return results


def move(file, beside: str):
    """The file in the folder of another one, in the place of what has its name there."""
    target = Path(beside).with_name(file.path.name)
    return replace(file, path=file.path.replace(target))


if __name__ == '__main__':
    run(parse_args, main)
