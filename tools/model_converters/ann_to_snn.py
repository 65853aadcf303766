"""Convert a trained ordinary network to integer spikes: every ReLU becomes a neuron of D levels.

Thresholds are those with the smallest error on training images. Writes OUT/converted.py and OUT/converted.pth: tools/test.py
takes both, and tools/train.py trains the converted network on from there.
"""

import argparse
import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, positive


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument('-o', '--out', required=True, help='directory to write converted.py and converted.pth into')
    parser.add_argument('--levels', type=positive, default=8, metavar='D', help='largest count of a neuron (default: 8)')
    parser.add_argument('--images', type=positive, default=64, help='training images that set the thresholds (default: 64)')
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def batches(cfg, number: int):
    """Training images one at a time, evenly spaced over the data set, as the training pipeline makes them."""
    from mmengine.runner import Runner, set_random_seed

    loader_cfg = deepcopy(cfg.train_dataloader)
    loader_cfg.pop('prefetch_factor', None)
    loader_cfg.update(num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader_cfg)
    set_random_seed(0)
    number = min(number, len(loader.dataset))
    for i in range(number):
        yield loader.collate_fn([loader.dataset[i * len(loader.dataset) // number]])


def main(args: argparse.Namespace) -> None:
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model
    from mmspike.deploy.conversion import convert, find, left_relus, save_converted

    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    model = build_model(cfg, args.checkpoint, args.device)

    def forward(batch):
        prepared = model.data_preprocessor(batch, False)
        return model(**prepared, mode='tensor')

    with data.data_faults_explained(cfg, ('train_dataloader',), ()):
        sites = find(model, (lambda batch=batch: forward(batch) for batch in batches(cfg, args.images)))
    network = convert(model, sites, args.levels)
    for site in sites:
        for i in range(site.calls):
            print(f'{site.label(i)}: neuron of D = {args.levels}')
    if left := left_relus(network):
        print(f'Left as they are, since inference does not run them: {", ".join(left)}')
    for path in save_converted(network, cfg, args.out, sites, args.levels):
        print(f'Wrote {path}')


if __name__ == '__main__':
    run(parse_args, main)
