"""Fenced blocks and links of Markdown pages."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'!?\[[^]]*\]\(([^)\s]+)\)')


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; a fence that is not understood is an error."""
    text = page.read_text(encoding='utf-8')
    found = [Block(*match) for match in FENCE.findall(text)]
    fences = len(re.findall(r'^\s*```', text, re.MULTILINE))
    assert fences == 2 * len(found), f'{page}: {fences} fences and {len(found)} blocks'
    return found


def without_code(page: Path) -> str:
    """The text of a page without blocks and inline code."""
    text = re.sub(r'^\s*```.*?^\s*```$', '', page.read_text(encoding='utf-8'), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r'`[^`\n]*`', '', text)


def local_links(page: Path) -> list[str]:
    """Targets of links and images that are files, as they are written."""
    return [link for link in LINK.findall(without_code(page)) if not re.match(r'[a-z]+:|#', link)]
