"""Downloads from a server on this machine: resumed, interrupted, refused, wrong, without a network."""

import hashlib
import http.server
import threading
import zipfile

import pytest

from mmspike.utils import download
from mmspike.utils.download import Archive, DownloadError, fetch, prepare
from mmspike.utils.errors import UserError

CONTENT = bytes(range(256)) * 4000  # 1 MB


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows single open ranges, and drops connections after ``server.limit`` bytes of a body."""

    def do_GET(self):
        server, body = self.server, self.server.files.get(self.path)
        ranges = self.headers.get('Range')
        server.requests.append((self.path, ranges))
        if body is None:
            return self.send_error(404)
        start = int(ranges.removeprefix('bytes=').rstrip('-')) if ranges and server.ranges else 0
        if start >= len(body):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(body)}')
            return self.end_headers()
        self.send_response(206 if ranges and server.ranges else 200)
        if ranges and server.ranges:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : start + server.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, 'sleep', lambda seconds: None)
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.files, server.ranges, server.limit, server.requests = {}, True, 10**9, []
        server.url = f'http://127.0.0.1:{server.server_port}'
        threading.Thread(target=server.serve_forever, kwargs=dict(poll_interval=0.01), daemon=True).start()
        yield server
        server.shutdown()


def archive(server, content=CONTENT, name='x.zip', **changes):
    server.files[f'/{name}'] = content
    values = dict(url=f'{server.url}/{name}', md5=hashlib.md5(content).hexdigest(), size=len(content)) | changes
    return Archive(**values)


def test_fetch_and_not_again(server, tmp_path):
    path = fetch(archive(server), tmp_path / 'new')
    assert path == tmp_path / 'new' / 'x.zip' and path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ['x.zip']
    assert fetch(archive(server), tmp_path / 'new') == path and len(server.requests) == 1


def test_a_dropped_connection_goes_on(server, tmp_path):
    server.limit = 400_000
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT
    assert [r for _, r in server.requests] == [None, 'bytes=400000-', 'bytes=800000-']


def test_an_interrupted_run_goes_on(server, tmp_path):
    (tmp_path / 'x.zip.part').write_bytes(CONTENT[:700_001])
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT
    assert [r for _, r in server.requests] == ['bytes=700001-']


def test_killed_between_download_and_renaming(server, tmp_path):
    (tmp_path / 'x.zip.part').write_bytes(CONTENT)
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_part_longer_than_the_file_is_begun_anew(server, tmp_path):
    (tmp_path / 'x.zip.part').write_bytes(CONTENT + b'more')
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_server_without_ranges(server, tmp_path):
    server.ranges = False
    (tmp_path / 'x.zip.part').write_bytes(b'z' * 5000)
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_wrong_checksum(server, tmp_path):
    wrong = archive(server, md5='0' * 32)
    with pytest.raises(ValueError, match=f'with md5 {hashlib.md5(CONTENT).hexdigest()}, expected 000'):
        fetch(wrong, tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / 'x.zip').write_bytes(b'by hand')
    with pytest.raises(ValueError, match='remove it'):
        fetch(wrong, tmp_path)
    assert (tmp_path / 'x.zip').read_bytes() == b'by hand'


def test_refused_and_silent(server, tmp_path):
    with pytest.raises(DownloadError, match='nothing.zip: the server answers 404'):
        fetch(Archive(f'{server.url}/nothing.zip', ''), tmp_path)
    assert len(server.requests) == 1
    server.limit = 0
    with pytest.raises(DownloadError, match='the connection ended early'):
        fetch(archive(server), tmp_path)
    assert len(server.requests) == 1 + download.IDLE_ATTEMPTS


def test_disk_too_small(server, tmp_path):
    with pytest.raises(DownloadError, match='1000000000.0 GB are needed'):
        fetch(archive(server, size=10**18), tmp_path)
    assert not server.requests


def zipped(path, files):
    with zipfile.ZipFile(path, 'w') as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path.read_bytes()


def test_prepare(server, tmp_path, capsys):
    files = {'val/': '', 'val/a.jpg': 'a', 'val/b.jpg': 'bb', 'ann.json': '{}'}
    archives = [archive(server, zipped(tmp_path / 'made.zip', files))]
    layout, root, folder = {'val': 2, 'ann.json': 0}, tmp_path / 'root', tmp_path / 'zips'
    (root / 'val').mkdir(parents=True)
    (root / 'val' / 'a.jpg').touch()  # an unpacking that was killed
    prepare(archives, layout, root, folder)
    assert (root / 'val' / 'a.jpg').read_text() == 'a' and (root / 'val' / 'b.jpg').read_text() == 'bb'
    assert (folder / 'x.zip').exists()
    (root / 'ann.json').unlink()
    prepare(archives, layout, root, folder, delete=True)
    assert (root / 'ann.json').exists() and not list(folder.iterdir()) and len(server.requests) == 1
    capsys.readouterr()
    prepare(archives, layout, root, folder)
    assert capsys.readouterr().out == f'{root} is complete\n' and len(server.requests) == 1
    (folder / 'x.zip').touch()  # kept by an earlier run
    prepare(archives, layout, root, folder, delete=True)
    assert not list(folder.iterdir()) and len(server.requests) == 1
    with pytest.raises(UserError, match=f'{root / "val"} has 2 of 3 files'):
        prepare(archives, {'val': 3}, root, folder)


def test_no_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    (tmp_path / 'x.zip.part').write_bytes(CONTENT[:10])
    known = archive(server)
    with pytest.raises(UserError) as error:
        prepare([known], {'val': 2}, tmp_path / 'root', tmp_path)
    for expected in ('refused', str(known), f'copy them into {tmp_path}', 'goes on from where it stopped'):
        assert expected in str(error.value)
    assert (tmp_path / 'x.zip.part').read_bytes() == CONTENT[:10]
