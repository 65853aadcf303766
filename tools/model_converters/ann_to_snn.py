"""Convert a trained ordinary network to integer spikes: every ReLU becomes a neuron of D levels.

Thresholds are those with the smallest error on training images, layer by layer, and the means of channels are kept. Writes
OUT/converted.py and OUT/converted.pth: tools/test.py takes both, and tools/train.py trains the converted network on from there,
for a tenth of its time.
"""

import argparse
import sys
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
    parser.add_argument(
        '--no-calibrate',
        action='store_false',
        dest='calibrate',
        help='thresholds for the activations of the ordinary network alone, at once for all layers',
    )
    add_device_option(parser)
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model
    from mmspike.deploy.conversion import calibrate, convert, find, left_relus, save_converted
    from mmspike.deploy.forwards import forwards, regions, training_images

    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    model = build_model(cfg, args.checkpoint, args.device)

    with data.data_faults_explained(cfg, ('train_dataloader',), ()):
        images = [model.data_preprocessor(batch, False) for batch in training_images(cfg, args.images)]
    runs = forwards(model, images, [regions(model, image) for image in images])
    sites = find(model, runs)
    network = convert(model, sites, args.levels)
    if args.calibrate:
        calibrate(network, sites, runs)
    for site in sites:
        for i in range(site.calls):
            print(f'{site.label(i)}: neuron of D = {args.levels}')
    if left := left_relus(network):
        print(f'Left as they are, since inference does not run them: {", ".join(left)}')
    for path in save_converted(network, cfg, args.out, sites, args.levels):
        print(f'Wrote {path}')


if __name__ == '__main__':
    run(parse_args, main)
