"""ResNet and ResNeXt with an attention module after each stage or inside each residual block."""

from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmdet.models.backbones.resnext import Bottleneck as ResNeXtBottleneck
from mmdet.models.layers import ResLayer
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cellseg_mm.models.layers import build_attention


class _AttentionBlock:
    """Mixin for mmdet's residual blocks: attention on the residual branch, after the last norm, before the add."""

    def __init__(self, *args, attention: str | dict, planes: int, **kwargs) -> None:
        super().__init__(*args, planes=planes, **kwargs)
        self.attention = build_attention(attention, planes * self.expansion)

    def forward(self, x: Tensor) -> Tensor:
        if self.with_cp and x.requires_grad:
            residual = checkpoint(self.residual, x, use_reentrant=False)
        else:
            residual = self.residual(x)
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(identity + self.attention(residual))


class AttentionBasicBlock(_AttentionBlock, BasicBlock):
    """The block of ResNet-18 and -34 with attention before the add."""

    def residual(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        return self.norm2(self.conv2(out))


class AttentionBottleneck(_AttentionBlock, Bottleneck):
    """The block of ResNet-50, -101 and -152 with attention before the add."""

    def residual(self, x: Tensor) -> Tensor:
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        return self.norm3(self.conv3(out))


class AttentionResNeXtBottleneck(AttentionBottleneck, ResNeXtBottleneck):
    """The block of ResNeXt with attention before the add."""


class _WithAttention:
    """Mixin for mmdet's ResNet. Weights of a plain backbone load with only the attention's keys missing.

    Attention is never frozen: it and its BatchNorm train even under ``frozen_stages`` and ``norm_eval``, because they
    are new where the rest is pretrained.

    Args:
        depth (int): As for the backbone without attention.
        attention (str | dict): See :func:`build_attention`.
        placement (str): ``'stage'``, one module after each stage, as in the course report; or ``'block'``, one in each
            residual block before the add, as in the papers on CBAM, SE and ECA.
        **kwargs: As for the backbone without attention. ``dcn`` and ``plugins`` need ``'stage'``.

    Raises:
        ValueError: For another ``placement``, or for ``dcn`` or ``plugins`` with ``'block'``.
    """

    _attention_blocks = {}

    def __init__(self, depth: int, *, attention: str | dict, placement: str = 'stage', **kwargs) -> None:
        if placement not in ('stage', 'block'):
            raise ValueError(f"placement must be 'stage' or 'block', not {placement!r}")
        if placement == 'block' and (kwargs.get('dcn') or kwargs.get('plugins')):
            raise ValueError("placement='block' cannot be combined with dcn or plugins")
        # ResNet's constructor calls make_res_layer, which reads these two
        self.attention = attention
        self.placement = placement
        super().__init__(depth=depth, **kwargs)
        if placement == 'stage':
            # beside layer1..layer4, not inside them, so that names and what frozen_stages freezes stay as in ResNet
            widths = [self.base_channels * 2**stage * self.block.expansion for stage in range(self.num_stages)]
            self.stage_attention = nn.ModuleList(build_attention(attention, width) for width in widths)
        self._unfreeze_attention()

    def make_res_layer(self, block: type, **kwargs) -> ResLayer:
        """Make one stage; its blocks have attention if ``placement`` is ``'block'``."""
        if self.placement == 'block':
            return super().make_res_layer(block=self._attention_blocks[block], attention=self.attention, **kwargs)
        return super().make_res_layer(block=block, **kwargs)

    def attention_modules(self) -> list:
        """The attention modules from the input to the output."""
        if self.placement == 'stage':
            return list(self.stage_attention)
        return [module.attention for module in self.modules() if isinstance(module, _AttentionBlock)]

    def _unfreeze_attention(self) -> None:
        for module in self.attention_modules():
            module.requires_grad_(True)

    def train(self, mode: bool = True) -> nn.Module:
        """Set the training mode by ResNet's rules; attention follows ``mode``."""
        super().train(mode)
        for module in self.attention_modules():
            module.train(mode)
        self._unfreeze_attention()
        return self  # mmdet's returns None

    def forward(self, x: Tensor) -> tuple:
        """(N, 3, H, W) to a map (N, C, H / stride, W / stride) for each of ``out_indices``."""
        if self.placement == 'block':
            return super().forward(x)
        x = self.stem(x) if self.deep_stem else self.relu(self.norm1(self.conv1(x)))
        x = self.maxpool(x)
        outs = []
        for stage, (name, attention) in enumerate(zip(self.res_layers, self.stage_attention, strict=True)):
            x = attention(getattr(self, name)(x))
            if stage in self.out_indices:
                outs.append(x)
        return tuple(outs)


@MODELS.register_module(name=['AttentionResNet', 'CBAMResNet'])  # the configs use the second name
class AttentionResNet(_WithAttention, ResNet):
    """:class:`mmdet.models.ResNet` of depth 18, 34, 50, 101 or 152 with attention, see :class:`_WithAttention`."""

    _attention_blocks = {BasicBlock: AttentionBasicBlock, Bottleneck: AttentionBottleneck}


@MODELS.register_module()
class AttentionResNeXt(_WithAttention, ResNeXt):
    """:class:`mmdet.models.ResNeXt` of depth 50, 101 or 152 with attention, see :class:`_WithAttention`."""

    _attention_blocks = {ResNeXtBottleneck: AttentionResNeXtBottleneck}
