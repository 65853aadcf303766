"""COCO, ADE20K and ImageNet in small, from archives of the real ones' structure: the result is what the configs read."""

import hashlib
import importlib.util
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config

from mmspike.config.data_paths import check_data_exists, move_data_root
from mmspike.utils.download import Archive
from mmspike.utils.errors import UserError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def converter(monkeypatch):
    """Loads a script of tools/dataset_converters; its result runs it with these arguments."""

    def load(name):
        spec = importlib.util.spec_from_file_location(f'converter_{name}', REPO / 'tools' / 'dataset_converters' / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)

        def run(*args):
            monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
            module.main(module.parse_args())

        return module, run

    return load


def put_zip(folder, archive, files):
    """Write ``files`` to the zip that ``archive`` names, and return the archive with the checksum of that."""
    folder.mkdir(exist_ok=True)
    path = folder / archive.name
    with zipfile.ZipFile(path, 'w') as file:
        for name in files:
            file.writestr(name, '{}')
    return Archive(archive.url, hashlib.md5(path.read_bytes()).hexdigest(), path.stat().st_size)


def check_config(name, root):
    check_data_exists(move_data_root(Config.fromfile(REPO / 'configs' / name), str(root)))


def test_coco(converter, tmp_path, monkeypatch, capsys):
    module, run = converter('coco')
    zips, root = tmp_path / 'zips', tmp_path / 'coco'
    names = [f'annotations/{kind}_{split}2017.json' for kind in ('instances', 'captions') for split in ('train', 'val')]
    monkeypatch.setattr(module, 'ANNOTATIONS', put_zip(zips, module.ANNOTATIONS, names))
    for split, number in dict(train=3, val=2).items():
        images = [f'{split}2017/{i:012}.jpg' for i in range(number)]
        monkeypatch.setitem(module.IMAGES, split, put_zip(zips, module.IMAGES[split], images))
        monkeypatch.setitem(module.NUMBERS, split, number)
    run(root, '--archives', zips, '--splits', 'val')
    assert not (root / 'train2017').exists()
    run(root, '--archives', zips, '--delete')
    assert not list(zips.iterdir()) and f'{root} is complete' in capsys.readouterr().out
    check_config('mask_rcnn_metaspike_coco.py', root)


def test_ade20k(converter, tmp_path, monkeypatch):
    module, run = converter('ade20k')
    names = [
        f'ADEChallengeData2016/{kind}/{split}/ADE_{split}_{i}.{suffix}'
        for kind, suffix in (('images', 'jpg'), ('annotations', 'png'))
        for split in ('training', 'validation')
        for i in range(2)
    ]
    archives = [put_zip(tmp_path / 'ade', module.ARCHIVES[0], names)]
    monkeypatch.setattr(module, 'ARCHIVES', archives)
    monkeypatch.setattr(module, 'NUMBERS', dict(training=2, validation=2))
    run(tmp_path / 'ade')
    check_config('fpn_espike_ade20k.py', tmp_path / 'ade' / 'ADEChallengeData2016')


def tar(files, mode='w'):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_imagenet(converter, tmp_path, monkeypatch):
    scipy_io = pytest.importorskip('scipy.io')
    imagenet = pytest.importorskip('torchvision.datasets.imagenet')
    np = pytest.importorskip('numpy')
    module, run = converter('imagenet')
    monkeypatch.setattr(module, 'CLASSES', 2)
    monkeypatch.setattr(module, 'NUMBERS', dict(train=4, val=3))
    classes = ['n01440764', 'n01443537']
    fields = [('ILSVRC2012_ID', 'i4'), ('WNID', 'O'), ('words', 'O'), ('gloss', 'O'), ('num_children', 'i4')]
    synsets = np.array([(1, classes[0], 'tench', '', 0), (2, classes[1], 'goldfish', '', 0), (3, 'n0', 'all', '', 2)], fields)
    meta = io.BytesIO()
    scipy_io.savemat(meta, dict(synsets=synsets))
    inner = {f'{c}.tar': tar({f'{c}_{i}.JPEG': b'x' for i in range(2)}) for c in classes}
    data = 'ILSVRC2012_devkit_t12/data/'
    truth = {f'{data}meta.mat': meta.getvalue(), f'{data}ILSVRC2012_validation_ground_truth.txt': b'2\n1\n2\n'}
    contents = dict(
        train=tar(inner),
        val=tar({f'ILSVRC2012_val_0000000{i}.JPEG': b'x' for i in (1, 2, 3)}),
        devkit=tar(truth, 'w:gz'),
    )
    zips, root = tmp_path / 'tars', tmp_path / 'imagenet'
    with pytest.raises(UserError, match=f'put into {zips}:\n  ILSVRC2012_img_train.tar .md5 1d675b') as error:
        run(root, '--archives', zips)
    assert 'image-net.org' in str(error.value) and 'devkit' in str(error.value) and not root.exists()

    zips.mkdir()
    for key, content in contents.items():
        name = imagenet.ARCHIVE_META[key][0]
        (zips / name).write_bytes(content)
        monkeypatch.setitem(imagenet.ARCHIVE_META, key, (name, hashlib.md5(content).hexdigest()))
    (root / 'val.part' / 'n0').mkdir(parents=True)  # of a run that was killed
    run(root, '--archives', zips)
    layout = sorted(str(path.relative_to(root)) for path in root.rglob('*.JPEG'))
    train = [f'train/{c}/{c}_{i}.JPEG' for c in classes for i in range(2)]
    val = [f'val/{classes[k - 1]}/ILSVRC2012_val_0000000{i}.JPEG' for i, k in ((2, 1), (1, 2), (3, 2))]
    assert layout == sorted(train + val) and not list(root.glob('*.part'))
    check_config('espike_imagenet.py', root)

    (root / 'val' / classes[0] / 'ILSVRC2012_val_00000002.JPEG').unlink()
    with pytest.raises(UserError, match='is not complete'):
        run(root, '--archives', zips)
    (zips / 'ILSVRC2012_img_val.tar').write_bytes(b'cut')
    with pytest.raises(UserError, match='ILSVRC2012_img_val.tar is not present in the root directory or is corrupted'):
        run(tmp_path / 'other', '--archives', zips, '--splits', 'val')


def test_checksums_are_well_formed(converter):
    coco, _ = converter('coco')
    ade, _ = converter('ade20k')
    archives = [coco.ANNOTATIONS, *coco.IMAGES.values(), *ade.ARCHIVES]
    assert len({a.md5 for a in archives}) == 4 and all(len(a.md5) == 32 and int(a.md5, 16) for a in archives)
