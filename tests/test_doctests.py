"""The examples in the docstrings of the package give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import cellseg_mm

ROOT = Path(cellseg_mm.__file__).parents[1]
MODULES = [
    '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
    for path in sorted((ROOT / 'cellseg_mm').rglob('*.py'))
    if '>>>' in path.read_text('utf-8')
]


@pytest.mark.parametrize('name', MODULES)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


def test_examples_are_found():
    assert {f'cellseg_mm.structures.{name}' for name in ('run_length', 'instance_map', 'mask_target')} <= set(MODULES)
