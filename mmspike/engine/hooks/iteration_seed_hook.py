"""Random numbers that depend on the iteration alone, so that a resumed training draws them as one that ran through."""

import random
from functools import partial

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import IterBasedTrainLoop, Runner

from mmspike.registry import HOOKS

MODEL, DATA = 0, 1  # two streams, so that dropout and augmentation of one iteration are not drawn from the same numbers


def iteration_seed(seed: int, rank: int, stream: int, iteration: int) -> int:
    """A 32-bit seed that is a pure function of its arguments; neighbouring arguments give unrelated seeds."""
    return int(np.random.SeedSequence((seed, rank, stream, iteration)).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed the global generators of random, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class _Batch(list):
    """Sample indices of one batch with the seed under which they are to be loaded."""

    seed: int


class _SeededBatchSampler:
    """Passes on the batches of ``batch_sampler``, numbered by the iteration in which they will be used.

    Numbering happens where batches are drawn, in the main process: it holds whatever the workers prefetch.
    """

    def __init__(self, batch_sampler, seed: int, rank: int):
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.rank = rank
        self.iteration = 0

    def __iter__(self):
        for indices in self.batch_sampler:
            batch = _Batch(indices)
            batch.seed = iteration_seed(self.seed, self.rank, DATA, self.iteration)
            self.iteration += 1
            yield batch

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name):
        return getattr(self.__dict__['batch_sampler'], name)


def _load_batch(dataset, load_items, batch: _Batch) -> list:
    seed_everything(batch.seed)
    return load_items(batch) if load_items is not None else [dataset[index] for index in batch]


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Makes all randomness of a training iteration a pure function of (seed, rank, iteration).

    A training that is resumed from a checkpoint then repeats, bit for bit on the CPU, what an uninterrupted one computes:
    mmengine saves weights, optimizer and schedulers but no generator state, and the augmentations of a worker depend on
    all batches that it has loaded before. It holds for ``EpochBasedTrainLoop`` and ``IterBasedTrainLoop``, for any number
    of workers, persistent or not, and whether or not validation runs in between.

    Not covered: transforms that remember earlier samples (mmdet's ``CachedMosaic``, ``CachedMixUp``), gradients that are
    accumulated across a checkpoint (let the checkpoint interval be a multiple of ``accumulative_counts``), and
    ``fast_forward_on_resume=True``.
    """

    # first of all hooks: what others draw in before_train_iter is covered as well
    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if loader.batch_sampler is None:
            raise ValueError(
                'IterationSeedHook needs a train_dataloader that loads batches by index, got batch_size=None: give '
                'train_dataloader a batch_size or remove the hook from custom_hooks'
            )
        self._batches = _SeededBatchSampler(loader.batch_sampler, runner.seed, runner.rank)
        # DataLoader refuses to exchange its sampler because its batch_size could then lie; here both stay what they were
        object.__setattr__(loader, 'batch_sampler', self._batches)
        # __getitems__ is what DataLoader calls, in the worker, with a whole batch of indices
        dataset = loader.dataset
        dataset.__getitems__ = partial(_load_batch, dataset, getattr(dataset, '__getitems__', None))

    def before_train_epoch(self, runner: Runner) -> None:
        seed_everything(iteration_seed(runner.seed, runner.rank, MODEL, runner.iter))
        # A resumed IterBasedTrainLoop fast-forwards a sampler that has `skip`, past our numbering; any other sampler it
        # advances batch by batch, which counts them.
        counted_by_loop = isinstance(runner.train_loop, IterBasedTrainLoop) and not hasattr(
            runner.train_dataloader.sampler, 'skip'
        )
        self._batches.iteration = 0 if counted_by_loop else runner.iter

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: DATA_BATCH = None) -> None:
        seed_everything(iteration_seed(runner.seed, runner.rank, MODEL, runner.iter))
