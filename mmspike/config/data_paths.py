"""The paths of a config's data: move them to another directory, check that they are there."""

import os
import os.path as osp
from collections.abc import Callable, Iterator
from copy import deepcopy

from mmengine.config import Config

from mmspike.utils.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
EVALUATORS = ('val_evaluator', 'test_evaluator')

# dataset type, without scope -> where its data come from
SOURCES = dict(
    CocoDataset='COCO 2017: from https://cocodataset.org get train2017.zip, val2017.zip and annotations_trainval2017.zip and '
    'unpack them side by side, so that the directory holds train2017/, val2017/ and annotations/; '
    'tools/dataset_converters/coco.py DIR does it',
    ADE20KDataset='ADE20K: from http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip, unpacked; '
    'tools/dataset_converters/ade20k.py DIR does it',
    PascalVOCDataset='PASCAL VOC 2012: from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ get VOCtrainval_11-May-2012.tar, '
    'unpacked; the directory is its VOC2012/',
    ImageNet='ImageNet-1k: from https://image-net.org (needs an account), as train/ and val/; '
    'tools/dataset_converters/imagenet.py DIR unpacks the tar files',
    CityscapesDataset='Cityscapes: from https://www.cityscapes-dataset.com (needs an account)',
    NMNIST='N-MNIST: from https://www.garrickorchard.com/datasets/n-mnist, as Train/<digit>/*.bin and Test/<digit>/*.bin',
    NCaltech101='N-Caltech101: from https://www.garrickorchard.com/datasets/n-caltech101, as <class>/*.bin',
    CIFAR10DVS='CIFAR10-DVS: ten zip files, listed by spikingjelly.datasets.CIFAR10DVS.resource_url_md5(), as <class>/*.aedat',
    DVS128Gesture='DVS128 Gesture: DvsGesture.tar.gz from http://research.ibm.com/dvsgesture/, unpacked',
    Gen1='GEN1: from https://www.prophesee.ai (after registration), as train/, val/ and test/ with *_td.dat and *_bbox.npy; '
    'drawn recordings in its layout: mmspike moving-shapes DIR --layout gen1',
    OneMegapixel='1 Mpx: from https://www.prophesee.ai (after registration), unpacked as train/, val/ and test/',
    DSECDet='DSEC-Det: from https://dsec.ifi.uzh.ch, events and object_detections in train/ and test/',
    DSECSemantic='DSEC-Semantic: from https://dsec.ifi.uzh.ch, events and semantic labels in train/, test/; drawn recordings '
    'in its layout: mmspike moving-shapes DIR --layout dsec_semantic --number 8 0 3',
    DDD17='DDD17 with labels: from https://github.com/uzh-rpg/ess, as dir*/',
    NCaltech101Boxes='N-Caltech101: from https://www.garrickorchard.com/datasets/n-caltech101, as Caltech101/ and '
    'Caltech101_annotations/',
    HARDVS='HAR-DVS: from https://github.com/Event-AHU/HARDVS; rawframes/action_001/… and train_label.txt, test_label.txt',
)


def _map_strings(item, function: Callable[[str], str]):
    """A copy of ``item`` with every string in its (nested) dicts, lists and tuples replaced."""
    if isinstance(item, str):
        return function(item)
    if isinstance(item, dict):
        return type(item)({key: _map_strings(value, function) for key, value in item.items()})
    if isinstance(item, list | tuple):
        return type(item)(_map_strings(child, function) for child in item)
    return item


def _datasets(item) -> Iterator[dict]:
    """Every dataset config in a data loader's ``dataset``: the innermost ones, without wrappers."""
    if isinstance(item, list | tuple):
        for child in item:
            yield from _datasets(child)
    elif isinstance(item, dict):
        inner = [item[key] for key in ('dataset', 'datasets') if key in item]
        if inner:
            yield from _datasets(inner)
        else:
            yield item


def config_datasets(cfg: Config, loaders: tuple[str, ...] = LOADERS) -> Iterator[dict]:
    """The dataset configs of those ``loaders`` that ``cfg`` has, wrappers such as RepeatDataset taken off."""
    for name in loaders:
        if cfg.get(name) is not None:
            yield from _datasets(cfg[name]['dataset'])


def move_data_root(cfg: Config, directory: str) -> Config:
    """A copy of ``cfg`` in which every data loader and evaluator reads from ``directory``.

    The ``data_root`` of the datasets, and every path under it in data loaders and evaluators (absolute annotation files,
    ``CocoMetric(ann_file=...)``), are moved; what lies elsewhere stays.

    Raises:
        ValueError: No dataset has a ``data_root``, or they have different ones.
    """
    cfg = deepcopy(cfg)
    roots = {osp.normpath(dataset['data_root']) for dataset in config_datasets(cfg) if dataset.get('data_root')}
    if len(roots) != 1:
        found = 'has no data_root in its datasets' if not roots else f'has several data_roots: {sorted(roots)}'
        raise ValueError(
            f'--data-root {directory}: the config {found}. Set the paths one by one, for example with '
            '--cfg-options train_dataloader.dataset.data_root=DIR'
        )
    (root,) = roots

    def move(text: str) -> str:
        path = osp.normpath(text)
        if path == root:
            return osp.join(directory, '') if text.endswith('/') else directory
        if path.startswith(root + '/'):
            moved = osp.join(directory, path[len(root) + 1 :])
            return osp.join(moved, '') if text.endswith('/') else moved
        return text

    for name in (*LOADERS, *EVALUATORS):
        if cfg.get(name) is not None:
            cfg[name] = _map_strings(cfg[name], move)
    if isinstance(cfg.get('data_root'), str):
        cfg.data_root = move(cfg.data_root)
    return cfg


def data_paths(dataset: dict) -> Iterator[str]:
    """The local files and directories which a dataset config needs, joined as mmengine's BaseDataset does."""
    root = dataset.get('data_root') or ''
    if root:
        yield root
    prefix = dataset.get('data_prefix') or {}
    for path in (dataset.get('ann_file'), *(prefix.values() if isinstance(prefix, dict) else [prefix])):
        if path and isinstance(path, str):
            yield path if '://' in path else osp.join(root, path)


def _evaluator_annotations(cfg: Config, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        evaluator = cfg.get(name) or []
        for metric in evaluator if isinstance(evaluator, list | tuple) else [evaluator]:
            if metric.get('ann_file'):
                yield metric['ann_file']


def _other_layout(cfg: Config, loaders: tuple[str, ...], root: str, path: str) -> str:
    """The message where the folder of the data exists and lacks what the config expects in it."""
    inside = [
        osp.relpath(needed, root)
        for dataset in config_datasets(cfg, loaders)
        for needed in data_paths(dataset)
        if needed.startswith(osp.join(root, '')) and osp.normpath(needed) != osp.normpath(root)
    ]
    found = [name if osp.exists(osp.join(root, name)) else f'{name} (missing)' for name in dict.fromkeys(inside)]
    names = sorted(name + '/' * osp.isdir(osp.join(root, name)) for name in os.listdir(root) if not name.startswith('.'))
    there = ', '.join(names[:12]) + (f', … ({len(names)})' if len(names) > 12 else '')
    return (
        f'The data in {root} are laid out in another way than the config expects: {path} does not exist (looked for in '
        f'{osp.abspath(path)}).\n'
        f'  Expected in it: {", ".join(found) or osp.relpath(path, root)}.\n'
        f'  There is: {there or "nothing"}.\n'
        "  Move the files, or set ann_file and data_prefix of every data set (and the evaluator's ann_file) in a config of "
        'your own: docs/tutorials show one for each kind of data, docs/data.md lists the layouts'
    )


def check_data_exists(cfg: Config, loaders: tuple[str, ...] = LOADERS, evaluators: tuple[str, ...] = EVALUATORS) -> None:
    """Leave with one message if a path that a config's data need is missing: the path, where to get it, what to do else.

    Datasets that download themselves (mmpretrain's CIFAR and MNIST) and paths with a scheme (``s3://``) are not checked.

    Raises:
        UserError: A path does not exist.
    """
    needed = [(dataset, path) for dataset in config_datasets(cfg, loaders) for path in data_paths(dataset)]
    needed += [({}, path) for path in _evaluator_annotations(cfg, evaluators)]
    for dataset, path in needed:
        name = str(dataset.get('type', '')).rsplit('.', 1)[-1]
        downloads = name in ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
        if downloads or '://' in path or osp.exists(path):
            continue
        root = dataset.get('data_root') or ''
        if root and osp.isdir(root) and osp.normpath(path) != osp.normpath(root):
            raise UserError(_other_layout(cfg, loaders, root, path))
        # classes of one's own: not the public data set
        source = SOURCES.get(name, 'put your data there') if 'metainfo' not in dataset else 'put your data there'
        raise UserError(
            f'The data of this config are missing: {path} does not exist (looked for in {osp.abspath(path)}).\n'
            f'  To get them: {source}.\n'
            '  If you have them elsewhere: add --data-root DIR to the command.\n'
            '  To see a whole run without any data set: make demo'
        )
