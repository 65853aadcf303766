"""tools/dev/nir_readers.py runs in an environment of its own; here only that it says so."""

import pytest

from mmspike.utils.optional import is_installed


def test_missing_importers_are_named(run_tool):
    if is_installed('nirtorch'):
        pytest.skip('importers of NIR are installed')
    done = run_tool('dev/nir_readers.py')
    assert done.returncode == 1 and 'pip install norse snntorch spikingjelly nirtorch nir' in done.stderr
