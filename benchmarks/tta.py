#!/usr/bin/env python3
"""Test-time augmentation with 2 and with 8 views beside the plain detector, on a drawn piece of tissue at its own size.

With random weights each view gives the most cells allowed, speckled and never the same: the worst case of merging. A
checkpoint of the config finds cells. Memory is the peak of the resident size above that at the start. The last lines
compare 8 views with 2: memory, and seconds a view.
"""

import argparse
import functools
import logging

import numpy as np
import torch
from common import clock, measure, print_table
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from cellseg_mm.datasets.synthetic import draw_tissue
from cellseg_mm.engine.checkpoint import read_checkpoint
from cellseg_mm.engine.data_facts import checkpoint_data_facts, set_data_facts
from cellseg_mm.utils import PROJECT_ROOT, load_config

# rows of the table: the views are the combinations of these
VIEWS = {
    'plain': None,
    '2 views': dict(flips=[False, True], turns=[0]),
    '8 views': dict(flips=[False, True], turns=[0, 1, 2, 3]),
}


class Inference:
    """Predict one image at each call. The first call makes the model, in the measured process.

    Attributes:
        facts (Tensor): (2,) of the last call: cells, and the share of time outside the detector.
    """

    def __init__(self, model: ConfigDict, weights: dict | None, views: dict | None, image: np.ndarray) -> None:
        self.config, self.weights, self.views, self.image = model, weights, views, image
        self._inside = 0.0
        self.facts = torch.zeros(2, dtype=torch.float64).share_memory_()

    @functools.cached_property
    def model(self) -> torch.nn.Module:
        """Make the detector, or the model that shows it the views."""
        torch.manual_seed(0)
        detector = MODELS.build(self.config).eval()
        detector.init_weights()
        if self.weights:
            detector.load_state_dict(self.weights)
        predict = detector.test_step

        def timed_predict(data: dict) -> list:
            start = clock()
            samples = predict(data)
            self._inside += clock() - start
            return samples

        detector.test_step = timed_predict
        return MODELS.build(dict(type='CellTTAModel', module=detector, **self.views)) if self.views else detector

    def __call__(self) -> None:
        start, self._inside = clock(), 0.0
        size = self.image.shape[:2]
        sample = DetDataSample(metainfo=dict(ori_shape=size, img_shape=size, scale_factor=(1.0, 1.0)))
        bgr = torch.from_numpy(np.ascontiguousarray(self.image[..., ::-1].transpose(2, 0, 1)))
        with torch.no_grad():
            (sample,) = self.model.test_step(dict(inputs=[bgr], data_samples=[sample]))
        self.facts[:] = torch.tensor([len(sample.pred_instances), 1 - self._inside / (clock() - start)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default=str(PROJECT_ROOT / 'configs/demo/maskrcnn_r18_fpn_cbam.py'))
    parser.add_argument('--checkpoint', help='of the config (default: random weights)')
    parser.add_argument('--size', type=int, default=1000, help='height and width of the image in px')
    parser.add_argument('--repeats', type=int, default=3)
    args = parser.parse_args()
    init_default_scope('mmdet')
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    cfg = load_config(args.config)
    cfg.model.backbone.init_cfg = None
    cfg.model.data_preprocessor.update(mean=[127.5] * 3, std=[73.9] * 3)
    weights = None
    if args.checkpoint:
        checkpoint = read_checkpoint(args.checkpoint)
        set_data_facts(cfg, **checkpoint_data_facts(checkpoint, args.checkpoint))
        weights = checkpoint['state_dict']
    else:
        cfg.model.test_cfg.rcnn.score_thr = 0.0
    image, instance_map, _ = draw_tissue(np.random.default_rng(0), args.size, args.size)
    rows, results = [], {}
    for name, views in VIEWS.items():
        run = Inference(cfg.model, weights, views, image)
        seconds, memory = results[name] = measure(run, repeats=args.repeats, warm_up=1)
        found, outside = run.facts.tolist()
        rows.append([name, f'{found:.0f}', f'{seconds:.2f}', f'{memory:.0f}', f'{outside:.1%}'])
    print(f'{args.size}x{args.size} px, {instance_map.max()} cells, {"a" if weights else "no"} checkpoint')
    print_table(['', 'cells found', 's', 'MiB', 'outside the detector'], rows)
    (few_seconds, few_memory), (many_seconds, many_memory) = results['2 views'], results['8 views']
    print(f'memory_ratio {many_memory / few_memory:.2f}')
    print(f'ratio {many_seconds / few_seconds / 4:.2f}')


if __name__ == '__main__':
    main()
