"""Arguments that the tools share: help with an example, and a config that comes from the checkpoint."""

import argparse
import re
import shlex

import pytest
import torch
from conftest import ROOT
from tiny_detector import WIDTH

from cellseg_mm.arguments import add_config_and_checkpoint, config_of_test
from cellseg_mm.engine.detector import input_pipeline

TOOLS = ['ablate', 'analyze_errors', 'app', 'demo', 'export', 'model_card', 'plot_curves', 'predict', 'report', 'test']
TOOLS += ['train', 'submission', 'submission:make', 'submission:check', 'submission:score']


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


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_config_and_checkpoint(parser)
    args = parser.parse_intermixed_args(list(map(str, arguments)))
    args.cfg_options = {'model.test_cfg.rcnn.max_per_img': 7}
    return args


def test_a_checkpoint_is_enough(tiny_checkpoint):
    args = parse(tiny_checkpoint)
    cfg, content = config_of_test(args)
    assert args.config is None and cfg.load_from == str(tiny_checkpoint)
    config = ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'
    other, _ = config_of_test(parse(config, tiny_checkpoint))
    facts = cfg.model.data_preprocessor.mean, cfg.test_dataloader.dataset.metainfo.classes
    assert facts == (other.model.data_preprocessor.mean, other.test_dataloader.dataset.metainfo.classes)
    assert cfg.model.test_cfg.rcnn.max_per_img == other.model.test_cfg.rcnn.max_per_img == 7
    assert facts[1] == tuple(content['meta']['dataset_meta']['classes'])
    assert (cfg.model.backbone.base_channels, other.model.backbone.get('base_channels', 64)) == (WIDTH // 2, 64)
    assert input_pipeline(cfg) == input_pipeline(other)


@pytest.mark.parametrize(
    ('meta', 'expected'), [({}, 'best.py'), (dict(experiment_name='my_row_20261128_101500'), 'my_row.py')]
)
def test_the_config_keeps_its_name(tiny_checkpoint, tmp_path, meta, expected):
    content = torch.load(tiny_checkpoint, weights_only=False)
    content['meta'].pop('experiment_name', None)
    content['meta'].update(meta)
    torch.save(content, tmp_path / 'best.pth')
    cfg, _ = config_of_test(parse(tmp_path / 'best.pth'))
    assert cfg.filename == expected


def test_the_runtime_of_a_checkpoint_is_not_run(tiny_checkpoint, tmp_path):
    """Hooks, evaluators and data sets of a stranger's config could be any program."""
    content = torch.load(tiny_checkpoint, weights_only=False)
    content['meta']['cfg'] += "\ncustom_hooks = [dict(type='os.abort')]\ntest_evaluator = dict(type='os.abort')\n"
    torch.save(content, tmp_path / 'x.pth')
    cfg, _ = config_of_test(parse(tmp_path / 'x.pth'))
    assert 'os.abort' not in cfg.pretty_text and cfg.custom_hooks and cfg.test_evaluator.type == 'CellMetric'
