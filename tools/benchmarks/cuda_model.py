"""Memory and launches of training steps on a GPU, counted without one, and the largest batches predicted from them.

    python tools/benchmarks/cuda_model.py
    python tools/benchmarks/cuda_model.py --only mask_rcnn --against-build DIR

Tensors are fake ones on CUDA: they have shapes, types and layouts, and no data (see mmspike/analysis/fake_cuda.py). Counted are
the bytes that are kept for the backward pass, the launches of both passes and the most bytes that are alive at once, in
float32 and under float16 autocast. Beside the package stand

- spikingjelly: the same network with a stand-in for the LIF of spikingjelly 2.0, which keeps what that keeps (its input, and
  its membranes in float32), without the package's kernels;
- plain: the same network without the package's kernels;
- another checkout of this project, with ``--against-build DIR``.

Losses are not part of it, since they read values: the gradient of every output is one. Of two-stage detectors the features of
the regions are made up, 512 boxes and 128 masks an image. With ``--against-build`` launches of the other checkout's own
kernels count as one each, without copies around them.

Writes OUT.json and OUT.md.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
GIB = 2**30
#: name -> (config, or preset of a backbone), time steps or None for the config's own, size of an image
CASES: dict[str, tuple[str, int | None, tuple[int, int]]] = {
    'metaspikeformer-15m, T = 4': ('metaspikeformer-15m', 4, (224, 224)),
    'espikeformer-m': ('espikeformer-m', 1, (224, 224)),
    'metaspike_imagenet': ('configs/metaspike_imagenet.py', None, (224, 224)),
    'espike_imagenet': ('configs/espike_imagenet.py', None, (224, 224)),
    'fpn_metaspike_ade20k': ('configs/fpn_metaspike_ade20k.py', None, (512, 512)),
    'fpn_espike_ade20k': ('configs/fpn_espike_ade20k.py', None, (512, 512)),
    'mask_rcnn_metaspike_coco': ('configs/mask_rcnn_metaspike_coco.py', None, (800, 1333)),
    'mask_rcnn_espike_coco': ('configs/mask_rcnn_espike_coco.py', None, (800, 1333)),
}
PRECISIONS = ('float32', 'float16')
CARDS = (24, 40, 80)
#: of a card's memory: CUDA's context and cuDNN's workspaces, and the share that is lost between blocks
RESERVED, FRAGMENTED = 1.0 * GIB, 0.1


# --- in the process of one network ---------------------------------------------------------------------------------------


def counting() -> Any:
    """fake_cuda of this checkout, whichever checkout mmspike is imported from."""
    name = 'mmspike.kernels.gpu.launch'
    try:
        importlib.import_module(name)
    except ImportError:  # a checkout without Triton operators that are opened for counting
        for part in ('mmspike.kernels', 'mmspike.kernels.gpu', name):
            sys.modules.setdefault(part, types.ModuleType(part))
    if not hasattr(sys.modules[name], 'FUNCTIONS'):
        sys.modules[name].FUNCTIONS = {}  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location('fake_cuda_of_this_checkout', REPO / 'mmspike/analysis/fake_cuda.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def stand_in() -> type:
    """A neuron that keeps what spikingjelly 2.0's LIF keeps, in one launch each way."""
    import torch

    from mmspike.models.neurons import BaseNeuron

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x, torch.empty_like(x, dtype=torch.float32))
            return torch.zeros_like(x)

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return torch.zeros_like(ctx.saved_tensors[0])

    class JellyLIF(BaseNeuron):
        def __init__(self, v_threshold: float = 1.0) -> None:
            super().__init__()
            self.v_threshold = v_threshold

        def forward(self, x: Any) -> Any:
            return Function.apply(x)

    return JellyLIF


def network(case: dict) -> Any:
    """The network of a case, whose input is images."""
    import torch
    from torch import nn

    from mmspike.models import ESpikeFormer, MetaSpikeFormer

    neuron = dict(type=stand_in()) if case['way'] == 'spikingjelly' else None
    if not case['config'].endswith('.py'):
        cls = MetaSpikeFormer if case['config'].startswith('meta') else ESpikeFormer
        return cls(case['config'], T=case['T'], neuron=neuron)

    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    import mmspike.models  # noqa: F401

    config = Config.fromfile(Path(case['root']) / case['config'])
    init_default_scope(config.default_scope)
    importlib.import_module(config.default_scope)
    model = MODELS.build(config.model)

    class Detector(nn.Module):
        """Backbone, neck, RPN and RoI heads on as many regions as the configs sample."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any) -> list:
            features = self.model.extract_feat(images)
            outs = [*self.model.rpn_head(features)]
            head, B = self.model.roi_head, images.shape[0]
            means = torch.stack([x.mean((-1, -2)) for x in features[:4]]).mean(0)  # [T, B, C], the stand-in of RoIAlign
            for part, regions, side in ((head.bbox_head, 512, 7), (head.mask_head, 128, 14)):
                rois = means.repeat(1, regions, 1)[..., None, None].expand(-1, -1, -1, side, side)
                outs.append(part(rois.contiguous().view(-1, B * regions, rois.shape[2], side, side)))
            return outs

    class Tensors(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Any) -> Any:
            return self.model(images, mode='tensor')

    return Detector() if hasattr(model, 'roi_head') else Tensors()


def worker(case: dict) -> None:
    """Print what one step of one network takes, as JSON."""
    import torch

    fake_cuda = counting()
    height, width = case['size']
    amp = None if case['precision'] == 'float32' else torch.float16
    plain: Any = contextlib.nullcontext()
    if case['way'] in ('plain', 'spikingjelly'):
        from mmspike import kernels

        plain = kernels.use(False)
    with plain:
        model = network(case)
        size = sum(p.numel() for p in model.parameters() if p.requires_grad)
        everything = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
        step = fake_cuda.training_step(lambda: model, lambda: torch.zeros(case['batch'], 3, height, width), amp)
    result = dict(saved=step.saved, peak=step.peak, forward=step.forward.total(), backward=step.backward.total())
    print(json.dumps(result | dict(trained=size, weights=everything, elsewhere=dict(step.elsewhere))))


# --- in the process that compares ----------------------------------------------------------------------------------------


def measure(case: dict, checkout: Path = REPO, python: str = sys.executable) -> dict:
    env = os.environ | dict(
        PYTHONPATH=os.pathsep.join([str(checkout.resolve()), *filter(None, [os.environ.get('PYTHONPATH')])])
    )
    command = [python, '-W', 'ignore', __file__, '--worker', json.dumps(case | dict(root=str(checkout)))]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f'counting {case} failed with exit code {done.returncode}, see above')
    return json.loads(done.stdout.splitlines()[-1])


def largest_batch(one: dict, two: dict, memory: int) -> int:
    """Images of a step that fit in ``memory`` GiB, from steps of one and of two images, with AdamW's two states a weight."""
    image = two['peak'] - one['peak']
    fixed = one['peak'] - image + one['weights'] + 8 * one['trained']
    return max(0, int(((memory * GIB - RESERVED) * (1 - FRAGMENTED) - fixed) // image))


def table(results: list[dict]) -> str:
    """Markdown of all results."""
    lines = [
        '| network | precision | | saved an image, MB | launches forward + backward | saved, ours / this '
        '| launches, ours / this |',
        '|---|---|---|---|---|---|---|',
    ]
    for r in results:
        ours = r['ways']['ours']
        for name, other in r['ways'].items():
            counted = f'{other["saved"] / r["batch"] / 1e6:.1f} | {other["forward"]} + {other["backward"]}'
            launches = (ours['forward'] + ours['backward']) / (other['forward'] + other['backward'])
            ratios = '| |' if name == 'ours' else f'| {ours["saved"] / other["saved"]:.2f} | {launches:.2f} |'
            lines.append(f'| {r["name"]} | {r["precision"]} | {name} | {counted} {ratios}')
    cards = [f'{card} GB' for card in CARDS]
    lines += ['', 'Largest batch of one GPU, predicted, not tried:', '']
    lines += [f'| network | precision | {" | ".join(cards)} |', '|---|---|' + '---|' * len(cards)]
    for r in results:
        batches = [str(r['batches'][str(card)]) for card in CARDS]
        lines.append(f'| {r["name"]} | {r["precision"]} | {" | ".join(batches)} |')
    return '\n'.join(lines)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', nargs='+', default=[''], metavar='TEXT', help='networks whose names contain one of these')
    parser.add_argument('--precisions', nargs='+', default=list(PRECISIONS), choices=PRECISIONS, help='default: both')
    parser.add_argument(
        '--against', nargs='*', default=['spikingjelly', 'plain'], choices=['spikingjelly', 'plain'],
        help='what to compare with; spikingjelly has backbones of LIF alone (default: both)',
    )  # fmt: skip
    parser.add_argument('--against-build', metavar='DIR', type=Path, help='another checkout of this project to compare with')
    parser.add_argument(
        '--build-python', metavar='FILE', default=sys.executable,
        help='the Python that runs it, such as DIR/.venv/bin/python where it needs another mmcv (default: this one)',
    )  # fmt: skip
    parser.add_argument('--out', type=Path, default=Path('work_dirs/cuda_model'), help='results, without suffix')
    args = parser.parse_args()
    if args.against_build and not (args.against_build / 'mmspike/__init__.py').is_file():
        parser.error(f'--against-build {args.against_build}: no checkout of this project, it has no mmspike/__init__.py')
    args.cases = {name: case for name, case in CASES.items() if any(text in name for text in args.only)}
    if not args.cases:
        parser.error(f'--only {" ".join(args.only)}: no such network; there are {", ".join(CASES)}')
    return args


def main(args: argparse.Namespace) -> int:
    results = []
    for name, (config, T, size) in args.cases.items():
        for precision in args.precisions:
            case = dict(config=config, T=T, size=size, precision=precision, batch=2, way='ours')
            ways = {'ours': measure(case)}
            for way in args.against:
                if way != 'spikingjelly' or config == 'metaspikeformer-15m':
                    ways[way] = measure(case | dict(way=way))
            if args.against_build:
                ways[f'build {args.against_build}'] = measure(case, args.against_build, args.build_python)
            one = measure(case | dict(batch=1))
            batches = {str(card): largest_batch(one, ways['ours'], card) for card in CARDS}
            results.append(dict(name=name, precision=precision, batch=2, ways=ways, batches=batches))
            print(table(results[-1:]), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix('.json').write_text(json.dumps(results, indent=1))
    args.out.with_suffix('.md').write_text(table(results) + '\n')
    return 0


if __name__ == '__main__':
    if sys.argv[1:2] == ['--worker']:  # of the checkout that PYTHONPATH names
        worker(json.loads(sys.argv[2]))
    else:
        sys.path.insert(0, str(REPO))  # this checkout's mmspike, installed or not
        from mmspike.cli import run

        run(parse_args, main, any_environment=True)
