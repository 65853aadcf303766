"""Print a config as it will be used, with everything it inherits and every option applied."""

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
    parser.add_argument('--save-path', type=Path, help='also write it to this file, .py, .json or .yml')
    launch.add_common_options(parser)
    args = parser.parse_args()
    if args.save_path and args.save_path.suffix not in ('.py', '.json', '.yml', '.yaml'):
        raise SystemExit(f'--save-path {args.save_path}: expected a file name that ends in .py, .json or .yml')
    cfg = launch.load_config(args)
    print(cfg.pretty_text)
    if args.save_path:
        args.save_path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
