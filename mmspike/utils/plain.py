"""Values as they are written into checkpoints: plain ones, that can be read without running code."""

import datetime
import enum
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePath
from typing import Any
from uuid import UUID

import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

from .checkpoint import is_readable
from .errors import UserError

#: kept as they are; what derives from one of them is written as that
PLAIN: tuple[Any, ...] = (int, float, complex, str, bytes)
#: written as their text
TEXTS = (PurePath, datetime.date, datetime.time, datetime.timedelta, Decimal, Fraction, UUID)


def plain_values(value: Any, where: str) -> Any:
    """``value`` in types that :func:`mmspike.utils.checkpoint.read_checkpoint` reads; what is plain stays the same object.

    Mappings (a ConfigDict, …) become dicts, other sequences lists or tuples, sets sets, members of an enum their values, dates,
    times, paths and decimals their text (a date in ISO format). Tensors, NumPy values and mmengine's logs stay.

    Args:
        where: The name of ``value`` in messages, such as 'meta.dataset_meta'.

    Raises:
        UserError: Something in it is of a type that can be read by running code only; the text names its place and the type.

    Example:
        >>> from pathlib import Path
        >>> plain_values(dict(day=datetime.date(2024, 5, 1), files=(Path('a.png'),)), 'metainfo')
        {'day': '2024-05-01', 'files': ('a.png',)}
    """
    cls = type(value)
    if value is None or cls in (bool, torch.Size, *PLAIN) or isinstance(value, Tensor):
        return value
    if isinstance(value, enum.Enum):
        return plain_values(value.value, where)
    if isinstance(value, Mapping):
        plain = {plain_values(k, f'a key of {where}'): plain_values(v, f'{where}.{k}') for k, v in value.items()}
        kept = cls in (dict, OrderedDict, Counter) and _same([*plain, *plain.values()], [*value, *value.values()])
        return value if kept else plain
    if isinstance(value, list | tuple):
        elements = [plain_values(element, f'{where}[{i}]') for i, element in enumerate(value)]
        if cls in (list, tuple) and _same(elements, value):
            return value
        return tuple(elements) if isinstance(value, tuple) else elements
    if isinstance(value, Set):
        return {plain_values(element, f'an element of {where}') for element in value}
    if isinstance(value, range | deque):
        return plain_values(list(value), where)
    if isinstance(value, TEXTS):
        return value.isoformat() if hasattr(value, 'isoformat') else str(value)
    if is_readable(value):
        return value
    if isinstance(value, HistoryBuffer):
        return _Log(value)
    for base in PLAIN:
        if isinstance(value, base):
            return base(value)
    raise UserError(
        f'{where} is of type {cls.__module__}.{cls.__qualname__}. A checkpoint that holds it could be read only by running '
        'code from the file, which is refused, so it is not saved. Put plain values there: numbers, text, lists, dicts, dates, '
        "paths, NumPy arrays or tensors; a hook's message_hub.update_info(..., resumed=False) stays out of checkpoints"
    )


class _Log:
    """A log without the statistics that were registered for all logs: saved and read as one, it has those of its reader."""

    def __init__(self, log: HistoryBuffer) -> None:
        self.state = {key: value for key, value in vars(log).items() if key != 'statistics_methods'}

    def __reduce__(self) -> tuple:
        return HistoryBuffer, (), self.state


def _same(one: Sequence, other: Sequence) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
