"""The order of samples for neurons that keep their membrane: every place of a batch goes through recordings in time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info
from torch.utils.data import Sampler

from mmspike.registry import DATA_SAMPLERS
from mmspike.utils.errors import UserError


@DATA_SAMPLERS.register_module()
class StreamSampler(Sampler):
    """Indices in an order in which the i-th samples of successive batches follow each other in a recording.

    For data sets with ``samples='sequences'`` and neurons with ``stateful=True``; :class:`mmspike.SpikeResetHook` puts the
    membranes of a place to rest where a recording begins there. Recordings go to whichever place has had least; what would
    leave a batch incomplete is left out. Several processes share the recordings, each with ``batch_size`` places.

    Args:
        dataset: The data set, which mmengine gives.
        batch_size: That of the loader.
        shuffle: Another order of recordings in every epoch. Their windows stay in order.
        seed: Of the order.

    Raises:
        UserError: The data set has no sequences, or fewer than there are places.
    """

    def __init__(self, dataset: Any, batch_size: int, shuffle: bool = True, seed: int = 0) -> None:
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        if not infos or any('continues' not in info for info in infos):
            raise UserError("StreamSampler orders sequences: set samples='sequences' in the data set")
        begins = [i for i, info in enumerate(infos) if not info['continues']]
        if not begins or begins[0] != 0:
            raise UserError('StreamSampler got a part of a sequence: give the data set whole ones (no indices)')
        self.runs = [range(a, b) for a, b in zip(begins, [*begins[1:], len(infos)], strict=True)]
        self.rank, self.processes = get_dist_info()
        if len(self.runs) < batch_size * self.processes:
            raise UserError(
                f'StreamSampler has {len(self.runs)} sequences for {batch_size} places of a batch in {self.processes} '
                'process(es): set a smaller batch_size'
            )
        self.batch_size, self.shuffle, self.seed, self.epoch = batch_size, shuffle, seed, 0

    def _places(self) -> list[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.runs)) if self.shuffle else None
        places: list[list[int]] = [[] for _ in range(self.batch_size * self.processes)]
        for number in range(len(self.runs)) if order is None else order:
            min(places, key=len).extend(self.runs[number])
        return places

    def __iter__(self) -> Iterator[int]:
        places, first = self._places(), self.rank * self.batch_size
        for batch in zip(*places, strict=False):  # as many in every process
            yield from batch[first : first + self.batch_size]

    def __len__(self) -> int:
        return min(map(len, self._places())) * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """The epoch, which mmengine's loops tell."""
        self.epoch = epoch
