"""Picture of a recording of an event camera: its events in space and time, and the frames that a network sees.

    plot_events.py CONFIG -o out.png [--split train] [--index 3] [--data-root DIR]
    plot_events.py RECORDING -o out.png [--T 8] [--by time]

A config's sample is shown as its pipeline makes it, augmentations included. A recording is a .bin, .aedat or .npz file, or a
folder of frames.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import add_config_options
from mmspike.utils.errors import UserError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='CONFIG|RECORDING', help='config file, recording or folder of frames')
    parser.add_argument('-o', '--out', required=True, help='picture to write (.png, .svg, .pdf)')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='test', help='data set of the config (default test)'
    )
    parser.add_argument('--index', type=int, default=0, help='which sample of it (default 0)')
    parser.add_argument('--T', type=int, default=8, help='frames of a recording (default 8)')
    parser.add_argument('--by', choices=('count', 'time'), default='count', help='what the frames of a recording share')
    add_config_options(parser)
    return parser.parse_args()


def sample_of_config(args: argparse.Namespace):
    """Events (None for frames), frames and title of a sample, as the pipeline makes it."""
    from mmengine.registry import DATASETS, init_default_scope

    from mmspike.config import launch

    cfg = launch.load_config(args)
    init_default_scope(cfg.default_scope)
    dataset = DATASETS.build(cfg[f'{args.split}_dataloader'].dataset)
    if not 0 <= args.index < len(dataset):
        raise ValueError(f'the {args.split} set has {len(dataset)} samples, 0 to {len(dataset) - 1}, got {args.index}')
    results = dataset.get_data_info(args.index)
    if 'events_path' not in results:
        raise ValueError(f'{args.config} is no config of event recordings: draw its images with browse_dataset.py')
    path, label = results['events_path'], results['gt_label']
    events = None
    for transform in dataset.pipeline.transforms:
        events = results.get('events', events)
        results = transform(results)
    name = '/'.join(Path(path).parts[-3:])
    return events, results['inputs'].numpy(), f'{name}: {dataset.CLASSES[label]}'


def recording(args: argparse.Namespace):
    """Events (None for frames), frames and title of a file or folder."""
    from mmspike.datasets.events import read_events, read_frames
    from mmspike.datasets.events.transforms import integrate

    path = Path(args.config)
    if path.is_dir():
        return None, read_frames(path, args.T), str(path)
    events = read_events(path)
    size = (int(events['y'].max()) + 1, int(events['x'].max()) + 1)
    return events, integrate(events, size, args.T, args.by), f'{path}: {len(events)} events'


def main(args: argparse.Namespace) -> None:
    from mmspike.datasets.events.plots import plot_events

    try:
        events, frames, title = (sample_of_config if args.config.endswith('.py') else recording)(args)
        plot_events(events, frames, args.out, title)
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run(parse_args, main)
