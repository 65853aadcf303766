"""Files of Prophesee's cameras: ``.dat``, and ``.raw`` in EVT 2.0 and EVT 3.0.

Facts of the formats: docs.prophesee.ai, "File formats" and "Data encoding formats".
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .recording import Block
from .stream import BLOCK, EventStream, MissingPackage, Part, Unwrapped


def read_header(path: Path) -> tuple[dict[str, str], int]:
    """The fields of a header's lines, which begin with ``%``, by their lower-case names, and where the header ends."""
    fields: dict[str, str] = {}
    with path.open('rb') as file:
        position = 0
        while (line := file.readline(4096)).startswith(b'%') and line.endswith(b'\n'):
            position = file.tell()
            name, _, value = line[1:].decode('latin-1').strip().partition(' ')
            fields[name.lower()] = value.strip()
            if name.lower() == 'end':
                break
    return fields, position


def _size(fields: dict[str, str], height: str, width: str) -> tuple[int, int] | None:
    text = [fields.get(height, ''), fields.get(width, '')]
    return (int(text[0]), int(text[1])) if all(re.fullmatch('[1-9][0-9]*', t) for t in text) else None


class DatStream(EventStream):
    """``.dat``: 8 bytes an event, time u32 in us, then x14 y14 p4.

    Only a step back of more than half the clock's 2^32 us is a new beginning: an event that comes some us late stays where it
    is, which packages are known to take for one (see ``findings/dat_step_back.sh``).
    """

    RECORD = np.dtype([('t', '<u4'), ('word', '<u4')])

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        fields, offset = read_header(self.path)
        self.sensor_size = _size(fields, 'height', 'width')
        length = self.path.stat().st_size
        if offset:
            with self.path.open('rb') as file:
                file.seek(offset)
                event_type = file.read(2)
            if len(event_type) < 2 or event_type[0] not in (0, 12) or event_type[1] != 8:
                raise ValueError(
                    f'behind its header stand the bytes {list(event_type)}: expected the type of event, 0 or 12 (changes of '
                    'contrast), and their size, 8'
                )
            offset += 2
        if (length - offset) % self.RECORD.itemsize:
            raise ValueError(f'{length - offset} bytes of events are no whole number of events of 8 bytes: it is cut off')
        empty = np.empty(0, self.RECORD)
        self._records = np.memmap(self.path, self.RECORD, 'r', offset) if length > offset else empty

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        clock = Unwrapped(2**32)
        for start in range(0, len(self._records), BLOCK):
            block = self._records[start : start + BLOCK]
            before = clock.added
            t = clock(block['t'])
            # blocks in which the clock begins anew are decoded with the steps inside them
            yield (start, start + len(block), before), (t, *_pixels(block['word']))

    def _decode(self, part: Part) -> Block:
        block = self._records[part.start : part.stop]
        clock = Unwrapped(2**32)
        clock.added = part.state
        if part.start:
            clock.last = int(self._records['t'][part.start - 1])
        return (clock(block['t']), *_pixels(block['word']))

    def close(self) -> None:
        self._records = np.empty(0, self.RECORD)


def _pixels(words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    words = np.ascontiguousarray(words)
    return (words & 0x3FFF).astype(np.int16), (words >> 14 & 0x3FFF).astype(np.int16), (words >> 28 & 1).astype(bool)


def raw_format(path: Path) -> tuple[str, tuple[int, int] | None, int]:
    """'2' or '3' for EVT 2.0 and 3.0, height and width where the header has them, and where it ends.

    Raises:
        ValueError: The header names another format, or none.
    """
    fields, offset = read_header(path)
    pairs = dict(pair.split('=', 1) for pair in fields.get('format', '').split(';') if '=' in pair)
    found = fields.get('format', '').split(';')[0].upper().removeprefix('EVT') or fields.get('evt', '')
    size = _size(pairs, 'height', 'width')
    if size is None and (match := re.fullmatch(r'(\d+)x(\d+)', fields.get('geometry', ''))):
        size = int(match[2]), int(match[1])
    version = {'2': '2', '2.0': '2', '3': '3', '3.0': '3'}.get(found)
    if version is None:
        raise ValueError(
            f'its header names the format {found or "nowhere"}: EVT 2.0 and 3.0 are read. Convert it with '
            "Prophesee's metavision_file_to_dat"
        )
    return version, size, offset


# types of words: of events, times, triggers and what belongs to them
EVT2_CODES = (0x0, 0x1, 0x8, 0xA, 0xE, 0xF)
EVT3_CODES = (0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF)


def _check_words(path: Path, offset: int, word: str, shift: int, codes: tuple[int, ...]) -> None:
    """ValueError if more than a hundredth of a file's first words have types that its format lacks."""
    first = np.fromfile(path, word, 2**14, offset=offset)
    unknown = int((~np.isin(first >> shift, codes)).sum())
    if unknown > len(first) // 100:
        raise ValueError(
            f'{unknown} of its first {len(first)} words are of types that the format in its header does not have: its events '
            'are in another format, so the header is wrong'
        )


class Evt2Stream(EventStream):
    """EVT 2.0: words of 32 bits; a word of type 8 has the upper 28 bits of the time, an event the lower 6."""

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        _, self.sensor_size, offset = raw_format(self.path)
        length = self.path.stat().st_size - offset
        if length % 4:
            raise ValueError(f'{length} bytes of events are no whole number of words of 4 bytes: it is cut off')
        _check_words(self.path, offset, '<u4', 28, EVT2_CODES)
        self._words = np.memmap(self.path, '<u4', 'r', offset) if length else np.empty(0, np.uint32)

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        state = -1  # the upper bits of the time that the last block ended with, -1 before the first
        for start in range(0, len(self._words), BLOCK):
            stop = min(start + BLOCK, len(self._words))
            block, after = self._events(start, stop, state)
            yield (start, stop, state), block
            state = after

    def _decode(self, part: Part) -> Block:
        return self._events(part.start, part.stop, part.state)[0]

    def _events(self, start: int, stop: int, state: int) -> tuple[Block, int]:
        words = np.asarray(self._words[start:stop])
        codes = words >> 28
        at = np.flatnonzero(codes == 8)
        highs = Unwrapped(2**28)
        if state >= 0:
            highs.last, highs.added = state & (2**28 - 1), state & ~(2**28 - 1)
        high = np.concatenate([[state], highs(words[at] & (2**28 - 1))])
        base = np.repeat(high, np.diff(at, prepend=0, append=len(words)))
        is_event = (codes <= 1) & (base >= 0)
        events, base = words[is_event], base[is_event]
        t = base << 6 | (events >> 22 & 63)
        x, y = (events >> 11 & 0x7FF).astype(np.int16), (events & 0x7FF).astype(np.int16)
        return (t, x, y, events >> 28 == 1), int(high[-1])

    def close(self) -> None:
        self._words = np.empty(0, np.uint32)


class Evt3Stream(EventStream):
    """EVT 3.0, by the package evt3, which decodes bytes from the beginning.

    A block in the middle of a file is decoded behind the one before it, so that row and time are known; its times are those
    that the pass over the file saw.
    """

    CHUNK = 2**18  # bytes

    def __init__(self, path: str | Path, index: np.ndarray | None = None) -> None:
        super().__init__(path, index)
        version, self.sensor_size, self._offset = raw_format(self.path)
        if version != '3':
            raise ValueError('its header names EVT 2.0')
        try:
            import evt3
        except ImportError:
            raise MissingPackage(f'{self.path} is in EVT 3.0: pip install evt3') from None
        self._decoder = evt3.Decoder
        self._running, self._at = evt3.Decoder(), -1  # a decoder, and what it would decode next
        self._length = self.path.stat().st_size - self._offset
        if self._length % 2:
            raise ValueError(f'{self._length} bytes of events are no whole number of words of 2 bytes: it is cut off')
        _check_words(self.path, self._offset, '<u2', 12, EVT3_CODES)

    def _bytes(self, start: int, stop: int) -> bytes:
        with self.path.open('rb') as file:
            file.seek(self._offset + start)
            return file.read(stop - start)

    def _read(self) -> Iterator[tuple[tuple[int, int, int], Block]]:
        decoder = self._decoder()
        for start in range(0, self._length, self.CHUNK):
            stop = min(start + self.CHUNK, self._length)
            block = _fields(decoder.feed(self._bytes(start, stop)))
            yield (start, stop, int(block[0][-1]) if len(block[0]) else 0), block

    def _decode(self, part: Part) -> Block:
        data, before = self._bytes(part.start, part.stop), self.CHUNK
        if part.start == self._at:
            t, x, y, p = _fields(self._running.feed(data))
        else:
            while True:
                start = max(part.start - before, 0)
                self._running = self._decoder()
                self._running.feed(self._bytes(start, part.start))
                t, x, y, p = _fields(self._running.feed(data))
                if len(t) == part.number or not start:
                    break
                before *= 8  # nothing said the row or the time for so long
        self._at = part.stop
        if len(t) != part.number:
            raise ValueError(f'bytes {part.start} to {part.stop} hold {len(t)} events, {part.number} when it was read first')
        # the decoder counts from the first beginning that it saw
        return t + (part.state - int(t[-1])), x, y, p


def _fields(events: Any) -> Block:
    return events.timestamp.astype(np.int64), events.x, events.y, events.polarity.astype(bool)


def open_raw(path: str | Path, index: np.ndarray | None = None) -> EventStream:
    """The stream of a ``.raw`` file, by what its header says."""
    return (Evt2Stream if raw_format(Path(path))[0] == '2' else Evt3Stream)(path, index)
