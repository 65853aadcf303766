"""A recording in numbers."""

from dataclasses import dataclass

import numpy as np

from .recording import unreadable
from .stream import ENDLESS, EventStream


@dataclass(frozen=True)
class Summary:
    """A recording in numbers; its text is a table.

    Attributes:
        sensor_size: Height and width in px that the file states, or None.
        extent: Height and width up to the last row and column with an event.
        count: Events.
        span: Times of the first and last event, in us.
        on: Share of ON events.
        late: Events that come after one of a later time.
        busiest: Row and column of the pixel with most events, and their number.
    """

    path: str
    sensor_size: tuple[int, int] | None
    extent: tuple[int, int]
    count: int
    span: tuple[int, int]
    on: float
    late: int
    busiest: tuple[int, int, int]

    @property
    def seconds(self) -> float:
        return (self.span[1] - self.span[0]) / 1e6

    def __str__(self) -> str:
        size = 'not stated in the file' if self.sensor_size is None else f'{self.sensor_size[0]} x {self.sensor_size[1]} px'
        rate = f', {self.count / self.seconds / 1e6:.3g} million a second' if self.seconds else ''
        row, column, most = self.busiest
        return '\n'.join(
            [
                self.path,
                f'  sensor     {size} (height x width); events up to row {self.extent[0] - 1}, column {self.extent[1] - 1}',
                f'  events     {self.count}{rate}',
                f'  times      {self.span[0]} to {self.span[1]} us: {self.seconds:.6g} s; {self.late} out of order',
                f'  polarity   {self.on:.1%} ON',
                f'  busiest    pixel at row {row}, column {column}: {most} events, {most / self.count:.2%} of all',
            ]
        )


def summarise(stream: EventStream) -> Summary:
    """Read a recording once, block by block.

    Raises:
        RecordingError: (a ValueError) It has no events, or is broken.
    """
    counts: np.ndarray = np.zeros((0, 0), np.int64)
    count = on = late = 0
    first, before = ENDLESS, -ENDLESS
    for t, events in stream.stored():
        late += int((t < np.maximum.accumulate(np.maximum(t, before))).sum())
        first, before = min(first, int(t.min())), max(before, int(t.max()))
        shape = int(events['y'].max()) + 1, int(events['x'].max()) + 1
        grow = [(0, max(n - m, 0)) for n, m in zip(shape, counts.shape, strict=True)]
        counts = np.pad(counts, grow)
        np.add.at(counts, (events['y'], events['x']), 1)
        count, on = count + len(events), on + int(events['p'].sum())
    if not count:
        raise unreadable(stream.path, 'it has no events')
    row, column = divmod(int(np.argmax(counts)), counts.shape[1])
    return Summary(
        path=str(stream.path),
        sensor_size=stream.sensor_size,
        extent=(counts.shape[0], counts.shape[1]),
        count=count,
        span=(first, before),
        on=on / count,
        late=late,
        busiest=(row, column, int(counts.max())),
    )
