"""An energy report as text, JSON and CSV."""

import csv
import json
from dataclasses import asdict
from pathlib import Path

from .costs import ADD_INT32
from .energy import FORMULAS, NOT_COUNTED, EnergyReport

FORMAT = 1  # of the JSON
CSV_COLUMNS = (
    'name',
    'op',
    'stage',
    'fed',
    'steps',
    'levels',
    'macs',
    'firing_rate',
    'nonzero',
    'max_count',
    'sops',
    'exact_sops',
    'mac_operations',
    'exact_mac_operations',
    'energy_mj',
    'exact_energy_mj',
    'twin_energy_mj',
)


def to_json(report: EnergyReport) -> dict:
    """Everything, as plain data. ``load_report`` reads it back."""
    return dict(format=FORMAT, **asdict(report), formulas=list(FORMULAS), not_counted=NOT_COUNTED)


def load_report(path: str | Path) -> dict:
    """A JSON report.

    Raises:
        ValueError: The file is none, or of another format.
    """
    try:
        data = json.loads(Path(path).read_text(encoding='utf-8'))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path} is no JSON: {error}') from error
    if not isinstance(data, dict) or data.get('format') != FORMAT or 'layers' not in data:
        raise ValueError(f'{path} is no energy report of format {FORMAT}: write it with get_energy.py --json')
    return data


def write_json(report: EnergyReport, path: str | Path) -> None:
    Path(path).write_text(json.dumps(to_json(report), indent=1), encoding='utf-8')


def write_csv(report: EnergyReport, path: str | Path) -> None:
    """One line per layer, counts per image."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, extrasaction='ignore')
        writer.writeheader()
        writer.writerows(report.layers)


def number(x: float | None) -> str:
    """1234567 -> '1.23 M'."""
    if x is None:
        return '-'
    for size, suffix in ((1e12, ' T'), (1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if abs(x) >= size:
            return f'{x / size:.3g}{suffix}' if abs(x) / size < 999.5 else f'{x / size:.0f}{suffix}'
    return f'{x:.3g}'


def energy(mj: float) -> str:
    """mJ with four digits; what is less than a nanojoule shows as 0."""
    return f'{mj:.4g}' if mj >= 1e-6 else '0'


def ratio(x: float | None) -> str:
    return '-' if x is None else f'{x:.2f}x'


def _columns(rows: list[list[str]], numeric_from: int) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        '  '.join(
            cell.ljust(width) if i < numeric_from else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def to_text(report: EnergyReport) -> str:
    """The report as the command line shows it."""
    preset = report.preset
    header = ['layer', 'operation', 'fed by', 'T', 'MACs', 'rate', 'non-zero', 'SOPs', 'exact', 'mJ', 'exact mJ']
    rows = [header]
    for r in report.layers:
        spikes = r['fed'] != 'floats'
        rows.append(
            [
                r['name'] or '(model)',
                r['op'],
                r['fed'],
                str(r['steps']),
                number(r['macs']),
                f'{r["firing_rate"]:.4f}' if r['firing_rate'] is not None else '-',
                f'{r["nonzero"]:.1%}' if r['nonzero'] is not None else '-',
                number(r['sops']) if spikes else '-',
                number(r['exact_sops']) if spikes else '-',
                energy(r['energy_mj']),
                energy(r['exact_energy_mj']),
            ]
        )
    totals = [['stage', 'MACs', 'SOPs', 'exact', 'mJ', 'exact mJ', 'twin mJ', 'twin / this', 'exact']]
    for r in (*report.stages, report.total):
        totals.append(
            [
                r['name'],
                number(r['macs']),
                number(r['sops']),
                number(r['exact_sops']),
                energy(r['energy_mj']),
                energy(r['exact_energy_mj']),
                energy(r['twin_energy_mj']),
                ratio(r['ratio']),
                ratio(r['exact_ratio']),
            ]
        )
    lines = [
        f'Means per image over {report.images} image{"s" if report.images > 1 else ""}; '
        f'{preset["name"]}: {preset["mac"]} pJ a MAC, {preset["ac"]} pJ an accumulate',
        '',
        *_columns(rows, 3),
        '',
        *_columns(totals, 1),
    ]
    if report.quantised:
        q = report.quantised
        lines += [
            '',
            f'Quantised twin ({", ".join(map(str, q["bits"])) or "no spike-fed layer,"} bit activations, 8 bit weights): '
            f'{energy(q["twin_energy_mj"])} mJ; this network at 8 bit weights, exact: {energy(q["energy_mj"])} mJ; '
            f'twin / this: {ratio(q["ratio"])}',
        ]
    if report.spikeyolo:
        s = report.spikeyolo
        lines += [
            '',
            f"As SpikeYOLO's authors count (layers that floats feed at {preset['ac'] * preset['mac']:.3g} pJ a MAC): "
            f'{energy(s["energy_mj"])} mJ; ordinary twin {energy(s["twin_energy_mj"])} mJ; twin / this: {ratio(s["ratio"])}',
        ]
    if report.memory:
        m = report.memory
        table = [['with memory access (mJ)', *m['components_mj'], 'sum']]
        table.append(['this network', *map(energy, m['components_mj'].values()), energy(m['energy_mj'])])
        table.append(['twin', *map(energy, m['twin_components_mj'].values()), energy(m['twin_energy_mj'])])
        lines += ['', *_columns(table, 1), f'twin / this: {ratio(m["ratio"])}']
    for b in report.low_bit:
        lines += [
            '',
            f'Weights of {b["bits"]} bit{"s" if b["bits"] > 1 else ""}: {b["layers"]} layers, '
            f'{number(b["weights"])} weights in {number(b["bytes"])}B instead of '
            f'{number(b["full_bytes"])}B; their accumulations as integer additions ({ADD_INT32} pJ), exact: '
            f'{energy(b["energy_mj"])} mJ instead of {energy(b["full_energy_mj"])} mJ',
        ]
    lines += ['', 'How it is counted:', *(f'- {line}' for line in FORMULAS), f'Not counted: {NOT_COUNTED}.']
    lines += ['', 'Seen and not billed, output elements per image:']
    lines += _columns([[f'- {r["category"]}: {r["op"]}', number(r['elements'])] for r in report.not_billed], 1)
    if report.unknown:
        lines += ['', 'UNKNOWN operations on floats, not in these numbers (output elements per image):']
        lines += [f'- {r["op"]} in {r["module"] or "(model)"}: {number(r["elements"])}' for r in report.unknown]
    else:
        lines += ['', 'No unknown operation on floats.']
    lines += ['', f'float-fed: {len(report.float_fed)} of {len(report.layers)} operations']
    lines += [f'- {name}' for name in report.float_fed]
    return '\n'.join(lines)
