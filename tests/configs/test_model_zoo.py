"""The model zoo: what it lists exists, and what it says of the configs is true."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from mmspike.apis import list_weights

from .test_configs import CONFIGS, MODELS, NAMES, load

ROOT = CONFIGS.parent
METAFILES = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
ENTRIES = [m for f in METAFILES for m in yaml.safe_load((ROOT / f).read_text())['Models']]


def test_every_config_is_listed_once():
    assert sorted(m['Config'] for m in ENTRIES) == [f'configs/{name}' for name in NAMES]
    assert len({m['Name'] for m in ENTRIES}) == len(ENTRIES)
    assert all(m['Name'] == Path(m['Config']).stem for m in ENTRIES)


@pytest.mark.parametrize('metafile', METAFILES)
def test_readme_of_a_family(metafile):
    """Published and reproduced results stand in tables of their own, and links lead somewhere."""
    content = yaml.safe_load((ROOT / metafile).read_text())
    readme = ROOT / content['Collections'][0]['README']
    text = readme.read_text()
    assert '## Published' in text and '## Reproduced here' in text
    for link in re.findall(r'\]\((?!http)([^)#]+)', text):
        assert (readme.parent / link).exists(), link


def reproduced(text: str) -> dict[str, set[float]]:
    """Configs in the table "Reproduced here" of a README, with the numbers of their results, as they are and in per cent."""
    section = text.split('## Reproduced here')[1].split('\n## ')[0]
    rows = [line.split('|') for line in section.splitlines() if line.startswith('|')][2:]
    numbers = {row[1].split(',')[0].strip(): [float(x) for x in re.findall(r'\d+\.\d+', row[3])] for row in rows}
    return {name: {*values, *(round(100 * x, 6) for x in values)} for name, values in numbers.items()}


@pytest.mark.parametrize('metafile', METAFILES)
def test_results_are_those_of_the_readme(metafile):
    """What a family's README calls reproduced has results in the metafile, with its numbers, and nothing else has."""
    content = yaml.safe_load((ROOT / metafile).read_text())
    table = reproduced((ROOT / content['Collections'][0]['README']).read_text())
    results = {m['Name']: m['Results'] for m in content['Models'] if m['Results']}
    assert sorted(results) == sorted(table)
    for name, entries in results.items():
        for entry in entries:
            assert entry['Task'] and entry['Dataset'] and entry['Metrics']
            assert set(entry['Metrics'].values()) <= table[name], name


@pytest.mark.parametrize('entry', ENTRIES, ids=lambda m: m['Name'])
def test_parameter_counts(entry):
    cfg = load(entry['Config'].removeprefix('configs/'), full=True)
    # shapes without values: large models at once; a teacher is initialised when it is built, which needs values, as do
    # mmpretrain's rates of dropped paths
    values = 'teacher' in cfg.model or cfg.model.backbone.type == 'ResNet_CIFAR'
    with torch.device('cpu' if values else 'meta'):
        model = MODELS.build(cfg.model)
    assert sum(p.numel() for p in model.parameters()) == entry['Metadata']['Parameters']


def test_page_of_the_weights():
    """Each network that comes with weights stands there with what the package says of it."""
    rows = [line for line in (ROOT / 'docs' / 'weights.md').read_text().splitlines() if line.startswith('| `')]
    named = {m['Name'] for m in ENTRIES}
    for name, weights in list_weights().items():
        results, origin = (row for row in rows if row.startswith(f'| `{name}` |'))
        assert name in named and f'| {weights.seed} |' in results and f'| {weights.data} |' in results
        assert ', '.join(f'{metric} {value:.3f}' for metric, value in weights.metrics.items()) in results
        assert f'| {weights.path.stat().st_size / 1e6:.1f} |' in results
        assert weights.sha256 in origin and f'`{weights.train}`' in origin
    assert len(rows) == 2 * len(list_weights())
