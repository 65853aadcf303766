"""The web page: what it shows, its server, and a browser in front of it.

The server needs gradio, the browser playwright and Chromium: what is missing is skipped.
"""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import cv2
import numpy as np
import psutil
import pytest

for host in ('mmdet', 'mmseg'):
    pytest.importorskip(host)

from apis.networks import networks_in  # noqa: E402

from mmspike.apis import inference  # noqa: E402
from mmspike.apis.webui import ENERGY_COLUMNS, RATE_COLUMNS, analyse, model_names  # noqa: E402
from mmspike.models.inspection import is_neuron, spike_unit, stage_of  # noqa: E402
from mmspike.utils.optional import is_installed  # noqa: E402


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return networks_in(tmp_path_factory.mktemp('networks'))


def image_of(net):
    return str(sorted((net.data / 'val').glob('*.png'))[0])


def test_analysis(network):
    """Rates are those of the neurons, energy that of the report, and the picture has something drawn on it."""
    net = network('mmdet')
    infer = inference(*net.files(), device='cpu')
    image = image_of(net)
    shown = analyse(infer, image, score_thr=0.0)
    counts = {}

    def count(name, module, spikes):
        sums = counts.setdefault(stage_of(name), np.zeros(3))
        sums += (spikes.sum().item() / spike_unit(module), spikes.count_nonzero().item(), spikes.numel())

    for name, module in infer.model.named_modules():
        if is_neuron(module):
            module.register_forward_hook(lambda m, x, out, name=name: count(name, m, out))
    next(infer.stream(image))
    assert all(len(row) == len(RATE_COLUMNS) for row in shown.rates)
    rates = {row[0]: row[2:4] for row in shown.rates}
    assert {'backbone.stages.0', 'neck', 'rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head'} <= rates.keys()
    for stage, (spikes, fired, elements) in counts.items():
        assert rates[stage] == [f'{spikes / elements:.4f}', f'{fired / elements:.1%}'], stage
    assert [row[0] for row in shown.energy] == ['backbone', 'neck', 'rpn_head', 'roi_head', 'total']
    report = infer.energy(cv2.imread(image))
    mj = f'{report.total["exact_energy_mj"]:.4g}'
    assert dict(zip(ENERGY_COLUMNS, shown.energy[-1], strict=True))['mJ'] == mj and f'**{mj} mJ**' in shown.summary
    plain = cv2.resize(cv2.imread(image), shown.prediction.shape[1::-1], interpolation=cv2.INTER_NEAREST)[..., ::-1]
    assert np.mean(np.abs(shown.prediction.astype(int) - plain) > 40) > 0.01
    assert shown.spikes.std() > 5


def test_names_of_models():
    names = model_names([('a/x.py', '1.pth'), ('b/x.py', '2.pth'), ('y', '1.pth')])
    assert names == {'x (1.pth)': ('a/x.py', '1.pth'), 'x (2.pth)': ('b/x.py', '2.pth'), 'y': ('y', '1.pth')}
    assert model_names([('x', '1.pth'), ('x', None)]) == {'x (1.pth)': ('x', '1.pth'), 'x': ('x', None)}


def test_refused(network, run_tool, tmp_path, monkeypatch):
    net = network('mmdet')
    cases = [
        (('no_config', net.checkpoint), 'no_config'),
        ((net.config, tmp_path / 'none.pth'), 'none.pth does not exist'),
        (('spikeyolo_nuclei', 'mmspike://none'), 'no trained weights come with the name'),
        (('spikeyolo_nuclei', 'mmspike://spikeyolo_nuclei'), 'needs gradio'),
        ((net.config, 'https://localhost/none.pth'), 'needs gradio'),
        (net.files(), "needs gradio, which is not installed: pip install 'mmspike"),
    ]
    monkeypatch.setattr('mmspike.apis.webui.is_installed', lambda module: False)
    for model, message in cases:
        result = run_tool('webui.py', '--model', *model)
        assert result.returncode == 1 and message in result.stderr


@pytest.fixture(scope='module')
def server(network):
    """tools/webui.py in a process of its own, with two models."""
    if not is_installed('gradio'):
        pytest.skip('needs gradio')
    from conftest import REPO

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(REPO / 'tools' / 'webui.py'), '--device', 'cpu', '--port', str(port)]
    for host in ('mmdet', 'mmseg'):
        command += ['--model', *network(host).files()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            while True:
                try:
                    urllib.request.urlopen(f'http://127.0.0.1:{port}').close()
                    break
                except OSError:
                    assert process.poll() is None, process.stdout.read()
                    time.sleep(0.5)
            yield process, port
        finally:
            process.terminate()


@pytest.fixture
def page(server):
    """The page in headless Chromium; it may ask nobody but the server."""
    playwright = pytest.importorskip('playwright.sync_api')
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if chromium is None:
        pytest.skip('needs Chromium')
    quiet = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update', '--disable-sync']
    with playwright.sync_playwright() as p:
        with p.chromium.launch(executable_path=chromium, args=quiet) as browser:
            page = browser.new_page(viewport=dict(width=1400, height=1300))
            page.set_default_timeout(600_000)  # what fails ends; what is slow does not fail
            asked = []
            page.on('request', lambda request: asked.append(request.url))
            page.goto(f'http://127.0.0.1:{server[1]}')
            yield page
    elsewhere = [url for url in asked if not url.startswith((f'http://127.0.0.1:{server[1]}/', 'data:', 'blob:'))]
    assert elsewhere == []


def test_listens_on_this_machine_only(server):
    process, port = server
    listening = [c.laddr for c in psutil.Process(process.pid).net_connections('inet') if c.status == psutil.CONN_LISTEN]
    assert [tuple(address) for address in listening] == [('127.0.0.1', port)]


def test_port_that_is_taken(server, network, run_tool):
    result = run_tool('webui.py', '--model', *network('mmdet').files(), '--port', server[1])
    assert result.returncode == 1 and str(server[1]) in result.stderr


def test_page(page, network, tmp_path):
    """Upload, choose a model, run: the picture, the rates and the energy are those of ``analyse``."""
    page.get_by_role('button', name='Run').click()
    page.get_by_text('no image: upload one first').wait_for()

    net = network('mmseg')
    page.locator('input[type=file][accept="image/*"]').set_input_files(image_of(net))
    page.get_by_label('Model').click()
    page.get_by_role('option', name='mmseg_SFA').click()
    page.get_by_role('button', name='Run').click()
    expected = analyse(inference(*net.files(), device='cpu'), image_of(net))
    page.locator('#summary', has_text='mJ').wait_for()
    assert f'{expected.energy[-1][3]} mJ for this image' in page.locator('#summary').inner_text()
    for table, rows in (('#rates', expected.rates), ('#energy', expected.energy)):
        shown = page.locator(table).inner_text()
        assert all(str(cell) in shown for row in rows for cell in row)
    for element, picture in (('#prediction img', expected.prediction), ('#spikes img', expected.spikes)):
        answer = page.request.get(page.locator(element).get_attribute('src'))
        found = cv2.imdecode(np.frombuffer(answer.body(), np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(found[..., ::-1], picture)

    page.get_by_label('Model').click()
    page.get_by_role('option', name='mmdet_SFA').click()
    page.get_by_role('button', name='Run').click()
    page.locator('#rates', has_text='roi_head.mask_head').wait_for()
    page.screenshot(path=tmp_path / 'page.png', full_page=True)
    assert cv2.imread(str(tmp_path / 'page.png')).std() > 5
