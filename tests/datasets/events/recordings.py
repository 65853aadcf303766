"""Writes recordings in the formats of the sensors, from plain arrays."""

import struct

import h5py
import numpy as np


def random_events(number=500, size=(34, 34), seed=0):
    """t, x, y, p in order of time."""
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(0, 300_000, number))
    return t, rng.integers(0, size[1], number), rng.integers(0, size[0], number), rng.integers(0, 2, number)


def atis_bytes(t, x, y, p):
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def aedat2_bytes(t, x, y, p):
    """As CIFAR10-DVS: the sensor lies on its side, and 0 is ON."""
    address = (127 - x) << 8 | (127 - y) << 1 | 1 - p
    header = b'#!AER-DAT2.0\r\n# This is a raw AE data file\r\n'
    return header + np.stack([address, t], 1).astype('>u4').tobytes()


def davis_bytes(t, x, y, p, size, chip='eu.seebetter.ini.chips.davis.Davis346B', end=b'#End Of ASCII Header\r\n'):
    """As jAER writes a DAVIS: columns from the right, rows from the bottom, 1 is ON; then a frame's sample and a trigger."""
    height, width = size
    address = (height - 1 - y) << 22 | (width - 1 - x) << 12 | p << 11
    address, t = np.append(address, [1 << 31 | 5 << 22, 1 << 10]), np.append(t, [t[-1], t[-1]])
    header = f'#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# AEChip: {chip}\r\n#<entry key="x"/>\r\n'.encode() + end
    return header + np.stack([address, t], 1).astype('>u4').tobytes()


def aedat3_bytes(t, x, y, p, overflow=0, packet=200):
    """As DVS128 Gesture: packets of polarity events, and one of another kind between them."""
    data = b'#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n'
    for i in range(0, len(t), packet):
        word = x[i : i + packet] << 17 | y[i : i + packet] << 2 | p[i : i + packet] << 1 | 1
        n = len(word)
        data += struct.pack('<HHIIIIII', 1, 1, 8, 4, overflow, n, n, n)
        data += np.stack([word, t[i : i + packet]], 1).astype('<u4').tobytes()
        data += struct.pack('<HHIIIIII', 0, 1, 8, 4, overflow, 1, 1, 1) + bytes(8)
    return data


def write_npz(path, t, x, y, p):
    np.savez(path, t=t, x=x, y=y, p=p)


def dat_bytes(t, x, y, p, size=(34, 34)):
    header = f'% Data file containing CD events.\n% Version 2\n% Height {size[0]}\n% Width {size[1]}\n'.encode()
    words = np.stack([t % 2**32, x | y << 14 | p << 28], 1).astype('<u4')
    return header + bytes([12, 8]) + words.tobytes()


def evt2_bytes(t, x, y, p, size=(34, 34)):
    """A word of the upper bits of the time before every event in which they change."""
    high = t >> 6 & (2**28 - 1)
    words = p << 28 | (t & 63) << 22 | x << 11 | y
    changes = np.flatnonzero(np.diff(high, prepend=-1))
    words = np.insert(words, changes, 8 << 28 | high[changes]).astype('<u4')
    return f'% evt 2.0\n% format EVT2;height={size[0]};width={size[1]}\n% end\n'.encode() + words.tobytes()


def evt3_bytes(t, x, y, p, size=(34, 34)):
    """The upper bits of the time whenever they change, as sensors send them; of every event the lower bits, row and column."""
    words, high = [], int(t[0]) >> 12
    for time, column, row, polarity in zip(*(values.tolist() for values in (t, x, y, p)), strict=True):
        words += [8 << 12 | h & 0xFFF for h in range(high + bool(words), (time >> 12) + 1)]
        high = time >> 12
        words += [6 << 12 | time & 0xFFF, row, 2 << 12 | polarity << 11 | column]
    words = np.array(words)
    return f'% evt 3.0\n% geometry {size[1]}x{size[0]}\n% end\n'.encode() + words.astype('<u2').tobytes()


def write_rvt(path, t, x, y, p, size):
    """As RVT's preprocessing: events with the size of the sensor."""
    with h5py.File(path, 'w') as file:
        for name, values in dict(t=t, x=x, y=y, p=p).items():
            file[f'events/{name}'] = values
        file['events/height'], file['events/width'] = size


def write_dsec(path, t, x, y, p, offset=0):
    with h5py.File(path, 'w') as file:
        for name, values in dict(t=t.astype(np.uint32), x=x, y=y, p=p).items():
            file[f'events/{name}'] = values
        file['ms_to_idx'] = np.searchsorted(t, np.arange(0, t[-1] + 1000, 1000))
        file['t_offset'] = offset
