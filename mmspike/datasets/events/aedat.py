"""AEDAT 2.0 and 3.1, the files of jAER and cAER, as blocks of events.

Facts of the formats: docs.inivation.com, "File Formats"; which way columns and rows of a DAVIS run: jAER's
``DavisBaseCamera`` (github.com/SensorsINI/jaer).
"""

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .recording import Block

CHUNK = 2**20  # events of AEDAT 2.0 decoded at once
PACKETS = 16  # of AEDAT 3.1 decoded at once, mostly of some thousand events
DVS128_SIDE = 128  # px
DAVIS_SIZES = {'128': (128, 128), '208': (192, 208), '240': (180, 240), '346': (260, 346), '640': (480, 640)}  # height, width
COMPRESSED = 0x8000  # of a packet's type


def read_aedat(path: Path) -> tuple[Iterator[Block], int]:
    """Blocks of AEDAT 2.0 (DVS128, DAVIS) or 3.1, told by the first line, and what their clock counts to, in us."""
    with path.open('rb') as file:
        version = file.readline(64)
        if version.startswith(b'#!AER-DAT2'):
            chip = _read_header2(file)
            return _decode_aedat2(file.read(), chip), 2**32
        if version.startswith(b'#!AER-DAT3'):
            _read_header3(file)
            return _decode_aedat3(file.read()), 2**62  # packets count how often theirs of 31 bits began anew
    raise ValueError(f'it begins with {version[:16]!r}, expected #!AER-DAT2.0 or #!AER-DAT3.1')


def _read_header2(file: BinaryIO) -> str:
    """The class of the chip, '' where no line names one; the file stands at its first event then.

    A first event can begin with a # too: header lines hold text only, and newer files say where they end.
    """
    chip = ''
    position = file.tell()
    while (line := file.readline()).startswith(b'#') and line.endswith(b'\n') and not re.search(rb'[\x00-\x08\x0e-\x1f]', line):
        position = file.tell()
        if line.startswith(b'# AEChip:'):
            chip = line.partition(b':')[2].strip().decode(errors='replace')
        if line.strip(b'#\r\n ').lower() == b'end of ascii header':
            break
    file.seek(position)
    return chip


def _decode_aedat2(data: bytes, chip: str) -> Iterator[Block]:
    """Pairs of big-endian words, address and time in us. What the address means depends on the chip."""
    davis = re.search(rf'davis?({"|".join(DAVIS_SIZES)})', chip.lower())
    if chip and davis is None and not re.search('dvs128|tmpdiff128', chip.lower()):
        raise ValueError(
            f'its header names the chip {chip}, whose addresses are not known here: a DVS128 and a DAVIS of '
            f'{", ".join(DAVIS_SIZES)} columns are. Convert it to .npz'
        )
    if len(data) % 8:
        raise ValueError(f'{len(data)} bytes of events are no whole number of events of 8 bytes: it is cut off')
    words = np.frombuffer(data, '>u4').reshape(-1, 2)
    for start in range(0, len(words), CHUNK):
        address, t = words[start : start + CHUNK].T.astype(np.int64)
        yield _davis(address, t, *DAVIS_SIZES[davis[1]]) if davis else _dvs128(address, t)


def _dvs128(address: np.ndarray, t: np.ndarray) -> Block:
    """Address: external1 y7 x7 p1, 0 is ON. The sensor of CIFAR10-DVS lay on its side: its picture is turned upright."""
    pixels = address & 0x8000 == 0
    address, t = address[pixels], t[pixels]
    return t, DVS128_SIDE - 1 - (address >> 8 & 0x7F), DVS128_SIDE - 1 - (address >> 1 & 0x7F), address & 1 == 0


def _davis(address: np.ndarray, t: np.ndarray, height: int, width: int) -> Block:
    """Address: frame-or-IMU1 y9 x10 p1 external1 …, 1 is ON; y counts from the bottom, x from the right."""
    pixels = address & (1 << 31 | 1 << 10) == 0
    address, t = address[pixels], t[pixels]
    return t, width - 1 - (address >> 12 & 0x3FF), height - 1 - (address >> 22 & 0x1FF), address >> 11 & 1 == 1


def _read_header3(file: BinaryIO) -> None:
    while not (line := file.readline()).startswith(b'#!END-HEADER'):
        if not line.startswith(b'#'):
            raise ValueError('the header has no #!END-HEADER')
        if line.startswith(b'#Format:') and (name := line.partition(b':')[2].strip()) != b'RAW':
            raise ValueError(f'its events are packed (format {name.decode(errors="replace")}): only RAW is read')


def _decode_aedat3(data: bytes) -> Iterator[Block]:
    """Packets of a 28-byte header and events; those of polarity are x15 y15 p1 valid1 and a time t31 in us."""
    words: list[np.ndarray] = []  # of packets that are not decoded yet
    overflows: list[int] = []
    position = 0
    while position < len(data):
        if len(data) - position < 28:
            raise ValueError(f'it is cut off in the packet header at byte {position} after the file header')
        event_type, _, size, _, overflow, capacity, number, _ = struct.unpack_from('<HHIIIIII', data, position)
        if event_type & COMPRESSED:
            raise ValueError(
                f'the packet at byte {position} after the file header is packed: only raw ones are read, convert it'
            )
        start, position = position + 28, position + 28 + capacity * size
        if position > len(data) or number > capacity or (event_type == 1 and size != 8):
            raise ValueError(
                f'the packet at byte {start - 28} after the file header should hold {number} of {capacity} events of {size} '
                f'bytes, but only {len(data) - start} bytes follow: it is cut off or corrupt'
            )
        if event_type == 1:  # polarity events; others are triggers, frames, IMU
            words.append(np.frombuffer(data, '<u4', 2 * number, start).reshape(-1, 2))
            overflows.append(overflow)
        if len(words) == PACKETS:
            yield _polarity_events(words, overflows)
            words, overflows = [], []
    if words:
        yield _polarity_events(words, overflows)


def _polarity_events(words: list[np.ndarray], overflows: list[int]) -> Block:
    pairs = np.concatenate(words)
    address, t = np.ascontiguousarray(pairs[:, 0]), pairs[:, 1].astype(np.int64)
    if any(overflows):
        t |= np.repeat(np.array(overflows, np.int64) << 31, [len(packet) for packet in words])
    valid = (address & 1).astype(bool)
    if not valid.all():
        address, t = address[valid], t[valid]
    x, y = (address >> 17).astype(np.int16), (address >> 2 & 0x7FFF).astype(np.int16)
    return t, x, y, (address & 2).astype(bool)
