"""Work that PyTorch does not dispatch shows in what it leaves behind: values in memory that nothing seen has written."""

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from .op_tables import CATEGORY, MOVES

EMPTY = frozenset('empty empty_like empty_permuted empty_strided new_empty new_empty_strided'.split())
ZEROS = frozenset('zeros zeros_like new_zeros'.split())


def _tensors(x: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(x) if isinstance(leaf, Tensor) and leaf.layout == torch.strided and leaf.numel()]


def _memory(x: Tensor) -> int:
    return x.untyped_storage()._cdata


class Blanks:
    """Memory that was handed out empty or as zeros and that no operation has written since.

    A kernel that is called past PyTorch's dispatcher (an extension, ctypes, CuPy, NumPy) writes its result there.
    """

    def __init__(self) -> None:
        self._zeros: dict[int, bool] = {}  # by memory: whether it holds zeros, and not just anything

    def see(self, name: str, schema: torch.FunctionSchema, args: tuple, kwargs: dict, out: object) -> list[Tensor]:
        """Follow an operation that ran. Returns those of its inputs that have values which no operation wrote.

        Args:
            name: Of the operation, as in the tables.
            schema, args, kwargs, out: Its own.
        """
        results = _tensors(out)
        if name in EMPTY or name in ZEROS:
            self._zeros.update((_memory(x), name in ZEROS) for x in results)
            return []
        written, read = self._written_and_read(name, schema, args, kwargs)
        if name == 'zero':
            self._zeros.update((_memory(x), True) for x in written if _memory(x) in self._zeros)
            return []
        views = set() if schema.is_mutable else {_memory(x) for x in results}  # a view reads nothing yet
        changed = {_memory(x) for x in written}
        found = [x for x in read if _memory(x) not in views and self._was_filled(x, _memory(x) in changed)]
        inputs = {_memory(x) for x in read}
        # new memory may lie where blank memory was freed
        self.wrote([*written, *found, *(x for x in results if _memory(x) not in inputs)])
        return found

    def wrote(self, tensors: list[Tensor]) -> None:
        """These have values now."""
        if self._zeros:
            for x in tensors:
                if x.layout == torch.strided:
                    self._zeros.pop(_memory(x), None)

    def _was_filled(self, x: Tensor, changed: bool) -> bool:
        """True if ``x`` had values of unknown descent before an operation that has ``changed`` it, or not."""
        zeros = self._zeros.get(_memory(x))
        if zeros is None or not zeros:
            return zeros is not None
        return not changed and bool(x.any())  # of zeros that were changed by now it cannot be told

    def _written_and_read(self, name: str, schema, args: tuple, kwargs: dict) -> tuple[list[Tensor], list[Tensor]]:
        if not self._zeros:
            return [], []
        if not schema.is_mutable:
            return [], _tensors((args, kwargs))
        written, read = [], []
        values = {a.name: v for a, v in zip(schema.arguments, args, strict=False)} | kwargs
        for argument in schema.arguments:
            tensors = _tensors(values.get(argument.name))
            if argument.alias_info is None or not argument.alias_info.is_write:
                read += tensors
                continue
            written += tensors
            if not argument.kwarg_only and name in CATEGORY and name not in MOVES:  # x.mul_(y) reads x, x.copy_(y) does not
                read += tensors
        return written, read
