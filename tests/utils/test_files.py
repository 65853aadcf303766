"""Outputs that cannot be written are named before anything is computed."""

import os

import pytest

from mmspike.utils.errors import UserError
from mmspike.utils.files import check_folder, check_writable


def test_what_can_be_written(tmp_path):
    (tmp_path / 'file').write_text('')
    for path in (tmp_path, tmp_path / 'a' / 'b', 'relative', 'a/b'):
        check_folder(str(path), '--out')
        check_writable(str(path), '--out')
    check_writable(str(tmp_path / 'file'), '--out')
    assert sorted(os.listdir(tmp_path)) == ['file']


def test_what_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'^--out .*/file is a file, expected a folder'):
        check_folder(str(tmp_path / 'file'), '--out')
    with pytest.raises(UserError, match=r'^--out .*/file/a/b cannot be written: .*/file is a file'):
        check_writable(str(tmp_path / 'file' / 'a' / 'b'), '--out')
    monkeypatch.setattr(os, 'access', lambda path, mode: os.path.basename(path) != 'locked')
    (tmp_path / 'locked').mkdir()
    for path in (tmp_path / 'locked', tmp_path / 'locked' / 'new'):
        with pytest.raises(UserError, match='cannot be written: no right to write .*locked'):
            check_folder(str(path), '--work-dir')
