"""Put a spiking backbone into a config of mmdet, mmseg or mmpretrain and write the resulting config."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from the repository, installed or not

from mmspike.utils.collect_env import check_environment  # noqa: E402


def main() -> None:
    check_environment()
    from mmspike.config import launch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, or the name of a config of a host, such as mmdet::retinanet/…_coco.py')
    launch.add_backbone_options(parser, required=True)
    parser.add_argument('-o', '--out', required=True, help='file of the resulting config, .py')
    args = parser.parse_args()
    out = Path(args.out)
    if out.suffix != '.py':
        raise SystemExit(f'--out {args.out}: expected a file name that ends in .py')
    cfg = launch.read_config(args.config, args.backbone, args.spiking_heads)
    out.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(out)
    print(f'Written to {out}')


if __name__ == '__main__':
    main()
