"""The first step of the demo; the others are the tools that their own tests run."""

import dataclasses

import pytest
from conftest import ROOT, load_tool

from cellseg_mm import weights


@pytest.fixture
def demo(monkeypatch):
    """The tool's module; ``ran`` lists the tools that it starts."""
    module = load_tool('demo')
    module.ran = []
    monkeypatch.setattr(module, 'run', lambda *arguments: module.ran.append(arguments) or 5.0)
    return module


@pytest.mark.parametrize('digest', [None, '0' * 64])
def test_real_tissue_comes_first_if_there_is_a_shipped_model(demo, tmp_path, monkeypatch, capsys, digest):
    model = dataclasses.replace(weights.MODELS[weights.DEFAULT], digest=digest)
    monkeypatch.setattr(weights, 'MODELS', {weights.DEFAULT: model})
    demo.show_real_cells(tmp_path)
    printed = capsys.readouterr().out
    if digest is None:
        assert not demo.ran and printed.count('\n') == 1 and 'not part of this version yet' in printed
    else:
        assert demo.ran[0][1:4] == ('predict', ROOT / 'data/samples', '--out') and str(tmp_path) in printed
