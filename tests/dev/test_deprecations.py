"""What is deprecated names the version that removes it, and is gone in that version; the changelog fits the version."""

import re
from pathlib import Path

import pytest
from packaging.version import Version

import mmspike

REPOSITORY = Path(__file__).resolve().parents[2]
REMOVAL = re.compile(r"""removed[ _]in\s*(?:=\s*['"])?(?:version )?(\d+\.\d+\.\d+)""")
DEPRECATED = re.compile(r'FutureWarning|deprecated_function\(|deprecated_api_warning\(')


def overdue(source, version):
    """Versions of removal in ``source`` that ``version`` has reached."""
    return [found for found in REMOVAL.findall(source) if Version(found) <= Version(version)]


def sources():
    folders = ('mmspike', 'tools', 'configs')
    files = [file for folder in folders for file in sorted((REPOSITORY / folder).rglob('*.py')) if '.mim' not in file.parts]
    assert len(files) > 100
    return {file.relative_to(REPOSITORY).as_posix(): file.read_text() for file in files}


def test_nothing_deprecated_outlives_its_version():
    late = {name: found for name, text in sources().items() if (found := overdue(text, mmspike.__version__))}
    assert not late, f'mmspike is {mmspike.__version__}: remove what was announced for {late}'


def test_every_deprecation_has_a_version():
    silent = [name for name, text in sources().items() if len(DEPRECATED.findall(text)) > len(REMOVAL.findall(text))]
    assert not silent, f'say in which version it will be removed (CONTRIBUTING.md): {silent}'


@pytest.mark.parametrize(('version', 'late'), [('0.3.9', []), ('0.4.0', ['0.4.0']), ('0.10.0', ['0.4.0'])])
def test_the_forms_of_contributing_are_found(version, late):
    text = (REPOSITORY / 'CONTRIBUTING.md').read_text()
    (warning,) = re.findall(r'^warnings\.warn\(.+$', text, re.MULTILINE)
    (decorator,) = re.findall(r'`mmengine\.utils\.(deprecated_function\(.+\))`', text)
    for form in (warning, decorator):
        assert overdue(form, version) == late
        assert len(DEPRECATED.findall(form)) == len(REMOVAL.findall(form)) == 1


def test_changelog():
    text = (REPOSITORY / 'CHANGELOG.md').read_text()
    first, *released = re.findall(r'^## (.+)$', text, re.MULTILINE)
    assert first == '[Unreleased]'
    versions = [re.fullmatch(r'\[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d', heading).group(1) for heading in released]
    assert sorted(versions, key=Version, reverse=True) == versions
    # the version in the sources is the last one released, or the one that [Unreleased] will become
    assert mmspike.__version__ in versions[:1] or f'\nWhat {mmspike.__version__}' in text.split('\n## ')[1]
    kinds = set(re.findall(r'^### (.+)$', text, re.MULTILINE))
    assert kinds <= {'Added', 'Changed', 'Deprecated', 'Removed', 'Fixed', 'Security'}
