"""Draw the images of a config's training data as its pipeline makes them, with boxes, masks or labels.

This is the browse_dataset.py of the host that the config's default_scope names. Recordings of event cameras are drawn by
plot_events.py.
"""

import argparse
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import parse_host_tool_args
from mmspike.utils.errors import UserError

SCRIPTS = dict(
    mmdet='analysis_tools/browse_dataset.py',
    mmseg='analysis_tools/browse_dataset.py',
    mmpretrain='visualization/browse_dataset.py',
)


def adapt_matplotlib() -> None:
    """mmpretrain's tool calls a function of matplotlib without the renderer that it has needed since version 3.11."""
    from matplotlib import _tight_bbox

    adjust_bbox = _tight_bbox.adjust_bbox
    if 'renderer' in inspect.signature(adjust_bbox).parameters:
        _tight_bbox.adjust_bbox = lambda figure, box: adjust_bbox(figure, box, figure.canvas.get_renderer())


@contextmanager
def pictures_named(cfg) -> Iterator[None]:
    """Pictures keep the folders that their images lie in; the hosts' tools take the last part of the name alone."""
    from mmengine.registry import VISUALIZERS

    from mmspike.config.host_tools import host_of
    from mmspike.config.output_names import OutputNames, name_pictures

    scope = host_of(cfg, SCRIPTS, 'browse_dataset.py')
    import_module(f'{scope}.visualization')
    with VISUALIZERS.switch_scope_and_registry(scope) as registry:
        visualizer = registry.get(cfg.visualizer.type)
    method = 'visualize_cls' if scope == 'mmpretrain' else 'add_datasample'
    draw = getattr(visualizer, method)
    setattr(visualizer, method, name_pictures(draw, OutputNames(cfg, 'train_dataloader')))
    try:
        yield
    finally:
        setattr(visualizer, method, draw)


def parse_args() -> argparse.Namespace:
    return parse_host_tool_args(__doc__)


def main(args: argparse.Namespace) -> None:
    from mmspike.config import host_tools, launch
    from mmspike.config.data_paths import config_datasets

    cfg = launch.load_config(args)
    if any(step['type'] == 'mmspike.PackEvents' for data in config_datasets(cfg) for step in data.get('pipeline') or ()):
        raise UserError('These are recordings of event cameras: draw them with tools/analysis_tools/plot_events.py')
    while cfg.train_dataloader.dataset.type.endswith('RepeatDataset'):  # it has no end, and the tool would draw on and on
        cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    if cfg.get('default_scope') == 'mmpretrain':
        adapt_matplotlib()
    with pictures_named(cfg):
        host_tools.run_host_tool(cfg, args.rest, SCRIPTS, ('train_dataloader',))


if __name__ == '__main__':
    run(parse_args, main)
