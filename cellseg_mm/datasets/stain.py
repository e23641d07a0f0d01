"""Channel order, and whether labels lie on their cells, from the stain.

In H&E, nuclei are bluer than their surroundings: the mean of R - B inside cells lies below that outside. That held on
41 of 41 CoNSeP images in true colour (by 13 grey levels at least), where the plain mean of R - B did not separate.
"""

import numpy as np

# An image with a smaller difference does not vote.
MIN_DIFFERENCE = 1.0
# Of a mask of the cells with the image: at least 0.08, and 0.6 at the median, of the 41 images of CoNSeP; 0.33 and 0.79
# for 107 images of the Data Science Bowl. The limit is higher if the median is below WEAK_CORRELATION.
MIN_CORRELATION = 0.06
MIN_CORRELATION_IF_WEAK = 0.1
WEAK_CORRELATION = 0.2
# The share of the votes that decides for the whole data set.
MAJORITY = 2 / 3


def stain_difference(image: np.ndarray, cells: np.ndarray) -> float | None:
    """Mean of (first - third channel) inside cells minus that outside, in grey levels.

    Args:
        image (ndarray): (H, W, 3) uint8.
        cells (ndarray): (H, W) bool.

    Returns:
        float | None: Below 0 in true RGB, above 0 in BGR. None without a cell or without background.
    """
    if not cells.any() or cells.all():
        return None
    difference = image[..., 0].astype(np.int16) - image[..., 2]
    return float(difference[cells].mean() - difference[~cells].mean())


def channel_order(differences: list) -> tuple:
    """Channel order of a whole data set, by the majority of its images.

    Args:
        differences (list[float | None]): :func:`stain_difference` of each image.

    Returns:
        tuple: ``'rgb'`` or ``'bgr'``, and the reason in words. Undecided means ``'rgb'``: kept as stored.
    """
    rgb = sum(value is not None and value < -MIN_DIFFERENCE for value in differences)
    bgr = sum(value is not None and value > MIN_DIFFERENCE for value in differences)
    votes = f'nuclei are bluer than their surroundings in {rgb} images, redder in {bgr}, of {len(differences)}'
    if rgb + bgr == 0 or max(rgb, bgr) < MAJORITY * (rgb + bgr):
        return 'rgb', f'undecided, kept as stored: {votes}'
    return ('rgb' if rgb > bgr else 'bgr'), votes


def label_correlation(image: np.ndarray, cells: np.ndarray) -> tuple:
    """How labels and image match: correlations of the mask with brightness and with first - third channel.

    Args:
        image (ndarray): (H, W, 3) uint8.
        cells (ndarray): (H, W) bool.

    Returns:
        tuple: Two numbers, -1..1; 0 for a flat image. Empty without a cell or without background.
    """
    if not cells.any() or cells.all():
        return ()
    share, found = cells.mean(), []
    for values in (image.sum(axis=2, dtype=np.float32), np.subtract(image[..., 0], image[..., 2], dtype=np.float32)):
        difference = values[cells].mean() - values[~cells].mean()
        spread = values.std()
        found.append(float(difference * np.sqrt(share * (1 - share)) / spread) if spread else 0.0)
    return tuple(found)


def misplaced_labels(correlations: list) -> np.ndarray:
    """Indices of the images whose labels do not match their pixels, by the measure that separates best in the data set.

    Labels in other coordinates, or of another image, lie on cells as much as on background.

    Args:
        correlations (list[tuple]): :func:`label_correlation` of each of N images.

    Returns:
        ndarray: Int64, rising; only images with labels.
    """
    chosen = np.array([index for index, values in enumerate(correlations) if values], int)
    if not len(chosen):
        return chosen
    values = np.array([correlations[index] for index in chosen])
    medians = np.median(values, axis=0)
    best = np.abs(medians).argmax()
    limit = MIN_CORRELATION if abs(medians[best]) >= WEAK_CORRELATION else MIN_CORRELATION_IF_WEAK
    return chosen[values[:, best] * np.sign(medians[best] or 1) < limit]
