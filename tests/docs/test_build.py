"""The site builds without a warning, its navigation is complete, and what pages link to exists."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from pages import local_links

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / 'docs'


def nav_files(entries: list) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from nav_files(value)


def test_navigation_is_complete():
    named = list(nav_files(yaml.safe_load((REPO / 'mkdocs.yml').read_text())['nav']))
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob('*.md'))


PAGES = [*REPO.glob('*.md'), *DOCS.rglob('*.md'), *(REPO / 'configs').rglob('*.md')]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_links_lead_somewhere(page):
    """As the files lie in the repository; anchors are checked by mkdocs."""
    missing = [link for link in local_links(page) if not (page.parent / link.split('#')[0]).exists()]
    assert not missing


def test_links_are_found():
    assert {'docs/images/demo.jpg', 'docs/install.md'} <= set(local_links(REPO / 'README.md'))


@pytest.fixture(scope='module')
def site(tmp_path_factory) -> Path:
    for package in ('mkdocs', 'material', 'mkdocstrings'):
        if find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install -r requirements/docs.txt')
    folder = tmp_path_factory.mktemp('site')
    command = [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(folder)]  # --quiet undoes --strict
    environment = os.environ | dict(NO_MKDOCS_2_WARNING='1')  # a notice about the theme's future
    result = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0 and 'WARNING' not in result.stderr, result.stderr
    return folder


def test_site_builds_without_a_warning(site):
    assert {str(path.relative_to(DOCS).with_suffix('.html')) for path in DOCS.rglob('*.md')} <= {
        str(path.relative_to(site)) for path in site.rglob('*.html')
    }


def offered(package: str) -> list[str]:
    return import_module(f'mmspike.{package.replace("/", ".")}').__all__


# page -> packages, all of whose __all__ it must hold
REFERENCE = dict(
    neurons=['models/neurons'],
    layers=['models/layers'],
    models=[f'models/{x}' for x in ('backbones', 'necks', 'detection', 'segmentation', 'classification', 'pretraining')],
    datasets=['datasets', 'datasets/events'],
    engine=['engine', 'engine/hooks'],
    config=['config/swap'],
    analysis=['analysis'],
    deploy=['deploy'],
    apis=['apis'],
)
TABLES = {'PRESETS', 'SURROGATES', 'MERGING'}  # constants without a docstring


@pytest.mark.parametrize('page', REFERENCE)
def test_reference_holds_what_the_packages_offer(site, page):
    text = (site / 'api' / f'{page}.html').read_text()
    for package in REFERENCE[page]:
        names = set(offered(package)) - TABLES
        assert names
        assert not {name for name in names if not re.search(rf'id="mmspike[\w.]*\.{name}"', text)}
    assert ':class:' not in text and ':func:' not in text and '.. math' not in text


def test_configs_that_pages_link_to_are_part_of_the_site(site):
    text = (site / 'events.html').read_text()
    assert 'href="repository/configs/spikformer_nmnist.py.txt"' in text
    copy = site / 'repository' / 'configs' / 'spikformer_nmnist.py.txt'
    assert copy.read_text() == (REPO / 'configs' / 'spikformer_nmnist.py').read_text()
