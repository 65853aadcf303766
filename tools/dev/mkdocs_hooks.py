"""Additions to mkdocs: links to files outside docs/, docstrings with Sphinx roles, names made at import."""

import posixpath
import re
import runpy
from pathlib import Path
from textwrap import dedent

import griffe
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = re.compile(r'(\]\()((?:\.\./)+[^)\s#]+)(?=\))')


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Let links to files of the repository outside docs/ lead to copies, which are part of the site as text."""
    folder = posixpath.dirname(page.file.src_uri)

    def copied(match: re.Match) -> str:
        path = posixpath.normpath(posixpath.join('docs', folder, match[2]))
        if path.startswith('docs/') or not (ROOT / path).is_file():
            return match[0]  # a page, or nothing: for mkdocs to check
        copy = f'repository/{path}.txt'
        if files.get_file_from_path(copy) is None:
            files.append(File.generated(config, copy, abs_src_path=str(ROOT / path)))
        return match[1] + posixpath.relpath(copy, folder or '.')

    return OUTSIDE.sub(copied, markdown)


class PlainRoles(griffe.Extension):
    """Sphinx roles become code, ``.. math::`` a block, and an ``Example:`` the section whose lines griffe shows as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring is None:
            return
        text = re.sub(r':[a-z]+:`~?([^`]+)`', r'`\1`', obj.docstring.value)
        math = re.compile(r'^( *)\.\. math::\n((?:\1 +.*\n?)+)', re.MULTILINE)
        text = re.sub(r'^( *)Example:$', r'\1Examples:', text, flags=re.MULTILINE)
        obj.docstring.value = math.sub(lambda match: f'```latex\n{dedent(match[2]).rstrip()}\n```\n', text)


class DerivedNames(griffe.Extension):
    """The names that packages import by ``import_registered``, which griffe, who imports nothing, does not see."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        registered = runpy.run_path(str(ROOT / 'mmspike/utils/registered.py'))['registered']
        for init in ROOT.glob('mmspike/**/__init__.py'):
            if 'import_registered(' not in init.read_text():
                continue
            module = pkg['.'.join(init.relative_to(ROOT).parts[1:-1])]
            found = registered(module.path)
            for name, path, _ in found:
                module.set_member(name, griffe.Alias(name, f'{path}.{name}', parent=module))
            written = [name for name in module.exports or [] if isinstance(name, str)]
            module.exports = sorted({*written, *(r.name for r in found)})
