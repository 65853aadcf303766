"""The fused neurons are the plain ones: no spike differs, gradients agree."""

import shutil
import weakref

import pytest
import torch

from mmspike import kernels
from mmspike.kernels import layout, library, operators
from mmspike.kernels.recompute import Signal, derived
from mmspike.models.neurons import IF, LIF, PLIF, SFA, SURROGATES, lif

LAYOUTS = dict(
    contiguous=lambda x: x,
    channels_last=lambda x: x.transpose(2, -1).contiguous().transpose(2, -1),
    time_inside=lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    every_second=lambda x: x.repeat_interleave(2, -1)[..., ::2],
    repeated=lambda x: x[:1].expand(x.shape),
)
NEURONS = [
    *(LIF(surrogate=s) for s in SURROGATES),
    LIF(tau=1.7, v_threshold=0.6, v_reset=-0.1),
    PLIF(tau=1.4),
    IF(),
    SFA(4),
    SFA(8, divisor=1),
]


def run(neuron, x, weight):
    """Output, and gradients of the input and of the neuron's parameters."""
    x = x.detach().requires_grad_()
    neuron = neuron.to(x.dtype)
    out = neuron(x)
    return out.detach(), torch.autograd.grad((out * weight).sum(), [x, *neuron.parameters()])


@pytest.fixture(autouse=True)
def _compiler():
    if not library.available():
        pytest.skip('needs a C compiler')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('neuron', NEURONS, ids=repr)
def test_equals_plain(neuron, layout, dtype):
    # more elements than a block of the kernel, and no multiple of it
    base = torch.randn(5, 3, 7, 11, 13, dtype=dtype) * 2 + 0.5
    x, weight = LAYOUTS[layout](base), LAYOUTS[layout](torch.randn_like(base))
    assert operators.usable(x)
    out, grads = run(neuron, x, weight)
    with kernels.use(False):
        assert not operators.usable(x)
        expected, expected_grads = run(neuron, x, weight)
    assert 0.05 < (expected > 0).double().mean() < 0.95
    assert torch.equal(out, expected)
    torch.testing.assert_close(grads, expected_grads)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('neuron', NEURONS, ids=repr)
def test_a_nan_membrane_gives_nan(neuron, dtype):
    """It never fires, but must reach the loss; a membrane that leaks or integrates stays NaN in later steps."""
    x = torch.randn(4, 2, 7, 90, dtype=dtype) * 2
    x[1, 0, 3, 5] = float('nan')
    out, grads = run(neuron, x, torch.ones_like(x))
    expected = torch.zeros_like(x, dtype=torch.bool)
    expected[slice(1, 2) if isinstance(neuron, SFA) else slice(1, None), 0, 3, 5] = True
    assert torch.equal(out.isnan(), expected)
    with kernels.use(False):
        plain, plain_grads = run(neuron, x, torch.ones_like(x))
    torch.testing.assert_close((out, grads), (plain, plain_grads), equal_nan=True, rtol=1e-5, atol=1e-5)


def test_starting_membrane_is_broadcast():
    x, weight = torch.randn(3, 64, 50, requires_grad=True), torch.randn(3, 64, 50)
    v = torch.rand(1, 50, requires_grad=True)
    ours = torch.autograd.grad((lif(x, v)[0] * weight).sum(), (x, v))
    with kernels.use(False):
        plain = torch.autograd.grad((lif(x, v)[0] * weight).sum(), (x, v))
    torch.testing.assert_close(ours, plain)


def test_other_dtypes_run_as_plain():
    assert not operators.usable(torch.zeros(2, dtype=torch.bfloat16))


def test_gradients_do_not_depend_on_threads():
    x, weight, threads = torch.randn(4, 60_000), torch.randn(4, 60_000), torch.get_num_threads()
    results = []
    try:
        for n in (1, 2):
            torch.set_num_threads(n)
            results.append(run(PLIF(), x, weight)[1])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_without_compiler_plain_pytorch_is_announced_once(monkeypatch, tmp_path):
    x, weight = torch.randn(3, 50), torch.randn(3, 50)
    expected = run(LIF(), x, weight)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CC', raising=False)
    library.library.cache_clear()
    try:
        with pytest.warns(UserWarning, match='plain PyTorch.*no C compiler') as record:
            results = [run(LIF(), x, weight) for _ in range(2)]
        assert len(record) == 1
    finally:
        library.library.cache_clear()
    for out, grads in results:
        assert torch.equal(out, expected[0])
        torch.testing.assert_close(grads, expected[1])


def test_a_compiler_of_several_words_is_split_and_glibcs_functions_are_optional(monkeypatch, tmp_path):
    """CC may name a wrapper and the compiler, 'ccache gcc'; other C libraries have no libmvec."""
    script = tmp_path / 'wrapper'
    real = shutil.which('cc') or shutil.which('gcc')
    script.write_text('#!/bin/sh\ncase "$*" in *-lmvec*) exit 1;; esac\nexec "$@" -O0\n')
    script.chmod(0o755)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setenv('CC', f'{script} {real}')
    x, weight = torch.randn(3, 50), torch.randn(3, 50)
    expected = run(LIF(), x, weight)
    library.library.cache_clear()
    try:
        assert library.available() and list((tmp_path / 'mmspike').rglob('*.so'))
        out, grads = run(LIF(), x, weight)
    finally:
        library.library.cache_clear()
    assert torch.equal(out, expected[0])
    torch.testing.assert_close(grads, expected[1])


def test_one_image_has_the_strides_of_channels_last():
    """By others of a dimension of 1 PyTorch takes it for contiguous, and orders it anew in every convolution."""
    x = torch.randn(1, 4, 5, 16).movedim(-1, 1)
    odd = x.as_strided(x.shape, (16, *x.stride()[1:]))
    assert torch.conv2d(odd, torch.randn(8, 16, 1, 1)).is_contiguous()
    found = layout.channels_last(odd)
    assert torch.equal(found, x) and found.data_ptr() == x.data_ptr()
    assert torch.conv2d(found, torch.randn(8, 16, 1, 1)).is_contiguous(memory_format=torch.channels_last)


def test_a_derived_recomputation_lets_its_tensors_go():
    """The graph keeps how a tensor is computed longer than what of."""
    compute, (kept,) = derived(torch.neg, Signal(torch.ones(3)).back())
    seen = weakref.ref(kept)
    del kept
    assert seen() is None and compute(torch.ones(2)).tolist() == [-1, -1]
