"""Everything about a GPU that a machine without one cannot tell, in a few minutes.

    python tools/benchmarks/gpu.py --minutes 8 --out work_dirs/gpu

Parts, in this order: the machine; neurons, then rows of modules, with kernels against plain PyTorch; bandwidth against a
copy; loss, gradients and spikes of whole networks against the CPU; time and memory of training steps against spikingjelly,
ReLU and plain PyTorch; torch.compile, once as a CUDA graph; the demo's training with FiniteLossHook and without; gaps
between launches; compute-sanitizer, if it is installed; blocks and warps of the kernels. Each part is a process of its own
with its share of the minutes: one that crashes, hangs or runs out of time is recorded and does not stop the others. After
every part OUT/gpu.json and OUT/gpu.md hold all that is known. The exit status is 1 if a check or a part failed. A goal that
is missed is reported, and is no failure.

Needed: torch with Triton, and these wheels (pip install --no-deps): onedl-mmengine, onedl-mmcv, addict, yapf, rich, termcolor,
markdown-it-py, mdurl, pygments, platformdirs, opencv-python-headless, packaging. mmcv needs no compiled operators. For the
comparison spikingjelly with einops, tqdm, scipy and matplotlib; for the demo onedl-mmdetection, torchvision, pycocotools,
shapely, scipy, six, matplotlib, terminaltables and, since Python 3.12, setuptools. Without a C compiler the neurons on the
CPU are plain PyTorch.

--tiny rehearses with tiny networks: python tools/benchmarks/gpu.py --device cpu --tiny
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')  # a process that has asked CUDA itself cannot be forked
REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(REPO / 'tools/benchmarks')]  # this checkout's mmspike, installed or not

import torch  # noqa: E402
from gpu_checks import kernels_against_pytorch, rows_against_pytorch  # noqa: E402
from gpu_demo import demo  # noqa: E402
from gpu_parts import Part, bandwidth, compiled, machine, numerics, speed  # noqa: E402
from gpu_tuning import launch_gaps, sanitizer, sweeps  # noqa: E402

#: part -> its share of the minutes; the most telling first
PARTS: dict[Callable[[Part], None], float] = {
    machine: 0.02,
    kernels_against_pytorch: 0.15,
    rows_against_pytorch: 0.05,
    bandwidth: 0.1,
    numerics: 0.12,
    speed: 0.2,
    compiled: 0.16,
    demo: 0.1,
    launch_gaps: 0.03,
    sanitizer: 0.04,
    sweeps: 0.03,
}


def child(function: Callable[[Part], None], part: Part) -> None:
    try:
        if part.cuda:
            torch.backends.cuda.matmul.allow_tf32 = False
        function(part)
    except Exception as error:  # whatever it is, it belongs into the report
        part.note('the part failed', check='FAILED', error=f'{type(error).__name__}: {error}', traceback=traceback.format_exc())


def run_part(function: Callable[[Part], None], args: argparse.Namespace, seconds: float) -> list[dict]:
    """The records of a part; one that ended by itself or was killed has a last one that says so."""
    file = args.out / f'{function.__name__}.jsonl'
    file.unlink(missing_ok=True)
    process = multiprocessing.get_context('fork').Process(
        target=child, args=(function, Part(file, args.device, args.tiny, seconds))
    )
    start = time.monotonic()
    process.start()
    process.join(1.5 * seconds + 20)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    if late or process.exitcode:
        reason = 'killed: it did not end in time' if late else f'the process ended with {process.exitcode}'
        records.append(dict(what='the part failed', check='FAILED', error=reason))
    return [*records, dict(what='seconds', value=round(time.monotonic() - start, 1))]


def to_markdown(report: dict) -> str:
    lines = ['# GPU', '']
    for name, records in report.items():
        lines += [f'## {name.replace("_", " ")}', '', '| | |', '|---|---|']
        for record in records:
            values = ', '.join(f'{k} {v}' for k, v in record.items() if k not in ('what', 'traceback'))
            lines.append(f'| {record["what"]} | {values} |'.replace('\n', ' '))
        lines.append('')
    return '\n'.join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=8.0, help='for all parts together (default 8)')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/gpu'), help='folder of the results (default work_dirs/gpu)')
    parser.add_argument('--parts', nargs='+', choices=[f.__name__ for f in PARTS], help='only these (default: all)')
    parser.add_argument('--device', default='cuda', help='default cuda')
    parser.add_argument('--tiny', action='store_true', help='tiny networks and tensors: a rehearsal')
    args = parser.parse_args()
    if args.minutes <= 0:
        parser.error(f'--minutes {args.minutes:g}: expected a positive number')
    if torch.device(args.device).type == 'cuda' and not torch.cuda.is_available():
        parser.error(
            f'--device {args.device}: torch {torch.__version__} finds no GPU; --device cpu --tiny rehearses without one'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    left, share = 60 * args.minutes, sum(PARTS.values())
    report: dict[str, list[dict]] = {}
    for function, weight in PARTS.items():
        if args.parts and function.__name__ not in args.parts:
            continue
        start = time.monotonic()
        records = report[function.__name__] = run_part(function, args, max(left, 0) * weight / share)
        left, share = left - (time.monotonic() - start), share - weight
        (args.out / 'gpu.json').write_text(json.dumps(report, indent=1))
        (args.out / 'gpu.md').write_text(to_markdown(report))
        failed = [
            f'{record["what"]} ({record["error"]})' if 'error' in record else record['what']
            for record in records
            if record.get('check') == 'FAILED'
        ]
        print(f'{function.__name__}: {len(records) - 1} records, {"FAILED: " + "; ".join(failed) if failed else "no failure"}')
    return int(any(record.get('check') == 'FAILED' for records in report.values() for record in records))


if __name__ == '__main__':
    sys.exit(main())
