"""Results of a data check: findings that stop a run or warn, counts in a table, and how much was looked at."""

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prettytable import PrettyTable

SAMPLE = 200  # files that are opened of each data set
SHOWN = 20  # findings of one sort that are printed


@dataclass(frozen=True)
class Finding:
    """Something that does not fit.

    Attributes:
        place: Key of the config, or the file.
        text: The value, what was expected, and what to do.
        stops: An error, which stops a run; else a doubt, which warns.
    """

    place: str
    text: str
    stops: bool = True

    def __str__(self) -> str:
        return f'{self.place}: {self.text}'


@dataclass
class Tally:
    """Faults of single files or annotations, counted by their kind: one finding for each kind, with the first case."""

    counts: dict[Hashable, int] = field(default_factory=dict)
    first: dict[Hashable, str] = field(default_factory=dict)

    def add(self, kind: Hashable, text: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.first.setdefault(kind, text)

    def texts(self, things: str) -> list[str]:
        """For each kind the first case, and how many more ``things`` there are."""
        more = {kind: count - 1 for kind, count in self.counts.items()}
        return [f'{text} (and {more[kind]} {things} more)' if more[kind] else text for kind, text in self.first.items()]


class Clock:
    """Time that a check may take; what cannot be looked at in it is left out, and that is said.

    Args:
        seconds: From now on, for the files of all data sets together.
        every: All files are looked at, as far as the time goes, instead of a sample.
    """

    def __init__(self, seconds: float, every: bool = False) -> None:
        self.end = time.monotonic() + seconds
        self.every = every

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The time of the body does not count: it reads a file that is needed whole."""
        start = time.monotonic()
        yield
        self.end += time.monotonic() - start

    def sample(self, items: Sequence, most: int | None = None) -> 'Sample':
        """``most`` of the items (by default ``SAMPLE``), or all of them."""
        return Sample(items, len(items) if self.every else most or SAMPLE, self.end)


class Sample:
    """Evenly spaced items of a sequence, always the same ones; fewer if the time is up, but four at least.

    They come in an order in which the first ones are evenly spaced, too. ``seen`` says how many were given out.
    """

    def __init__(self, items: Sequence, most: int, end: float) -> None:
        self.items = items
        self.end = end
        chosen = sorted({int((i + 0.5) * len(items) / most) for i in range(most)}) if most < len(items) else range(len(items))
        bits = max(len(chosen) - 1, 1).bit_length()
        self.order = sorted(range(len(chosen)), key=lambda i: int(f'{i:0{bits}b}'[::-1], 2))
        self.chosen = chosen
        self.seen = 0

    def __iter__(self) -> Iterator[Any]:
        for i in self.order:
            if self.seen >= 4 and time.monotonic() > self.end:
                return
            self.seen += 1
            yield self.items[self.chosen[i]]

    @property
    def complete(self) -> bool:
        return self.seen == len(self.items)

    def share(self, things: str) -> str:
        """Such as '200 of 5000 images'."""
        return f'{self.seen} of {len(self.items)} {things}'


@dataclass
class Report:
    """The result of a check: its findings and a row of counts for each data set. ``str()`` is what is printed."""

    findings: list[Finding] = field(default_factory=list)
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def stop(self, place: str, text: str) -> None:
        self._add(Finding(place, text))

    def doubt(self, place: str, text: str) -> None:
        self._add(Finding(place, text, stops=False))

    def add(self, place: str, stops: bool, text: str) -> None:
        """An error if it ``stops``, else a doubt."""
        (self.stop if stops else self.doubt)(place, text)

    def tally(self, place: str, faults: Tally, things: str, stops: bool = True) -> None:
        """A finding for each kind of fault, see :meth:`Tally.texts`."""
        for text in faults.texts(things):
            self.add(place, stops, text)

    def _add(self, finding: Finding) -> None:
        if finding not in self.findings:
            self.findings.append(finding)

    def row(self, place: str, type_name: str, counts: str, seen: str) -> None:
        self.rows.append((place, type_name, counts, seen))

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.stops]

    @property
    def doubts(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.stops]

    def __str__(self) -> str:
        table = PrettyTable(['data', 'type', 'counts', 'looked at'], align='l')
        table.border = False
        table.left_padding_width = 0
        table.max_width['counts'] = table.max_width['looked at'] = 60
        table.add_rows([list(row) for row in self.rows])
        lines = [f'Data check ({self.seconds:.1f} s):', table.get_string()] if self.rows else ['Data check:']
        for name, findings in (('error', self.errors), ('doubt', self.doubts)):
            lines += [f'  {name}: {finding}' for finding in findings[:SHOWN]]
            if len(findings) > SHOWN:
                lines.append(f'  … and {len(findings) - SHOWN} more of these')
        if not self.findings:
            unseen = any(counts == 'not checked' for _, _, counts, _ in self.rows)
            lines.append('  nothing found that does not fit' + (', in what was looked at' if unseen else ''))
        return '\n'.join(line.rstrip() for line in lines)
