"""An energy report as one self-contained page: sortable layers, firing rates as bars, spike maps of an example image."""

import base64
import html
import io
from pathlib import Path

import numpy as np

from .energy import FORMULAS, NOT_COUNTED, EnergyReport
from .report import energy, number, ratio

COLUMNS = (
    ('name', 'layer', 'text'),
    ('op', 'operation', 'text'),
    ('fed', 'fed by', 'text'),
    ('steps', 'T', 'count'),
    ('levels', 'D', 'count'),
    ('macs', 'MACs', 'count'),
    ('firing_rate', 'firing rate', 'rate'),
    ('nonzero', 'non-zero', 'share'),
    ('sops', 'SOPs', 'count'),
    ('exact_sops', 'exact SOPs', 'count'),
    ('energy_mj', 'mJ', 'energy'),
    ('exact_energy_mj', 'exact mJ', 'energy'),
    ('twin_energy_mj', 'twin mJ', 'energy'),
)

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1400px; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .6em 0 1.6em }
td, th { padding: 2px 9px; border-bottom: 1px solid #ddd }
td { white-space: nowrap }
th { background: #f3f3f3 }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
#layers th { cursor: pointer; position: sticky; top: 0 }
#layers th[aria-sort=ascending]::after { content: " \\25b2" }
#layers th[aria-sort=descending]::after { content: " \\25bc" }
tr.floats td { background: #fdecea }
.bar { display: grid; grid-template-columns: 26em 1fr; align-items: center }
.bar span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; font-size: 12px }
.bar i { display: block; height: 11px; background: #3b6fb6 }
.bar i.silent { background: #c0392b; min-width: 3px }
figure { display: inline-block; margin: 0 12px 12px 0; vertical-align: top }
figure img { height: 190px; image-rendering: pixelated }
figcaption { font-size: 12px; max-width: 19em; overflow-wrap: anywhere }
.scroll { overflow-x: auto }
code { background: #f3f3f3 }
"""

SCRIPT = """
const table = document.getElementById('layers'), body = table.tBodies[0];
for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
  head.addEventListener('click', () => {
    const down = head.getAttribute('aria-sort') !== 'descending' && head.classList.contains('n')
      || head.getAttribute('aria-sort') === 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    const key = row => row.cells[column].dataset.value;
    const numeric = head.classList.contains('n');
    const rows = [...body.rows].sort((a, b) => numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
    if (down) rows.reverse();
    body.append(...rows);
  });
}
"""


def _format(value, form: str) -> str:
    if value is None:
        return '-'
    if form == 'rate':
        return f'{value:.4f}'
    if form == 'share':
        return f'{value:.1%}'
    if form == 'energy':
        return energy(value)
    return number(value) if form == 'count' else html.escape(str(value))


def _table(header: list[str], rows: list[list[str]], attributes: str = '') -> str:
    """A table whose first column is text and the others numbers."""
    cells = ''.join(f'<th{" class=n" if i else ""}>{html.escape(h)}</th>' for i, h in enumerate(header))
    body = ''.join(
        '<tr>' + ''.join(f'<td{" class=n" if i else ""}>{html.escape(c)}</td>' for i, c in enumerate(row)) + '</tr>'
        for row in rows
    )
    return f'<table{attributes}><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>'


def _layers(report: EnergyReport) -> str:
    head = ''.join(f'<th class={"t" if form == "text" else "n"}>{title}</th>' for _, title, form in COLUMNS)
    rows = []
    for layer in report.layers:
        cells = []
        for key, _, form in COLUMNS:
            value = layer[key] if layer[key] is not None else ('' if form == 'text' else -1)
            sort = html.escape(str(value), quote=True)
            cells.append(
                f'<td class={"t" if form == "text" else "n"} data-value="{sort}">{_format(layer[key], form) or "(model)"}</td>'
            )
        rows.append(f'<tr class="{layer["fed"].split()[0]}">{"".join(cells)}</tr>')
    return f'<table id=layers><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _bars(neurons: list[dict]) -> str:
    largest = max((n['firing_rate'] for n in neurons), default=0) or 1
    bars = []
    for n in neurons:
        silent = ' class=silent' if n['firing_rate'] == 0 else ''
        title = html.escape(
            f'{n["name"]} ({n["type"]}): {n["firing_rate"]:.4f} spikes, {n["nonzero"]:.1%} non-zero', quote=True
        )
        width = 100 * n['firing_rate'] / largest
        bars.append(
            f'<div class=bar title="{title}"><span>{html.escape(n["name"])} {n["firing_rate"]:.3f}</span>'
            f'<i{silent} style="width:{width:.2f}%"></i></div>'
        )
    return f'<div id=rates>{"".join(bars)}</div>'


def png_uri(image: np.ndarray) -> str:
    """A picture, uint8 RGB [H, W, 3] or values in [0, 1] [H, W] (drawn in viridis), as a data URI."""
    from matplotlib import colormaps
    from PIL import Image

    if image.ndim == 2:
        image = (colormaps['viridis'](image)[..., :3] * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format='PNG')
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _figures(image: np.ndarray | None, maps: dict[str, np.ndarray]) -> str:
    figures = []
    if image is not None:
        figures.append(f'<figure><img alt="example image" src="{png_uri(image)}"><figcaption>image</figcaption></figure>')
    for name, values in maps.items():
        top = float(values.max())
        caption = f'{html.escape(name)}<br>mean count, 0 to {top:.3g}'
        picture = png_uri(values / top if top else values)
        figures.append(f'<figure><img alt="spike map" src="{picture}"><figcaption>{caption}</figcaption></figure>')
    return f'<div id=maps>{"".join(figures)}</div>'


def _origin(info: dict) -> str:
    """The network's name, from a report that has it."""
    text = ''.join(f' {key.capitalize()}: {info[key]}.' for key in ('config', 'checkpoint') if info.get(key))
    text += ' Counted as it is deployed: folded.' if info.get('deployed') else ''
    metric = info.get('metric')
    return text + (f' {metric["name"]}: {metric["value"]:g}.' if metric else '')


def to_html(report: EnergyReport, image: np.ndarray | None = None, maps: dict[str, np.ndarray] | None = None) -> str:
    """The page.

    Args:
        image: Example image, uint8 RGB [H, W, 3].
        maps: Spikes of the example image: name -> mean count over channels and steps [H, W].
    """
    info = report.info
    stages = [
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
        for r in (*report.stages, report.total)
    ]
    extra = []
    if report.quantised:
        q = report.quantised
        bits = ', '.join(map(str, q['bits'])) or '-'
        extra.append(['quantised twin', f'{bits} bit', energy(q['energy_mj']), energy(q['twin_energy_mj']), ratio(q['ratio'])])
    if report.memory:
        m = report.memory
        extra.append(['with memory access', '', energy(m['energy_mj']), energy(m['twin_energy_mj']), ratio(m['ratio'])])
    title = f'Energy of {Path(str(info.get("config", "a network"))).stem}'
    unknown = ''.join(
        f'<li><code>{html.escape(r["op"])}</code> in {html.escape(r["module"] or "(model)")}: {number(r["elements"])}</li>'
        for r in report.unknown
    )
    parts = [
        f'<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(title)}</title>',
        f'<style>{STYLE}</style></head><body><h1>{html.escape(title)}</h1>',
        f'<p>Means per image over {report.images}. {html.escape(report.preset["name"])}: {report.preset["mac"]} pJ a MAC, ',
        f'{report.preset["ac"]} pJ an accumulate.{html.escape(_origin(info))}</p>',
        '<h2>Totals</h2>',
        _table(['', 'MACs', 'SOPs', 'exact SOPs', 'mJ', 'exact mJ', 'twin mJ', 'twin / this', 'exact'], stages, ' id=stages'),
        _table(['other estimates', '', 'mJ', 'twin mJ', 'twin / this'], extra, ' id=estimates') if extra else '',
        f'<h2>Layers</h2><p>Click a column to sort. Layers that floats feed are red: {len(report.float_fed)} of ',
        f'{len(report.layers)}.</p><div class=scroll>{_layers(report)}</div>',
        f'<h2>Firing rates</h2><p>Mean spike count per neuron and step; red: silent.</p>{_bars(report.neurons)}',
        f'<h2>Spikes of an example image</h2>{_figures(image, maps or {})}' if maps else '',
        '<h2>How it is counted</h2><ul>' + ''.join(f'<li>{html.escape(f)}</li>' for f in FORMULAS) + '</ul>',
        f'<p>Not counted: {html.escape(NOT_COUNTED)}. What of it was seen:</p>',
        _table(
            ['not billed', 'calls', 'output elements'],
            [[f'{r["category"]}: {r["op"]}', number(r['calls']), number(r['elements'])] for r in report.not_billed],
        ),
        f'<h2>Unknown operations</h2><ul id=unknown>{unknown}</ul>' if unknown else '<p>No unknown operation on floats.</p>',
        f'<script>{SCRIPT}</script></body></html>',
    ]
    return ''.join(parts)
