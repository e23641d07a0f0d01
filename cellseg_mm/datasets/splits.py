"""Training and validation splits of whole images, stratified by the classes of their cells."""

import numpy as np

NUM_CANDIDATES = 1000


def stratified_split(counts: np.ndarray, val_fraction: float, seed: int) -> np.ndarray:
    """Which images to validate on: of 1,000 random choices, the one whose class shares are nearest to even.

    Args:
        counts (ndarray): (N, C) cells of each image and class.
        val_fraction (float): Share of the images, above 0 and below 1; at least one image stays on each side.
        seed (int): The same seed and counts give the same split.

    Returns:
        ndarray: (N,) bool, True for validation.
    """
    num_images = len(counts)
    num_val = int(np.clip(round(num_images * val_fraction), 1, num_images - 1))
    rng = np.random.default_rng(seed)
    candidates = rng.permuted(np.tile(np.arange(num_images), (NUM_CANDIDATES, 1)), axis=1)[:, :num_val]
    shares = counts[candidates].sum(axis=1) / np.maximum(counts.sum(axis=0), 1)
    present = counts.sum(axis=0) > 0
    deviation = np.abs(shares - num_val / num_images)[:, present].max(axis=1, initial=0)
    split = np.zeros(num_images, bool)
    split[candidates[deviation.argmin()]] = True
    return split
