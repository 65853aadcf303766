"""Stores what mmcv's compiled operators compute, for environments without them. Run it where mmcv is compiled.

python tests/ops/make_reference.py               # writes tests/ops/reference.npz
python tests/ops/make_reference.py --compare 500 # compares mmspike.ops with the compiled ones on so many seeds
"""

import argparse
import importlib.machinery
import sys
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parents[1])]


def compare(seeds: int) -> None:
    """Prints the largest difference of each operator."""
    import mmcv._ext as compiled
    from cases import CASES, distance, results

    from mmspike.ops.table import OPERATORS

    own = {name: getattr(compiled, name) for name in OPERATORS}
    for case in CASES:
        largest = {}
        for seed in range(seeds):
            expected = results(case, seed)
            vars(compiled).update(OPERATORS)
            try:
                found = results(case, seed)
            finally:
                vars(compiled).update(own)
            assert found.keys() == expected.keys()
            for name in expected:
                largest[name] = max(largest.get(name, 0), distance(found[name], expected[name]))
        print(f'{case:32s}', ', '.join(f'{name} {value:.2g}' for name, value in largest.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--compare', type=int, metavar='SEEDS')
    arguments = parser.parse_args()
    import mmcv._ext

    if not mmcv._ext.__file__.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        sys.exit('mmcv has no compiled operators here')
    if arguments.compare:
        compare(arguments.compare)
        return
    from cases import CASES, SEEDS, results

    arrays = {f'{case}/{seed}/{name}': x for case in CASES for seed in range(SEEDS) for name, x in results(case, seed).items()}
    np.savez_compressed(FOLDER / 'reference.npz', **arrays)


if __name__ == '__main__':
    main()
