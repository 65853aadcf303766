"""Checkpoint files are read without running what is in them."""

import argparse
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

import mmspike.registry  # noqa: F401  (whoever uses mmspike has this)
from mmspike.utils.checkpoint import read_checkpoint, without_wrappers
from mmspike.utils.errors import UserError


class Call:
    """Something whose loading calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def stranger(path):
    """A checkpoint that writes a file when it is loaded as pickles are, and what it would write."""
    mark = path.parent / 'executed'
    state = nn.Linear(2, 2).state_dict()
    torch.save(dict(state_dict=state, meta=Call(os.system, f'touch {mark}')), path)
    return mark


def test_code_is_refused_and_not_run(tmp_path):
    mark = stranger(tmp_path / 'x.pth')
    with pytest.raises(RuntimeError, match=r'x\.pth is refused: .*posix\.system.*If you trust.*weights_only=False'):
        read_checkpoint(str(tmp_path / 'x.pth'))
    # mmengine reads for runners, inferencers and init_cfg
    with pytest.raises(RuntimeError, match='is refused'):
        load_checkpoint(nn.Linear(2, 2), str(tmp_path / 'x.pth'), map_location='cpu')
    assert not mark.exists()
    # it would have been
    torch.load(tmp_path / 'x.pth', weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize(
    'item,named',
    [
        (nn.Linear(1, 1), 'torch.nn.modules.linear.Linear'),
        (argparse.Namespace(a=1), 'argparse.Namespace'),
        (Call(getattr, HistoryBuffer, '__init__'), 'builtins.getattr'),
        (Call(getattr, np.ndarray, 'tofile'), 'builtins.getattr'),
        (Call(eval, '1'), 'eval'),
    ],
)
def test_objects_are_named(tmp_path, item, named, legacy):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict={}, extra=item), path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(RuntimeError, match=f'is refused: besides tensors it holds {named}'):
        read_checkpoint(str(path))


def test_what_a_training_saves_is_read(tmp_path):
    log = HistoryBuffer()
    log.update(np.float32(0.5).item())
    log.update(0.25)
    saved = dict(
        state_dict=nn.Linear(2, 2).state_dict(),
        meta=dict(epoch=3, seed=1, dataset_meta=dict(classes=('a', 'b'))),
        message_hub=dict(log_scalars=dict(loss=log), runtime_info=dict(best=np.float64(0.5), shape=np.zeros(3, np.int32))),
        optimizer=torch.optim.AdamW(nn.Linear(2, 2).parameters()).state_dict(),
    )
    torch.save(saved, tmp_path / 'x.pth')
    read = read_checkpoint(str(tmp_path / 'x.pth'))
    assert read['message_hub']['log_scalars']['loss'].mean() == 0.375
    assert read['message_hub']['runtime_info']['best'] == 0.5 and read['meta'] == saved['meta']
    model = nn.Linear(2, 2)
    load_checkpoint(model, str(tmp_path / 'x.pth'), map_location='cpu', strict=True)
    assert torch.equal(model.weight, saved['state_dict']['weight'])


def test_broken_files(tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict=nn.Linear(64, 64).state_dict()), path)
    for missing, message in (
        (tmp_path / 'none.pth', rf'none\.pth does not exist; checkpoints in {tmp_path}: x\.pth'),
        (tmp_path / 'none' / 'x.pth', rf'x\.pth does not exist, nor does its folder {tmp_path}/none'),
        (tmp_path, rf'{tmp_path} is a folder; checkpoints in {tmp_path}: x\.pth'),
    ):
        with pytest.raises(FileNotFoundError, match=message):
            read_checkpoint(str(missing))
    whole = path.read_bytes()
    for content in (b'', b'not found', b'<!DOCTYPE html>', whole[: len(whole) // 2], whole[:-1], pickle.dumps([1, 2])[:3]):
        path.write_bytes(content)
        with pytest.raises(RuntimeError, match=rf'x\.pth \({len(content)} bytes\) cannot be read: .*older one'):
            read_checkpoint(str(path))


def test_a_file_of_anything_else_is_named(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / 'x.pth')
    with pytest.raises(UserError, match=r'x\.pth holds a list: expected a dict'):
        read_checkpoint(str(tmp_path / 'x.pth'))


def test_an_onnx_file_is_told_from_a_checkpoint(tmp_path):
    (tmp_path / 'model.onnx').write_bytes(b'\x08\x0a')
    with pytest.raises(UserError, match='model.onnx is an ONNX file, .*: here the checkpoint is needed'):
        read_checkpoint(str(tmp_path / 'model.onnx'))


def test_names_of_wrapped_models(tmp_path):
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.BatchNorm1d(2))
    bare = model.state_dict()
    compiled = nn.Sequential(torch.compile(model[0]), torch.compile(model[1]))
    wrapped = [
        {f'module.{key}': value for key, value in bare.items()},
        torch.compile(model).state_dict(),
        compiled.state_dict(),
        nn.ModuleDict(dict(module=torch.compile(model))).state_dict(),
    ]
    for state in wrapped:
        assert not set(state) <= set(bare)
        for content in (state, dict(state_dict=state, meta={})):
            torch.save(content, tmp_path / 'x.pth')
            fresh = nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.BatchNorm1d(2))
            load_checkpoint(fresh, str(tmp_path / 'x.pth'), map_location='cpu', strict=True)
            assert all(torch.equal(value, bare[key]) for key, value in fresh.state_dict().items())


def test_a_part_of_the_model_may_be_called_module(tmp_path):
    state = {'module.weight': torch.zeros(1), 'head.weight': torch.zeros(1)}
    assert without_wrappers(state) is state
    both = {'weight': torch.zeros(1), '_orig_mod.weight': torch.ones(1)}
    assert without_wrappers(both) is both
