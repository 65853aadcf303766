"""Outputs that cannot be written are named before anything is computed; files that are not what they are called."""

import os

import pytest

from mmspike.utils.errors import UserError
from mmspike.utils.files import check_folder, check_writable, stand_in


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


def test_what_lies_in_the_place_of_data(tmp_path):
    for content, message in [
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n', 'a pointer of Git LFS'),
        (b'\n <!DOCTYPE HTML><html>', 'a web page'),
        (b'<html lang="en">', 'a web page'),
        (bytes(5000), 'begins with zeros only'),
        (b'<?xml version="1.0"?><annotation/>', ''),
        (b'PK\x03\x04', ''),
        (b'', ''),
    ]:
        (tmp_path / 'file').write_bytes(content)
        assert message in stand_in(tmp_path / 'file') and bool(message) == bool(stand_in(tmp_path / 'file'))
    assert stand_in(tmp_path / 'none') == '' and stand_in(tmp_path) == ''
