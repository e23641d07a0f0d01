"""Arguments that the tools share: help with an example."""

import argparse
import re
import shlex

import pytest
from conftest import ROOT

from cellseg_mm.arguments import at_least

TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('*.py') if path.stem != 'setup_env')  # without the package
TOOLS += ['submission:make', 'submission:check', 'submission:score']


@pytest.mark.parametrize('tool', TOOLS)
def test_help_ends_with_an_example_of_its_own_options(run_here, tool):
    if tool == 'app':
        pytest.importorskip('gradio')
    name, *command = tool.split(':')
    status, printed, _ = run_here(name, *command, '--help')
    assert not status
    text, _, example = printed.partition('\nexample:\n')
    words = shlex.split(example.strip(), comments=True)
    assert words[:2] == ['python', f'tools/{name}.py'] and words[2:][: len(command)] == command
    if not command and '{make' in text:
        _, text, _ = run_here(name, words[2], '--help')
    assert {word for word in words if word.startswith('--')} <= set(re.findall(r'--[a-z][a-z-]*', text))


def test_numbers_from_a_least_one_on():
    assert at_least(1)('1') == 1 and at_least(0)('07') == 7
    for text in ('0', '-1', '1.5', 'x', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f'{text}: must be a whole number from 1 on'):
            at_least(1)(text)


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('prepare_data', 'source --workers 0'),
        ('prepare_data', 'source --seed -1'),
        ('make_sample_data', 'out --seed -1'),
        ('browse_augmentation', 'x.py --out shown --images 0'),
        ('browse_augmentation', 'x.py --out shown --draws -1'),
        ('browse_augmentation', 'x.py --out shown --seed -1'),
        ('teach', 'cells --out x.pth --seed -1'),
        ('ablate', 'x.py --seeds 0 -1'),
        ('ablate', 'x.py --nproc 0'),
        ('submission', 'check x.zip --ids y.json --classes 0'),
    ],
)
def test_a_number_below_its_least_is_refused(run_here, monkeypatch, tmp_path, tool, arguments):
    monkeypatch.chdir(tmp_path)
    status, _, errors = run_here(tool, *arguments.split())
    option = re.findall(r'--\w+', arguments)[-1]
    assert status == 2 and re.search(rf'argument {option}: .*: must be a whole number from \d on$', errors.strip())
