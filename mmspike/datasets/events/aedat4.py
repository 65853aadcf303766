"""AEDAT 4, the files of iniVation's DV, by the package aedat.

The package decodes a file from its beginning. Packets do not depend on each other, so that some of them behind the file's
header make a smaller file, which it decodes as well: that is how an interval is read. Facts of the layout:
docs.inivation.com, "AEDAT 4".
"""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .recording import Block
from .stream import BLOCK, EventStream, MissingPackage, Part

VERSION = b'#!AER-DAT4.0\r\n'


class Aedat4Stream(EventStream):
    """The first stream of events in an AEDAT 4 file."""

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        try:
            import aedat
        except ImportError:
            raise MissingPackage(f'{path} is an AEDAT 4 file: pip install aedat') from None
        self._decoder = aedat.Decoder
        with self.path.open('rb') as file:
            begin = file.read(len(VERSION) + 4)
            if not begin.startswith(VERSION) or len(begin) < len(VERSION) + 4:
                raise ValueError(f'it begins with {begin[:14]!r}, expected {VERSION!r}')
            (length,) = struct.unpack_from('<I', begin, len(VERSION))
            header = bytearray(begin + file.read(length))
        if len(header) < len(VERSION) + 4 + length:
            raise ValueError('it is cut off in its header')
        at = _table_position(header, len(VERSION) + 4)
        end = self.path.stat().st_size
        if at is not None:
            (table,) = struct.unpack_from('<q', header, at)
            if table > end:
                raise ValueError(f'it is cut off: it has {end} bytes, and its table of packets begins at byte {table}')
            end = table if table > 0 else end
            struct.pack_into('<q', header, at, -1)  # a part of the file has no table
        self._header, self._end = bytes(header), end
        streams = {i: s for i, s in self._decoder(str(self.path)).id_to_stream().items() if s['type'] == 'events'}
        if not streams:
            raise ValueError('it has no stream of events')
        self._stream = min(streams)
        self.sensor_size = streams[self._stream]['height'], streams[self._stream]['width']

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Positions of groups of packets, each of about a block of events."""
        with self.path.open('rb') as file:
            start = position = len(self._header)
            while position + 8 <= self._end:
                file.seek(position)
                _, size = struct.unpack('<ii', file.read(8))
                position += 8 + size
                if size < 0 or position > self._end:
                    raise ValueError(f'it is cut off in the packet that ends at byte {position} of {self._end}')
                if position - start > 4 * BLOCK:
                    yield start, position
                    start = position
            if position != self._end:
                raise ValueError(f'it is cut off in the head of the packet at byte {position}')
            if position > start:
                yield start, position

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        for start, stop in self._groups():
            yield (start, stop, 0), self._packets(start, stop)

    def _decode(self, part: Part) -> Block:
        return self._packets(part.start, part.stop)

    def _packets(self, start: int, stop: int) -> Block:
        with tempfile.NamedTemporaryFile(suffix='.aedat4') as piece, self.path.open('rb') as file:
            file.seek(start)
            piece.write(self._header + file.read(stop - start))
            piece.flush()
            packets = [p['events'] for p in self._decoder(piece.name) if p['stream_id'] == self._stream and 'events' in p]
        names = ('t', 'x', 'y', 'p')
        if not packets:
            none = np.empty(0, np.int64)
            return none, none, none, none
        t, x, y, p = (np.concatenate([packet[name] for packet in packets]) for name in names)
        return t.astype(np.int64), x, y, p


def _table_position(header: bytes | bytearray, root: int) -> int | None:
    """The place of the position of the table of packets, the second field of the header's FlatBuffer; None without."""
    table = root + struct.unpack_from('<I', header, root)[0]
    vtable = table - struct.unpack_from('<i', header, table)[0]
    (size,) = struct.unpack_from('<H', header, vtable)
    offset = struct.unpack_from('<H', header, vtable + 6)[0] if size > 6 else 0
    return table + offset if offset else None
