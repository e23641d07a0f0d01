"""Arguments that the tools share: help with an example."""

import re
import shlex

import pytest
from conftest import ROOT

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
