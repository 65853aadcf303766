"""Millions of events a second of CPU time and bytes of memory an event, for each format of recordings, on files written here.

    events.py [--millions 8] [--raw FILE] [--aedat4 FILE]

EVT 3.0 and AEDAT 4 are read from files of yours: nothing here writes them.
"""

import argparse
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--millions', type=float, default=8, help='events of a file (default 8)')
    parser.add_argument('--raw', type=Path, help='a file in EVT 3.0')
    parser.add_argument('--aedat4', type=Path, help='a file in AEDAT 4')
    return parser.parse_args()


def write_files(folder: Path, number: int) -> list[Path]:
    """The same random events of a sensor of 240 x 304 px as .dat and EVT 2.0, of 34 x 34 px as .bin, and as AEDAT 3.1."""
    import struct

    import numpy as np

    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, min(number, 2**22), number))
    x, y, p = rng.integers(0, 304, number), rng.integers(0, 240, number), rng.integers(0, 2, number)
    (folder / 'a.dat').write_bytes(
        b'% Height 240\n% Width 304\n' + bytes([12, 8]) + np.stack([t, x | y << 14 | p << 28], 1).astype('<u4').tobytes()
    )
    high = t >> 6
    changes = np.flatnonzero(np.diff(high, prepend=-1))
    words = np.insert(p << 28 | (t & 63) << 22 | x << 11 | y, changes, 8 << 28 | high[changes]).astype('<u4')
    (folder / 'a.raw').write_bytes(b'% evt 2.0\n% geometry 304x240\n% end\n' + words.tobytes())
    small = np.stack([x % 34, y % 34, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8)
    (folder / 'a.bin').write_bytes(small.tobytes())
    packets = [b'#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n']
    pairs = np.stack([x << 17 | y << 2 | p << 1 | 1, t], 1).astype('<u4')
    for i in range(0, number, 4000):
        n = len(pairs[i : i + 4000])
        packets += [struct.pack('<HHIIIIII', 1, 1, 8, 4, 0, n, n, n), pairs[i : i + 4000].tobytes()]
    (folder / 'a.aedat').write_bytes(b''.join(packets))
    return [folder / f'a.{suffix}' for suffix in ('dat', 'raw', 'bin', 'aedat')]


def measure(path: Path) -> tuple[int, float, float]:
    """Events, the least CPU time of three readings of the whole file in s, and the peak of memory an event in bytes."""
    from mmspike.datasets.events import open_events

    seconds, count = [], 0
    for _ in range(3):
        start = time.process_time()
        with open_events(path) as stream:
            count = sum(len(events) for events in stream.blocks())
        seconds.append(time.process_time() - start)
    tracemalloc.start()
    with open_events(path) as stream:
        first, last = stream.span
        events = stream.between(first, last + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, min(seconds), peak / len(events)


def main(args: argparse.Namespace) -> None:
    print('| file | million events | million a second | bytes an event |\n|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        files = [*write_files(Path(folder), int(args.millions * 1e6)), args.raw, args.aedat4]
        for path in filter(None, files):
            count, seconds, peak = measure(path)
            print(f'| {path.name} | {count / 1e6:.3g} | {count / seconds / 1e6:.0f} | {peak:.0f} |', flush=True)


if __name__ == '__main__':
    run(parse_args, main)
