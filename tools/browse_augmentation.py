#!/usr/bin/env python3
"""Draw training images before and after augmentation, with outlined cells, to check that the masks follow the image."""

import cv2
import numpy as np
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope

from cellseg_mm.arguments import at_least, tool_parser
from cellseg_mm.datasets import inner_datasets
from cellseg_mm.datasets.transforms import LoadCellAnnotations
from cellseg_mm.engine.data_facts import fill_from_prepared_data
from cellseg_mm.utils import load_config, one_line_errors, output_folder, write_atomically
from cellseg_mm.visualization.draw import contact_sheet, draw_outlines


def outlined(image: np.ndarray, masks: object, labels: np.ndarray, palette: list) -> np.ndarray:
    """An RGB image with its cells outlined, enlarged if it is much smaller than 256 px."""
    scale = max(1, round(256 / max(image.shape[:2])))
    return draw_outlines(image, masks, [palette[label] for label in labels], scale)


@one_line_errors
def main() -> None:
    parser = tool_parser(__doc__, 'python tools/browse_augmentation.py configs/maskrcnn_r50_fpn_cbam.py --out shown')
    parser.add_argument('config')
    parser.add_argument('--out', type=output_folder, required=True, help='folder for augmentation.png')
    parser.add_argument('--images', type=at_least(1), default=4, help='images to draw, one in each row (default: 4)')
    parser.add_argument('--draws', type=at_least(0), default=4, help='augmented versions of each image (default: 4)')
    parser.add_argument('--seed', type=at_least(0), default=0, help='random seed (default: 0)')
    parser.add_argument('--data-root', help="a prepared data set to use instead of the config's")
    args = parser.parse_args()
    cfg = load_config(args.config, dict(data_root=args.data_root) if args.data_root else None)
    init_default_scope('mmdet')
    fill_from_prepared_data(cfg)
    datasets = list(inner_datasets(DATASETS.build(cfg.train_dataloader.dataset)))
    images = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    palette = datasets[0].metainfo['palette']

    rows = []
    # spread over the data set, with the odd images at the start of sample data
    for number in np.linspace(0, len(images) - 1, min(args.images, len(images))).astype(int):
        dataset, index = images[number]
        info = LoadCellAnnotations()(dataset.get_data_info(index))
        stored = cv2.imread(info['img_path'])[..., ::-1]
        row = [outlined(stored, info['gt_masks'], info['gt_bboxes_labels'], palette)]
        for epoch in range(args.draws):
            dataset.set_randomness(args.seed, epoch)
            item = dataset[index]
            image = np.ascontiguousarray(item['inputs'].permute(1, 2, 0).numpy()[..., ::-1])
            instances = item['data_samples'].gt_instances
            row.append(outlined(image, instances.masks, instances.labels.numpy(), palette))
        rows.append(row)
    path = args.out / 'augmentation.png'
    titles = ['stored', *(f'epoch {epoch + 1}' for epoch in range(args.draws))]
    write_atomically(path, cv2.imencode('.png', contact_sheet(rows, titles)[..., ::-1])[1].tobytes())
    print(f'written to {path}')


if __name__ == '__main__':
    main()
