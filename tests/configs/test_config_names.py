"""Names of configs and folders follow one grammar, which docs/usage.md tells."""

import re
from pathlib import Path

import mmspike

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
FOLDERS = sorted(p.name for p in CONFIGS.iterdir() if p.is_dir() and p.name != '_base_')
METHODS = '(cascade_mask_rcnn|mask_rcnn|retinanet|fpn|deeplab|mask_former)'
SHORT = re.compile(rf'({METHODS}_)?(?P<family>[a-z0-9]+)_[a-z0-9]+\.py')
LONG = re.compile(
    r'(?P<arch>[a-z0-9]+)(-[a-z0-9]+)*'  # a preset
    r'(_t\d+)?(_[a-z-]+)*(_t\d+)?'  # time steps, method and neck
    r'_\d+xb\d+-\d+[ek](-distill)?'  # GPUs x batch, epochs or thousands of iterations
    r'_[a-z0-9]+\.py'  # data
)


#: folders with networks of another name
OTHERS = {('maxformer', 'msqk'), ('resnet', 'resnet18')}


def test_short_names():
    found = [p.name for p in CONFIGS.glob('*.py')]
    assert found and not [name for name in found if not SHORT.fullmatch(name)]
    families = {SHORT.fullmatch(name)['family'] for name in found}
    assert families <= set(FOLDERS), 'a short name has the family of a folder'


def test_names_in_folders():
    found = {p.name: p.parent.name for p in CONFIGS.glob('*/*.py') if p.parent.name != '_base_'}
    assert len(found) > 40 and not [name for name in found if not LONG.fullmatch(name)]
    presets = {arch.split('-')[0] for arch in mmspike.list_archs()} | {
        'spikeyolo',
        'resnet18',
    }  # presets of spikingyolo, and a host's
    assert not {name for name in found if LONG.fullmatch(name)['arch'] not in presets}
    for name, folder in found.items():
        family = LONG.fullmatch(name)['arch'].removesuffix('former')
        assert folder.removesuffix('former') == family or (folder, family) in OTHERS, f'{folder}/{name}'


def test_docs_tell_the_folders():
    text = (CONFIGS.parent / 'docs' / 'usage.md').read_text()
    assert not [folder for folder in FOLDERS if f'`{folder}`' not in text]
