import sys

import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS

from cellseg_mm import CellInferencer
from cellseg_mm.engine import run_config
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.utils import UserError

PLUGIN = """
from mmcv.transforms import BaseTransform
from mmdet.models.detectors import MaskRCNN
from mmdet.registry import MODELS, TRANSFORMS


@MODELS.register_module()
class PluginDetector(MaskRCNN):
    pass


@TRANSFORMS.register_module()
class PluginTransform(BaseTransform):
    def transform(self, results):
        return results
"""
CHANGES = dict(
    model=("type='MaskRCNN'", "type='PluginDetector'"),
    pipeline=("type='PackDetInputs'),", "type='PackDetInputs'), dict(type='PluginTransform'),"),
    nothing=('', ''),
)


@pytest.fixture
def save(tiny_checkpoint, tmp_path, monkeypatch):
    """Save the checkpoint of a model or an input with a part of a plugin, which its config imports."""
    (tmp_path / 'my_plugin.py').write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)

    def save(old, new):
        path, content = tmp_path / 'x.pth', read_checkpoint(str(tiny_checkpoint))
        text = content['meta']['cfg']
        assert old in text
        text = text.replace(old, new) if old else text
        content['meta']['cfg'] = f"{text}\ncustom_imports = dict(imports=['cellseg_mm', 'my_plugin'])\n"
        torch.save(content, path)
        path.with_suffix('.py').write_text(content['meta']['cfg'])
        return path

    yield save
    sys.modules.pop('my_plugin', None)
    for registry, name in ((MODELS, 'PluginDetector'), (TRANSFORMS, 'PluginTransform')):
        registry._module_dict.pop(name, None)


@pytest.mark.parametrize('part', ['model', 'pipeline'])
def test_a_checkpoint_that_needs_a_plugin_says_so(save, part):
    path = save(*CHANGES[part])
    message = (
        r'^\S*x\.pth: needs my_plugin \(custom_imports\), and nothing that a checkpoint names is imported; .*--config'
    )
    for use in (CellInferencer, lambda path: run_config.testing_config(str(path))):
        with pytest.raises(UserError, match=message) as raised:
            use(path)
        assert '\n' not in str(raised.value) and 'my_plugin' not in sys.modules
    detector = CellInferencer(path, config=path.with_suffix('.py'))
    assert 'my_plugin' in sys.modules
    assert CellInferencer(path).classes == detector.classes  # what is imported is known


def test_a_plugin_that_is_not_needed_is_no_hindrance(save):
    assert CellInferencer(save(*CHANGES['nothing'])).classes and 'my_plugin' not in sys.modules
