"""Dense operations and parameters of a model, as the host counts them for any network.

This is the get_flops.py of the host that the config's default_scope names. Its FLOP is a multiply-accumulate; norms count as
well, and so do all T steps. No spike is looked at: what spikes save is what tools/analysis_tools/get_energy.py measures.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.config.options import parse_host_tool_args
from mmspike.utils.errors import UserError

SCRIPTS = dict.fromkeys(('mmdet', 'mmseg', 'mmpretrain'), 'analysis_tools/get_flops.py')


def parse_args() -> argparse.Namespace:
    return parse_host_tool_args(__doc__)


def main(args: argparse.Namespace) -> None:
    from mmspike.config import host_tools, launch

    cfg = launch.load_config(args)
    if cfg.model.get('backbone', {}).get('in_channels', 3) != 3:
        raise UserError("The hosts' tools count for images of 3 channels only: use tools/analysis_tools/get_energy.py CONFIG")
    host_tools.run_host_tool(cfg, args.rest, SCRIPTS, ('val_dataloader',) if cfg.get('default_scope') == 'mmdet' else ())
    print(
        'These are dense multiply-accumulates of all T steps. What spikes make of them (SOPs, energy): '
        'tools/analysis_tools/get_energy.py CONFIG CHECKPOINT'
    )


if __name__ == '__main__':
    run(parse_args, main)
