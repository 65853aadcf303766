"""Packaging of mmspike.

The wheel carries ``configs``, ``tools`` and ``model-index.yml`` under ``mmspike/.mim``, where ``mim`` and
``_base_ = 'mmspike::...'`` look for them. They are copied straight into the build folder, which is a temporary one, so that
a build writes neither ``mmspike/.mim`` nor a ``build`` folder whose stale files would slip into the next wheel.
An editable install has no build folder: there ``mmspike/.mim`` holds links (ignored by git).
"""

import atexit
import os
import runpy
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build import build
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
NOT_PACKAGED = shutil.ignore_patterns('__pycache__', '*.pyc', '.*', 'dev')  # tools/dev serves the repository only
# mmcv, mmseg and imaug declare opencv-python, which needs the graphics library libGL. All opencv packages write the same folder
# cv2, and the one installed last counts. With pip that is opencv-contrib-python-headless, which needs no libGL: it installs
# packages of equal rank in reverse alphabetical order. imaug sets the limit; equal limits give equal versions.
HEADLESS = ['opencv-python<4.13', 'opencv-contrib-python-headless<4.13']


def parse_requirements(name):
    """Requirement strings of ``requirements/<name>.txt``, comments and blank lines left out."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (raw.split('#')[0].strip() for raw in lines) if line]


class BuildInTemporaryFolder(build):
    def initialize_options(self):
        super().initialize_options()
        self.build_base = tempfile.mkdtemp(prefix='mmspike-build-')
        atexit.register(shutil.rmtree, self.build_base, ignore_errors=True)


class BuildPyWithMim(build_py):
    def run(self):
        super().run()
        sources = [ROOT / entry for entry in MIM_ENTRIES if (ROOT / entry).exists()]
        if self.editable_mode:
            self.link_mim(sources)
        else:
            self.copy_mim(sources)

    def copy_mim(self, sources):
        mim = Path(self.build_lib, 'mmspike', '.mim')
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, mim / source.name, ignore=NOT_PACKAGED)
            else:
                shutil.copy2(source, mim / source.name)

    def link_mim(self, sources):
        mim = ROOT / 'mmspike' / '.mim'
        mim.mkdir(exist_ok=True)
        for source in sources:
            link = mim / source.name
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(source, mim), target_is_directory=source.is_dir())


readme = ROOT / 'README.md'
extras = {
    'mim': parse_requirements('mminstall'),
    'tests': parse_requirements('tests'),
    'optional': parse_requirements('optional'),
    'events': parse_requirements('events'),
    'docs': parse_requirements('docs'),
    'webui': parse_requirements('webui'),
}
extras['mim'] += HEADLESS
extras['all'] = sorted({requirement for requirements in extras.values() for requirement in requirements})

setup(
    name='mmspike',
    version=runpy.run_path(str(ROOT / 'mmspike' / 'version.py'))['__version__'],
    description='Spiking neural networks for dense prediction, as a plugin for OpenMMLab',
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    license_expression='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Operating System :: POSIX',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    # No upper bound: nothing is known to break above 3.13, and a cap in a published wheel cannot be lifted.
    python_requires='>=3.11',
    packages=find_packages(include=['mmspike', 'mmspike.*']),
    package_data={'mmspike': ['py.typed', '**/*.c', '**/*.h', 'weights/*']},
    install_requires=parse_requirements('runtime'),
    extras_require=extras,
    entry_points=dict(console_scripts=['mmspike = mmspike.cli:main']),
    cmdclass={'build': BuildInTemporaryFolder, 'build_py': BuildPyWithMim},
    zip_safe=False,
)
