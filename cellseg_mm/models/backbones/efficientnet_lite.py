"""EfficientNet-Lite0, a small backbone that is fast on CPUs, with optional attention after its stages."""

import re

from mmcv.cnn import ConvModule
from mmdet.models.layers import InvertedResidual
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cellseg_mm.models.layers import SameConv2d, build_attention

# Kernel, stride, expansion, output channels and repeats of the blocks, by stage (strides 4, 8, 16 and 32), from
# https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/efficientnet_lite_builder.py
STAGES = (
    ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2)),
    ((5, 2, 6, 40, 2),),
    ((3, 2, 6, 80, 3), (5, 1, 6, 112, 3)),
    ((5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
)
STEM_CHANNELS = 32

# From the names of https://github.com/rwightman/gen-efficientnet-pytorch and its relatives, under which the ImageNet
# weights are published, to ours. The classifier's layers have no counterpart.
PUBLISHED_NAMES = (
    (r'_conv_stem\.', 'stem.conv.'),
    (r'_bn0\.', 'stem.bn.'),
    (r'_blocks\.(\d+)\._expand_conv\.', r'blocks.\1.expand_conv.conv.'),
    (r'_blocks\.(\d+)\._bn0\.', r'blocks.\1.expand_conv.bn.'),
    (r'_blocks\.(\d+)\._depthwise_conv\.', r'blocks.\1.depthwise_conv.conv.'),
    (r'_blocks\.(\d+)\._bn1\.', r'blocks.\1.depthwise_conv.bn.'),
    (r'_blocks\.(\d+)\._project_conv\.', r'blocks.\1.linear_conv.conv.'),
    (r'_blocks\.(\d+)\._bn2\.', r'blocks.\1.linear_conv.bn.'),
)


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite0: inverted residuals with ReLU6, without squeeze-and-excitation. 3.4 M parameters.

    The published ImageNet weights load as they are: their names are translated. They expect RGB input as
    ``(value - 127) / 128``, and TensorFlow's "same" padding, which pads strided convolutions on the right and at the
    bottom first. Attention is new where the rest is pretrained, so it trains even under ``frozen_stages`` and
    ``norm_eval``.

    Args:
        out_indices (tuple[int]): Stages whose maps are returned, 0 to 3: 24, 40, 112 and 320 channels at strides 4, 8,
            16 and 32.
        frozen_stages (int): The stem and the stages up to this one do not train; -1 freezes nothing.
        norm_eval (bool): Keep BatchNorm's running statistics as they are.
        norm_cfg (dict): Config of mmcv's norm layers; the weights were trained with eps 1e-3.
        attention (str | dict | None): The module after each stage, see :func:`build_attention`.
        init_cfg (dict | None): See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self,
        out_indices: tuple = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict | None = None,
        attention: str | dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        norm_cfg = norm_cfg or dict(type='BN', eps=1e-3)
        layer = dict(conv_cfg=dict(type=SameConv2d), norm_cfg=norm_cfg, act_cfg=dict(type='ReLU6'))
        self.stem = ConvModule(3, STEM_CHANNELS, 3, stride=2, **layer)
        self.blocks = nn.ModuleList()
        self.stage_ends = []  # number of blocks up to the end of each stage
        channels, widths = STEM_CHANNELS, []
        for stage in STAGES:
            for kernel_size, stride, expansion, width, repeats in stage:
                for repeat in range(repeats):
                    block = InvertedResidual(
                        channels,
                        width,
                        channels * expansion,
                        kernel_size=kernel_size,
                        stride=stride if repeat == 0 else 1,
                        with_expand_conv=expansion != 1,
                        **layer,
                    )
                    self.blocks.append(block)
                    channels = width
            self.stage_ends.append(len(self.blocks))
            widths.append(channels)
        self.stage_attention = None
        if attention:
            self.stage_attention = nn.ModuleList(build_attention(attention, width) for width in widths)
        self._register_load_state_dict_pre_hook(_translate_published_names)

    def forward(self, x: Tensor) -> tuple:
        """(N, 3, H, W) to a map (N, C, H / stride, W / stride) for each of ``out_indices``."""
        x, begin, outs = self.stem(x), 0, []
        for stage, end in enumerate(self.stage_ends):
            for block in self.blocks[begin:end]:
                x = block(x)
            if self.stage_attention is not None:
                x = self.stage_attention[stage](x)
            if stage in self.out_indices:
                outs.append(x)
            begin = end
        return tuple(outs)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Set the training mode, except for what ``frozen_stages`` and ``norm_eval`` keep fixed."""
        super().train(mode)
        if self.frozen_stages >= 0:
            for module in [self.stem, *self.blocks[: self.stage_ends[self.frozen_stages]]]:
                module.eval().requires_grad_(False)
        if mode and self.norm_eval:
            for module in [self.stem, *self.blocks]:
                for part in module.modules():
                    if isinstance(part, _BatchNorm):
                        part.eval()
        return self


def _translate_published_names(state_dict: dict, prefix: str, *_) -> None:
    """Rename the entries of published weights in place; other names are left alone."""
    for name in [name for name in state_dict if name.startswith(f'{prefix}_')]:
        for published, own in PUBLISHED_NAMES:
            match = re.match(published, name.removeprefix(prefix))
            if match:
                state_dict[prefix + match.expand(own) + name.removeprefix(prefix)[match.end() :]] = state_dict.pop(name)
                break
