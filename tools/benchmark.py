"""Time and memory of a network against others, side by side on this machine.

    python tools/benchmark.py --quick                    # the bars, with their limits; exit code 1 if one is missed
    python tools/benchmark.py --models espikeformer-m --sizes 224 800x1344 --levels 4 8
    python tools/benchmark.py --models metaspikeformer-15m -T 1 2 4 8 --against straightforward relu resnet50

Each network runs in a process of its own, so that peak memory (resident set; on CUDA what the allocator held) is its own,
and the processes take turns step by step, so that whatever else runs on the machine slows all of them alike. The time is
the least of the repetitions. Ratios are to

- straightforward: the same network as one writes it down first, see benchmarks/straightforward*.py;
- relu: the same network with ReLU in place of its neurons;
- any other name: a classifier of timm (must be installed) or mmpretrain, by its architecture's name there; for detectors a
  config of mmdet by its name, such as rtmdet_s_8xb32-300e_coco.

``--models query-decoder`` is that of the mask transformer, on drawn maps. ``--models spikeyolo-s`` and the other sizes are
whole detectors for 80 classes, from image to scores and boxes before NMS.

``--against-build DIR`` compares with the same network of another checkout, such as the state before a change.

Writes OUT.json and OUT.md.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / 'tools/benchmarks'))
from networks import DETECTORS, QUERY_DECODER, UnknownNetworkError, backbones, build  # noqa: E402

META = dict(model='metaspikeformer-15m', size='224', batch=4, T=4)
E = dict(model='espikeformer-m', size='224', batch=8, T=1)
LARGE = E | dict(size='800x1344', batch=1)
QUERIES = dict(model=QUERY_DECODER, size='512', batch=4, T=1)
MAX = dict(model='maxformer-10-384', size='224', batch=4, T=4)
# case, kind of step, against what, what, largest ratio allowed
BARS = [
    (META, 'train', 'straightforward', 'time', 0.40),
    (META, 'train', 'straightforward', 'memory', 0.40),
    (META, 'forward', 'straightforward', 'time', 0.50),
    (E, 'train', 'straightforward', 'time', 0.65),
    (E, 'train', 'straightforward', 'memory', 0.55),
    (E, 'train', 'caformer_s18', 'time', 1.0),
    (E, 'train', 'caformer_s18', 'memory', 0.8),
    (LARGE, 'train', 'straightforward', 'time', 0.22),
    (LARGE, 'train', 'straightforward', 'memory', 0.40),
    (MAX, 'train', 'straightforward', 'time', 0.40),
    (MAX, 'train', 'straightforward', 'memory', 0.40),
    (QUERIES, 'train', 'straightforward', 'memory', 0.50),
]
DEFAULTS = dict(T=None, levels=4, dtype='float32', device='cpu', with_cp=False, compile=False)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--quick', action='store_true', help='measure the bars only; cases given by other options are not looked at'
    )
    parser.add_argument(
        '--models',
        nargs='+',
        default=['metaspikeformer-15m', 'espikeformer-m'],
        metavar='ARCH',
        help='our networks, by their presets (default: metaspikeformer-15m espikeformer-m)',
    )
    parser.add_argument('--sizes', nargs='+', default=['224'], metavar='SIZE', help='pixels, 224 or 800x1344')
    parser.add_argument('-T', nargs='+', type=int, default=[None], help="time steps; default: the model's own")
    parser.add_argument('--levels', nargs='+', type=int, default=[4], metavar='D', help='levels of integer neurons')
    parser.add_argument(
        '--dtypes',
        nargs='+',
        default=['float32'],
        choices=['float32', 'tf32', 'bfloat16', 'float16'],
        help='tf32: float32 whose convolutions round to TF32 on CUDA; bfloat16, float16: autocast (default: float32)',
    )
    parser.add_argument('--devices', nargs='+', default=['cpu'], choices=['cpu', 'cuda'], help='default: cpu')
    parser.add_argument('--batch', type=int, default=4, help='images of a step (default 4)')
    parser.add_argument(
        '--against',
        nargs='*',
        default=['straightforward', 'relu'],
        metavar='NAME',
        help='what to compare with, see above; no name: nothing (default: straightforward relu)',
    )
    parser.add_argument('--against-build', metavar='DIR', type=Path, help='another checkout of this project to compare with')
    parser.add_argument('--with-cp', action='store_true', help='recompute blocks of our networks in the backward pass')
    parser.add_argument('--compile', action='store_true', help='torch.compile of our networks')
    parser.add_argument(
        '--kinds',
        nargs='+',
        default=['train', 'forward'],
        choices=['train', 'forward'],
        help='train: forward and backward; forward: in evaluation mode (default: both)',
    )
    parser.add_argument('--repeats', type=int, default=5, help='timed steps, after one to warm up (default 5)')
    parser.add_argument(
        '--clock',
        default='wall',
        choices=['wall', 'cpu'],
        help='cpu: CPU time of all threads of a step, which other work on the machine changes little (default: wall)',
    )
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='of each network (default: one a core)')
    parser.add_argument(
        '--out', type=Path, default=Path('work_dirs/benchmark'), help='results, without suffix (default: work_dirs/benchmark)'
    )
    args = parser.parse_args()
    if not args.quick:
        known = [*backbones(), *DETECTORS, QUERY_DECODER]
        if unknown := [name for name in args.models if name not in known]:
            parser.error(f'--models {" ".join(unknown)}: no such preset; there are {", ".join(known)}')
    if args.against_build and not (args.against_build / 'mmspike/__init__.py').is_file():
        parser.error(f'--against-build {args.against_build}: no checkout of this project, it has no mmspike/__init__.py')
    return args


# --- in the process of one network ---------------------------------------------------------------------------------------


def worker(case: dict, clock: str) -> None:
    """Makes one step for each line of standard input, and prints its seconds; the last line is the peak memory in MB."""
    import torch

    torch.manual_seed(0)
    device = torch.device(case['device'])
    model = build(case).to(device)
    if case['compile'] and case['against'] == 'ours':
        model = torch.compile(model)
    training = case['kind'] == 'train'
    model.train(training)
    height, width = (int(n) for n in (case['size'].split('x') * 2)[:2])
    images = torch.randn(case['batch'], 3, height, width, device=device)
    torch.backends.cudnn.allow_tf32 = case['dtype'] == 'tf32'
    halves = dict(bfloat16=torch.bfloat16, float16=torch.float16)
    half = torch.autocast(device.type, halves[case['dtype']]) if case['dtype'] in halves else contextlib.nullcontext()

    def step() -> None:
        with torch.set_grad_enabled(training), half:
            out = model(images)
            out = out[-1] if isinstance(out, (list, tuple)) else out
            loss = out.float().square().mean()
        if training:
            loss.backward()
            model.zero_grad(set_to_none=True)  # before the next forward pass, as mmengine's optimizer wrapper does
        if device.type == 'cuda':
            torch.cuda.synchronize()

    now = time.process_time if clock == 'cpu' else time.perf_counter
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print('ready', flush=True)
    for line in sys.stdin:
        if line.strip() == 'end':
            break
        gc.collect()
        start_time = now()
        step()
        print(now() - start_time, flush=True)
    if device.type == 'cuda':
        peak, start = torch.cuda.max_memory_reserved() / 2**20, 0.0
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(memory=peak, idle=start)), flush=True)


# --- in the process that compares ----------------------------------------------------------------------------------------


class Worker:
    """One network in a process of its own."""

    def __init__(self, case: dict, threads: int, clock: str, checkout: Path = REPO) -> None:
        # tensors of 2 MB on huge pages, for all alike
        env = os.environ | dict(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), THP_MEM_ALLOC_ENABLE='1')
        env['PYTHONPATH'] = os.pathsep.join([str(checkout.resolve()), *filter(None, [env.get('PYTHONPATH')])])
        command = [sys.executable, __file__, '--worker', json.dumps(case), clock]
        self.case = case
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        while self._read() != 'ready':  # libraries may print while they are imported
            pass
        self.times: list[float] = []

    def _read(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            from mmspike.utils.errors import UserError

            raise UserError(f'measuring {self.case} failed with exit code {self.process.wait()}, see above')
        return line.strip()

    def step(self) -> None:
        print('step', file=self.process.stdin, flush=True)
        self.times.append(float(self._read()))

    def end(self) -> dict:
        """Least time of a step in seconds (without the first), and memory in MB: the peak, and before the first step."""
        print('end', file=self.process.stdin, flush=True)
        result = json.loads(self._read())
        self.process.wait()
        seconds = min(self.times[1:] or self.times)
        return result | dict(time=seconds, images_per_second=self.case['batch'] / seconds, times=self.times)


def measure(
    case: dict, names: list[str], repeats: int, threads: int, clock: str, checkout: Path | None = None
) -> dict[str, dict]:
    """Results of ours, of the named ones and of another checkout's in one case, measured in turns."""
    workers = {name: Worker(case | dict(against=name), threads, clock) for name in ['ours', *names]}
    if checkout is not None:
        workers[f'build {checkout}'] = Worker(case | dict(against='ours'), threads, clock, checkout)
    for _ in range(repeats + 1):
        for worker in workers.values():
            worker.step()
    return {name: worker.end() for name, worker in workers.items()}


def describe(case: dict) -> str:
    parts = [case['model'], f'{case["size"]} px', f'batch {case["batch"]}']
    parts += [f'T {case["T"]}'] if case['T'] else []
    parts += [f'D {case["levels"]}'] if case['model'].startswith(('espike', *DETECTORS, QUERY_DECODER)) else []
    parts += [case[k] for k in ('dtype', 'device') if case[k] != DEFAULTS[k]]
    parts += [k for k in ('with_cp', 'compile') if case[k]]
    return ', '.join([*parts, case['kind']])


def machine() -> str:
    import torch

    cpu = platform.processor() or platform.machine()
    if os.path.exists('/proc/cpuinfo'):
        lines = Path('/proc/cpuinfo').read_text().splitlines()
        cpu = next((line.split(':')[1].strip() for line in lines if line.startswith('model name')), cpu)
    gpu = f', {torch.cuda.get_device_name()}' if torch.cuda.is_available() else ''
    return f'{cpu}, {os.cpu_count()} cores{gpu}; Python {platform.python_version()}, PyTorch {torch.__version__}'


def table(results: list[dict]) -> str:
    """Markdown table of all results with their ratios to ours."""
    lines = [
        '| network | against | seconds a step | images/s | peak memory, MB | time, ours / this | memory, ours / this |',
        '|---|---|---|---|---|---|---|',
    ]
    for entry in results:
        ours = entry['results']['ours']
        for name, r in entry['results'].items():
            ratios = '| |' if name == 'ours' else f'| {ours["time"] / r["time"]:.2f} | {ours["memory"] / r["memory"]:.2f} |'
            text = f'{r["time"]:.3f} | {r["images_per_second"]:.2f} | {r["memory"]:.0f}'
            lines.append(f'| {describe(entry["case"])} | {name} | {text} {ratios}')
    return '\n'.join(lines)


def bars(results: list[dict]) -> tuple[str, bool]:
    """Each bar with what was measured, and whether all hold."""
    lines, held = ['| bar | measured | limit | |', '|---|---|---|---|'], True
    for case, kind, against, quantity, limit in BARS:
        wanted = DEFAULTS | case | dict(kind=kind)
        entry = next(e for e in results if e['case'] == wanted)
        ratio = entry['results']['ours'][quantity] / entry['results'][against][quantity]
        held &= ratio <= limit
        verdict = 'held' if ratio <= limit else 'MISSED'
        lines.append(f'| {describe(wanted)}: {quantity} / {against} | {ratio:.2f} | {limit:.2f} | {verdict} |')
    return '\n'.join(lines), held


def plan(args: argparse.Namespace) -> list[tuple[dict, list[str], int]]:
    """The plan: cases, the names to compare with, and repetitions."""
    if args.quick:
        wanted: dict[str, tuple[dict, list[str]]] = {}
        for case, kind, against, _, _ in BARS:
            case = DEFAULTS | case | dict(kind=kind)
            names = wanted.setdefault(json.dumps(case), (case, []))[1]
            names += [against] if against not in names else []
        # the large images take most of the time: one step, after a first one at most
        return [(c, n, 1 if 'x' in c['size'] else args.repeats) for c, n in wanted.values()]
    cases = [
        DEFAULTS
        | dict(model=model, size=size, batch=args.batch, T=T, levels=levels, dtype=dtype, device=device, kind=kind)
        | dict(with_cp=args.with_cp, compile=args.compile)
        for model in args.models
        for size in args.sizes
        for T in args.T
        for levels in (args.levels if model.startswith(('espike', *DETECTORS, QUERY_DECODER)) else args.levels[:1])
        for dtype in args.dtypes
        for device in args.devices
        for kind in args.kinds
    ]
    return [(case, args.against, args.repeats) for case in cases]


def main(args: argparse.Namespace) -> int:
    results = []
    for case, names, repeats in plan(args):
        results.append(dict(case=case, results=measure(case, names, repeats, args.threads, args.clock, args.against_build)))
        print(table(results[-1:]), flush=True)
    text, held = f'{machine()}; {args.threads} threads, {args.clock} time\n\n{table(results)}\n', True
    if args.quick:
        verdicts, held = bars(results)
        print(verdicts)
        text = f'{text}\n{verdicts}\n'
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix('.json').write_text(
        json.dumps(dict(machine=machine(), threads=args.threads, clock=args.clock, results=results), indent=1)
    )
    args.out.with_suffix('.md').write_text(text)
    return 0 if held else 1


if __name__ == '__main__':
    if sys.argv[1:2] == ['--worker']:  # of the checkout that PYTHONPATH names; its memory shows whatever is imported
        try:
            worker(json.loads(sys.argv[2]), sys.argv[3])
        except UnknownNetworkError as error:
            sys.exit(str(error))
    else:
        sys.path.insert(0, str(REPO))  # this checkout's mmspike, installed or not
        from mmspike.cli import run

        run(parse_args, main, any_environment=True)
