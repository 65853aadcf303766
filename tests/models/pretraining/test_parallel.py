"""The spike-masked autoencoder in two processes with DDP, beside an averaged copy that is used in between."""

import copy
import multiprocessing
import socket

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from torch.nn.parallel import DistributedDataParallel

from .test_spike_mae import autoencoder

FORK = multiprocessing.get_context('fork')
LR, STEPS = 0.1, 3
pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason='processes on the CPU')


def images(rank):
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(rank))


def _process(rank, port, out):
    torch.set_num_threads(1)
    address = f'tcp://127.0.0.1:{port}'
    torch.distributed.init_process_group('gloo', init_method=address, rank=rank, world_size=2)
    model = autoencoder()
    average = ExponentialMovingAverage(model, momentum=0.25)
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), LR)
    record = []
    for step in range(STEPS):
        torch.manual_seed(2 * step + rank)  # of the mask
        loss = parallel(images(rank), mode='loss')['loss']
        with torch.no_grad():  # another network, image and mask before the backward pass
            average(torch.randn(1, 3, 64, 32), mode='loss')
        optimizer.zero_grad()
        loss.backward()
        record.append((loss.item(), [p.grad.clone() for p in model.parameters()], copy.deepcopy(model.state_dict())))
        optimizer.step()
        average.update_parameters(model)
    torch.save((record, model.state_dict(), average.module.state_dict()), out / f'{rank}.pth')
    torch.distributed.barrier()  # nobody leaves while the other still talks to it
    torch.distributed.destroy_process_group()


def test_two_processes_and_an_averaged_copy(tmp_path):
    """Every step has the mean of the gradients that each process would have alone; the average is that of the weights."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [FORK.Process(target=_process, args=(rank, port, tmp_path)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    (record, weights, average), (other, other_weights, other_average) = (
        torch.load(tmp_path / f'{rank}.pth') for rank in (0, 1)
    )
    model = autoencoder()
    names = [name for name, _ in model.named_parameters()]
    for step in range(STEPS):
        assert record[step][0] != other[step][0]
        grads = []
        for rank, (loss, *_) in enumerate((record[step], other[step])):
            model.load_state_dict(record[step][2])
            model.zero_grad()
            torch.manual_seed(2 * step + rank)
            alone = model(images(rank), mode='loss')['loss']
            assert alone.item() == pytest.approx(loss, rel=1e-5)
            alone.backward()
            grads.append([p.grad.clone() for p in model.parameters()])
        for name, ours, others, a, b in zip(names, record[step][1], other[step][1], *grads, strict=True):
            assert torch.equal(ours, others), name
            assert (ours - (a + b) / 2).norm() <= 1e-4 * ours.norm() + 1e-6, name
    for name in names:
        assert torch.equal(weights[name], other_weights[name]) and torch.equal(average[name], other_average[name])
        first, second = (record[step][2][name] for step in (1, 2))  # after one and two steps
        expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * weights[name]
        torch.testing.assert_close(average[name], expected)
