"""Images per second of a detector, segmentor or classifier in its real test path.

Times ``model.test_step`` (preprocessing, network, post-processing) on images of the test set, one at a time, without reading
them from disk; the first ones warm up. The same measure for all three hosts: of their own tools mmdet's needs CUDA, mmseg's 200
images, and mmpretrain has none. Networks alone, against others: tools/benchmark.py.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_amp_option, add_config_options, add_device_option, parse


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or the name of a config of a host')
    parser.add_argument(
        'checkpoint', nargs='?', help='checkpoint file or URL (default: an untrained network, whose post-processing may differ)'
    )
    parser.add_argument('--num-images', type=int, default=50, help='images to time, evenly spaced (default 50)')
    parser.add_argument('--num-warmup', type=int, default=5, help='images before them, not timed (default 5)')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the result, for compare.py')
    add_amp_option(parser)
    add_device_option(parser, tf32=True)
    add_config_options(parser)
    args = parse(parser)
    if args.num_images < 1 or args.num_warmup < 0:
        parser.error(f'expected --num-images >= 1 and --num-warmup >= 0, got {args.num_images} and {args.num_warmup}')
    return args


def measure(model, batches, num_warmup: int) -> dict:
    """Milliseconds an image (median, least, largest) and images per second (from the median); memory in MB on CUDA."""
    import torch

    cuda = next(model.parameters()).device.type == 'cuda'
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    times = []
    for i, batch in enumerate(batches):
        if cuda:
            torch.cuda.synchronize()
        start = time.perf_counter()
        with torch.no_grad():
            model.test_step(batch)
        if cuda:
            torch.cuda.synchronize()
        if i >= num_warmup:
            times.append(1000 * (time.perf_counter() - start))
    median = statistics.median(times)
    return dict(
        images=len(times),
        milliseconds=median,
        milliseconds_least=min(times),
        milliseconds_largest=max(times),
        images_per_second=1000 / median,
        memory_mb=torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
    )


def device_name(device) -> str:
    import torch

    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), cpu)
    threads = torch.get_num_threads()
    return f'{cpu}, {threads} thread{"s" if threads > 1 else ""}'


def main(args: argparse.Namespace) -> None:
    from itertools import chain, islice, repeat

    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model, sample_images

    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    with data.data_faults_explained(cfg, ('test_dataloader',), ()):
        model = build_model(cfg, args.checkpoint, args.device)
        if args.amp:
            precision.halve_test_step(model, args.amp)
        images = list(sample_images(cfg, args.num_images))
        warmup = islice(chain.from_iterable(repeat(images)), args.num_warmup)
        result = measure(model, chain(warmup, images), args.num_warmup)
    device = next(model.parameters()).device
    result = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        params=sum(p.numel() for p in model.parameters()),
        device=device_name(device),
        amp=args.amp,
        tf32=args.tf32,
        **result,
    )
    print(
        f'{result["images_per_second"]:.2f} images/s, {result["milliseconds"]:.1f} ms an image (median of {result["images"]}, '
        f'{result["milliseconds_least"]:.1f} to {result["milliseconds_largest"]:.1f}) on {result["device"]}'
    )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1), encoding='utf-8')


if __name__ == '__main__':
    run(parse_args, main)
