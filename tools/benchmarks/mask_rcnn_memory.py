"""Peak memory and time of a training step of Mask R-CNN with E-SpikeFormer-m at 800 x 1333, batch 2, on the CPU.

    python tools/benchmarks/mask_rcnn_memory.py

Three ways, each in a process of its own: plain PyTorch, the package's kernels (the default), and those with recomputed blocks
(``with_cp=True``).
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
WAYS = dict(
    plain='plain PyTorch (MMSPIKE_KERNELS=0)',
    fused='fused chains (default)',
    recomputed='fused chains, with_cp=True',
)
SIZE, STEPS = (800, 1333), 2


def measure(way: str) -> dict:
    import torch
    from mmdet.registry import MODELS
    from mmdet.testing import demo_mm_inputs
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    import mmspike.models  # noqa: F401

    torch.manual_seed(0)
    config = Config.fromfile(REPO / 'configs/mask_rcnn_espike_coco.py')
    init_default_scope('mmdet')
    config.model.backbone.with_cp = way == 'recomputed'
    model = MODELS.build(config.model).train()
    shapes = [(3, *SIZE)] * 2
    batch = demo_mm_inputs(2, shapes, num_items=[10, 10], num_classes=80, with_mask=True)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(model.loss(data['inputs'], data['data_samples']))
        model.zero_grad(set_to_none=True)
        loss.backward()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(idle=idle, peak=peak, seconds=min(times))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('way', nargs='?', choices=list(WAYS), help='measure this one alone, in this process, and print JSON')
    args = parser.parse_args()
    if args.way:
        print(json.dumps(measure(args.way)))
        return
    print('| way | peak memory, MB | of it before the first step | seconds a step |\n|---|---|---|---|')
    for way, text in WAYS.items():
        env = os.environ | dict(MMSPIKE_KERNELS='0' if way == 'plain' else '1')
        done = subprocess.run([sys.executable, __file__, way], stdout=subprocess.PIPE, text=True, check=True, env=env)
        result = json.loads(done.stdout.splitlines()[-1])
        print(f'| {text} | {result["peak"]:.0f} | {result["idle"]:.0f} | {result["seconds"]:.1f} |', flush=True)


if __name__ == '__main__':
    main()
