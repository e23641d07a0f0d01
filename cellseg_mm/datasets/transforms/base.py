from abc import abstractmethod

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness


class RandomTransform(BaseTransform):
    """A transform that acts with probability ``prob``.

    Random draws are in separate methods, so that a test can pin them.

    Args:
        prob (float): Probability of acting, 0 to 1.
    """

    def __init__(self, prob: float) -> None:
        self.prob = prob

    @cache_randomness
    def draw_applied(self) -> bool:
        """Whether to act."""
        return np.random.rand() < self.prob

    @abstractmethod
    def apply(self, results: dict) -> None:
        """Act, in place."""

    def transform(self, results: dict) -> dict:
        """Act with the given probability."""
        if self.draw_applied():
            self.apply(results)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}({", ".join(f"{name}={value}" for name, value in vars(self).items())})'
