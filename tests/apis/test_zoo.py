"""Configs by name."""

import pytest

from mmspike.apis import InputError, find_config, list_configs


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
