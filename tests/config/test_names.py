"""Config files that inherit from the hosts' configs by name."""

import re

import pytest
from mmengine.config.utils import MODULE2PACKAGE

from mmspike.config.names import config_path, read_file
from mmspike.utils.errors import UserError

BASES = dict(
    mmdet='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py',
    mmseg='mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
    mmpretrain='mmpretrain::resnet/resnet18_8xb32_in1k.py',
)


@pytest.fixture
def inherit(tmp_path):
    """Writes a config that inherits from ``base``."""

    def write(base: str) -> str:
        path = tmp_path / 'config.py'
        path.write_text(f'_base_ = {base!r}\nwork_dir = "mine"\n')
        return str(path)

    return write


@pytest.mark.parametrize('host', BASES)
def test_base_of_a_host(host, inherit):
    pytest.importorskip(host)
    before = dict(MODULE2PACKAGE)
    cfg = read_file(inherit(BASES[host]))
    assert cfg.default_scope == host and cfg.work_dir == 'mine' and cfg.model.backbone.type.startswith('ResNet')
    assert before == MODULE2PACKAGE, 'a table of mmengine stays changed'


@pytest.mark.parametrize(
    'name, near',
    [
        ('configs/mask_rcnn_espike_nucli.py', 'configs/mask_rcnn_espike_nuclei.py'),
        ('mmdet::retinanet/retinanet_r50_fpn_1xcoco.py', 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'),
        ('mmdet::retinnet/retinanet_r50_fpn_1x_coco.py', 'mmdet::retinanet'),
    ],
)
def test_nearest_config_is_named(repo, monkeypatch, name, near):
    pytest.importorskip('mmdet')
    monkeypatch.chdir(repo)
    with pytest.raises(UserError, match=re.escape(f'. Did you mean {near}?')):
        config_path(name)
    with pytest.raises(UserError, match='config elsewhere/nothing.py does not exist$'):
        config_path('elsewhere/nothing.py')


def test_base_that_does_not_exist(inherit):
    path = inherit('other.py')
    with pytest.raises(UserError, match=f'config {path}: .*other.py does not exist'):
        read_file(path)


def test_base_of_a_host_that_is_not_installed(inherit, monkeypatch):
    monkeypatch.setattr('mmengine.config.config.is_installed', lambda package: package != 'mmseg')
    before = dict(MODULE2PACKAGE)
    path = inherit(BASES['mmseg'])
    message = f'config {path} inherits from a config of mmseg, which is not installed: pip install onedl-mmsegmentation'
    with pytest.raises(UserError, match=message):
        read_file(path)
    assert before == MODULE2PACKAGE


def test_missing_module_of_ones_own_is_no_missing_host(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("value = __import__('nowhere')\n")
    with pytest.raises(ModuleNotFoundError, match='nowhere'):
        read_file(str(path))


@pytest.mark.parametrize('name', ['configs/mask_rcnn_metaspike_coco.py', 'mmspike::mask_rcnn_metaspike_coco.py'])
def test_configs_that_mmspike_carries_are_found_outside_a_clone(repo, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert config_path(name) == str(repo / 'configs' / 'mask_rcnn_metaspike_coco.py')
    (tmp_path / 'configs').mkdir()
    with pytest.raises(UserError, match='config configs/mask_rcnn_metaspike_cocoa.py does not exist'):
        config_path('configs/mask_rcnn_metaspike_cocoa.py')
