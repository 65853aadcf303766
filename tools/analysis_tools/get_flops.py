"""Dense operations and parameters of a model, as the host counts them for any network.

This is the get_flops.py of the host that the config's default_scope names. Its FLOP is a multiply-accumulate; norms count as
well, and so do all T steps. No spike is looked at: what spikes save is what tools/analysis_tools/get_energy.py measures.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from the repository, installed or not

from mmspike.utils.collect_env import check_environment  # noqa: E402

SCRIPTS = dict.fromkeys(('mmdet', 'mmseg', 'mmpretrain'), 'analysis_tools/get_flops.py')


def main() -> None:
    check_environment()
    from mmspike.config.host_tools import parse_tool_args, run_host_tool

    cfg, rest = parse_tool_args(__doc__)
    if cfg.model.get('backbone', {}).get('in_channels', 3) != 3:
        raise SystemExit("The hosts' tools count for images of 3 channels only: use tools/analysis_tools/get_energy.py CONFIG")
    run_host_tool(cfg, rest, SCRIPTS, ('val_dataloader',) if cfg.get('default_scope') == 'mmdet' else ())
    print(
        'These are dense multiply-accumulates of all T steps. What spikes make of them (SOPs, energy): '
        'tools/analysis_tools/get_energy.py CONFIG CHECKPOINT'
    )


if __name__ == '__main__':
    main()
