"""Pictures of a spiking network.

    plot_spikes.py rates REPORT.json -o rates.png
    plot_spikes.py maps CONFIG [CHECKPOINT] -o maps.png
    plot_spikes.py attention CONFIG [CHECKPOINT] -o attention.png
    plot_spikes.py tradeoff REPORT.json [REPORT.json …] -o tradeoff.png

Reports are written by get_energy.py --json; those of a tradeoff need its --metric.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options, add_device_option
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest='kind', required=True)
    rates = kinds.add_parser('rates', help='firing rates by depth, from a report')
    rates.add_argument('report', help='JSON report of get_energy.py')
    for kind, text in (('maps', 'membranes and spikes of every stage over an image'), ('attention', 'attention maps')):
        sub = kinds.add_parser(kind, help=text)
        sub.add_argument('config', help='config file')
        sub.add_argument('checkpoint', nargs='?', help='checkpoint file or URL')
        sub.add_argument('--index', type=int, default=0, help='which image of the test set (default 0)')
        add_device_option(sub)
        add_config_options(sub)
    tradeoff = kinds.add_parser('tradeoff', help='energy against accuracy, from reports')
    tradeoff.add_argument('reports', nargs='+', help='JSON reports with a metric; the file names are the labels')
    tradeoff.add_argument('--formula', action='store_true', help="the field's formula instead of exact events")
    for sub in kinds.choices.values():
        sub.add_argument('-o', '--out', required=True, help='picture to write (.png, .svg, .pdf)')
    return parser.parse_args()


def plot_network(args: argparse.Namespace) -> None:
    from mmspike.analysis import plots
    from mmspike.analysis.capture import attention_maps, last_of_each_stage, neuron_maps
    from mmspike.config import data, launch, precision
    from mmspike.config.loading import build_model, picture, sample_image

    precision.set_tf32(args.tf32)
    cfg = launch.load_config(args)
    with data.data_faults_explained(cfg, ('test_dataloader',), ()):
        batch = sample_image(cfg, args.index)
        model = build_model(cfg, args.checkpoint, args.device)
        if args.kind == 'maps':
            plots.plot_maps(picture(model, batch), last_of_each_stage(neuron_maps(model, batch)), args.out)
        else:
            plots.plot_attention(picture(model, batch), attention_maps(model, batch), args.out)


def read_report(path: str) -> dict:
    from mmspike.analysis.report import load_report

    try:
        return load_report(path)
    except OSError as error:
        raise UserError(f'{path}: {error.strerror}') from error


def main(args: argparse.Namespace) -> None:
    from mmspike.analysis import plots

    try:
        if args.kind == 'rates':
            plots.plot_rates(read_report(args.report), args.out)
        elif args.kind == 'tradeoff':
            names = [Path(path).stem for path in args.reports]
            if len(set(names)) < len(names):
                names = [str(Path(path).with_suffix('')) for path in args.reports]
            reports = dict(zip(names, map(read_report, args.reports), strict=True))
            plots.plot_tradeoff(reports, args.out, exact=not args.formula)
        else:
            plot_network(args)
    except ValueError as error:
        raise UserError(f'{args.kind}: {error}') from error
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
