"""The weights that come with the package: whole, small, and of the networks whose names they bear."""

import dataclasses
import hashlib
import json

import pytest
import torch

from mmspike.utils import weights
from mmspike.utils.checkpoint import read_checkpoint
from mmspike.utils.errors import UserError
from mmspike.utils.weights import FOLDER, find_weights, list_weights


def test_every_file_is_listed_with_its_hash():
    files = {path.name for path in FOLDER.iterdir()} - {'index.json'}
    assert files == {entry.file for entry in list_weights().values()}
    for name, entry in list_weights().items():
        content = entry.path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert digest == entry.sha256 and entry.file == f'{name}-{digest[:8]}.pth'
        assert len(content) <= 6e6
        assert find_weights(name) == find_weights(f'mmspike://{name}') == entry.path
    assert sum(entry.path.stat().st_size for entry in list_weights().values()) < 15e6


@pytest.mark.parametrize('name', sorted(list_weights()))
def test_content(name):
    """Plain data: weights in float16, norms in float32, classes, and no folder of the machine that trained."""
    content = torch.load(list_weights()[name].path, weights_only=True)
    meta = content['meta']
    assert meta['dataset_meta']['classes'] and meta['seed'] == list_weights()[name].seed
    for word in ('/work', '/home', '/root', '/tmp', 'load_from'):
        assert word not in json.dumps(meta), word
    for key, value in content['state_dict'].items():
        if value.is_floating_point():
            assert value.dtype == (torch.float16 if value.dim() > 1 else torch.float32), key
            assert torch.isfinite(value).all(), key


def test_unknown_name():
    with pytest.raises(UserError, match="'spikeyolo_nucleus'; those that do: .*Did you mean spikeyolo_nuclei?"):
        find_weights('spikeyolo_nucleus')
    with pytest.raises(UserError, match="'xyz'.*Give a checkpoint of your own"):
        find_weights('mmspike://xyz')


def test_damaged_file(tmp_path, monkeypatch):
    name = 'spikeyolo_nuclei'
    entry = list_weights()[name]
    monkeypatch.setattr(weights, 'FOLDER', tmp_path)
    monkeypatch.setattr(weights, 'list_weights', lambda: {name: dataclasses.replace(entry)})
    find = find_weights.__wrapped__  # without the cache
    with pytest.raises(UserError, match='is missing: install mmspike again'):
        find(name)
    (tmp_path / entry.file).write_bytes(b'cut off')
    with pytest.raises(UserError, match=f'has the SHA-256 [0-9a-f]{{64}}, expected {entry.sha256}'):
        find(name)


def test_wherever_a_checkpoint_is_asked_for():
    from mmengine.runner.checkpoint import CheckpointLoader

    name = 'spikeyolo_nuclei'
    loaded = CheckpointLoader.load_checkpoint(f'mmspike://{name}', map_location='cpu', logger='silent')
    given = read_checkpoint(str(list_weights()[name].path))
    assert loaded['state_dict'].keys() == given['state_dict'].keys()
    assert all(torch.equal(value, given['state_dict'][key]) for key, value in loaded['state_dict'].items())
