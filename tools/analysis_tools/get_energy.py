"""Energy of a detector, segmentor or classifier, counted on real images in its real test path.

Prints per layer and in total: dense MACs, what feeds the layer (binary spikes, integers, floats), firing rates, accumulations
by the field's formula and exactly, mJ; the same by stage; the ordinary twin. Without a checkpoint the weights are those with
which training starts, and so are the firing rates. With --deployed the network is counted as deploy.py folds it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option, positive


def metric(text: str) -> dict:
    name, equals, value = text.rpartition('=')
    try:
        return dict(name=name.strip(), value=float(value))
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f'expected NAME=VALUE with a number, for example "mask AP=31.2", got {text!r}')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file or URL')
    parser.add_argument('--num-images', type=positive, default=10, help='images, evenly spaced over the test set (default 10)')
    parser.add_argument('--preset', choices=['fp32', 'fp16', 'int8'], default='fp32', help='costs of an operation')
    parser.add_argument('--memory', action='store_true', help='also estimate with memory access (needs spikingjelly)')
    parser.add_argument(
        '--quantised', action='store_true', help='also compare with an ordinary network of ceil(log2(T*D + 1)) bit activations'
    )
    parser.add_argument(
        '--spikeyolo', action='store_true', help="with --deployed: also as SpikeYOLO's authors count, whose layers are merged"
    )
    parser.add_argument('--deployed', action='store_true', help='count the network as deployment folds it')
    parser.add_argument(
        '--keep-depthwise',
        action='store_true',
        help="with --deployed: leave Meta-SpikeFormer's depthwise and pointwise convolutions apart",
    )
    parser.add_argument('--json', metavar='FILE', help='write everything as JSON')
    parser.add_argument('--csv', metavar='FILE', help='write the layers as CSV')
    parser.add_argument('--html', metavar='FILE', help='write one self-contained page')
    parser.add_argument('--metric', type=metric, metavar='NAME=VALUE', help='accuracy to keep in the JSON, for tradeoff plots')
    add_device_option(parser)
    add_config_options(parser)
    args = parser.parse_args()
    for option in ('keep_depthwise', 'spikeyolo'):
        if getattr(args, option) and not args.deployed:
            parser.error(f'--{option.replace("_", "-")} is about the network as it is deployed: add --deployed')
    return args


def main(args: argparse.Namespace) -> None:
    from mmspike.analysis import measure_energy
    from mmspike.analysis.capture import last_of_each_stage, neuron_maps
    from mmspike.analysis.html import to_html
    from mmspike.analysis.report import to_text, write_csv, write_json
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model, picture, sample_image, sample_images
    from mmspike.deploy import fuse

    for file in filter(None, (args.json, args.csv, args.html)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    with data.data_faults_explained(cfg, ('test_dataloader',), ()):
        model = build_model(cfg, args.checkpoint, args.device)
        params = sum(p.numel() for p in model.parameters())
        if args.deployed:
            model = fuse(model, not args.keep_depthwise)
        images = sample_images(cfg, args.num_images)
        report = measure_energy(model, images, args.preset, args.memory, args.quantised, args.spikeyolo)
        checkpoint = args.checkpoint or 'none: an untrained network'
        report.info = dict(config=args.config, checkpoint=checkpoint, params=params)
        report.info |= dict(deployed=args.deployed, metric=args.metric)
        if args.checkpoint is None:
            print('No checkpoint was given: firing rates, SOPs and ratios are those of an untrained network.\n')
        if args.deployed:
            print('Counted as it is deployed: folded. Its twin has the folded layers, too.\n')
        print(to_text(report))
        if args.json:
            write_json(report, args.json)
        if args.csv:
            write_csv(report, args.csv)
        if args.html:
            batch = sample_image(cfg, 0)
            maps = {name: spikes for name, (_, spikes) in last_of_each_stage(neuron_maps(model, batch)).items()}
            Path(args.html).write_text(to_html(report, picture(model, batch), maps), encoding='utf-8')


if __name__ == '__main__':
    run(parse_args, main)
