import numpy as np
import pytest
from mmdet.datasets.transforms import RandomFlip, Resize

from cellseg_mm.datasets.transforms import find_resize, resized_size


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize(
    'size', [dict(scale=(133, 80)), dict(scale=(80, 133)), dict(scale_factor=2.0), dict(scale_factor=(0.5, 1.3))]
)
def test_sizes_are_those_of_the_images_that_resize_gives(size, keep_ratio):
    resize = Resize(keep_ratio=keep_ratio, **size)
    for width, height in ((40, 33), (33, 87), (61, 61)):
        image = resize(dict(img=np.zeros((height, width, 3), np.uint8)))['img']
        (new_width, new_height), scale = resized_size(resize, width, height)
        assert (new_height, new_width) == image.shape[:2]
        assert scale == pytest.approx((new_width / width * new_height / height) ** 0.5, rel=0.02)


def test_a_pipeline_without_resize_leaves_the_size():
    resizes = [Resize(scale=(4, 4)), Resize(scale=(8, 8))]
    assert find_resize([RandomFlip(prob=0.5), *resizes]) is resizes[0]
    assert find_resize([RandomFlip(prob=0.5)]) is None
    assert resized_size(None, 7, 9) == ((7, 9), 1.0)
