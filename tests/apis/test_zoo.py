"""Configs by name, and the networks that come with weights."""

import shutil

import numpy as np
import pytest
import torch

from mmspike.apis import InputError, find_config, find_weights, inference, list_configs, list_weights
from mmspike.apis.zoo import shipped_checkpoint


def test_every_config_has_its_name(repo):
    files = [path for path in (repo / 'configs').rglob('*.py') if '_base_' not in path.parts]
    assert len(files) > 20
    assert sorted(list_configs().values()) == sorted(files)  # no name twice
    for path in files:
        assert find_config(path.stem) == find_config(path) == str(path)


def test_configs_of_hosts():
    pytest.importorskip('mmdet')
    assert find_config('mmdet::retinanet/retinanet_r50_fpn_1x_coco.py').endswith('retinanet_r50_fpn_1x_coco.py')


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        ('mask_rcnn_espike_nucleus', 'Nearest names: mask_rcnn_espike_nuclei,'),
        ('configs/espike_cifar100.py', 'Nearest names: espike_cifar10'),
        ('xyz', 'Names: .*espike_cifar10'),
        ('mmdet::no/such.py', 'mmdet has no no/such.py'),
        ('', 'Names: '),
    ],
)
def test_wrong_names(wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_config(wrong)


@pytest.mark.parametrize('name', sorted(list_weights()))
def test_a_network_with_its_weights(name):
    """Nothing but the name is needed, and the weights are those of the file."""
    pytest.importorskip('mmdet')
    infer = inference(name, device='cpu')
    stored = torch.load(find_weights(name), weights_only=True)
    weights = infer.model.state_dict()
    assert weights.keys() == stored['state_dict'].keys()
    assert all(torch.equal(weights[key], value.to(weights[key].dtype)) for key, value in stored['state_dict'].items())
    assert infer.classes == list(stored['meta']['dataset_meta']['classes'])
    result = infer(np.zeros((64, 96, 3), np.uint8), show_progress=False)[0]
    assert result['size'] == [96, 64] and len(result['scores']) == len(result['bboxes'])


def test_which_configs_come_with_weights(tmp_path):
    path = find_config('spikeyolo_nuclei')
    assert shipped_checkpoint('spikeyolo_nuclei') == shipped_checkpoint(path) == 'mmspike://spikeyolo_nuclei'
    with pytest.raises(InputError, match="'espike_cifar10' comes without trained weights.*spikeyolo_nuclei"):
        inference('espike_cifar10')
    copy = shutil.copy(path, tmp_path)  # of one's own: it can be another network
    with pytest.raises(InputError, match='comes without trained weights'):
        shipped_checkpoint(copy)
    with pytest.raises(InputError, match='Nearest names: spikeyolo_nuclei'):
        shipped_checkpoint('spikeyolo_nucleus')
