"""A classifier of cells from their features, fitted in seconds, and what it is worth on cells that it has not seen."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import cross_entropy

# Of the squared weights of standardised features, for a loss that is a mean over cells.
L2 = 1e-2
MAX_STEPS = 200  # of L-BFGS
MAX_FOLDS = 5  # of cross-validation


def fit_classifier(features: np.ndarray, labels: np.ndarray, num_classes: int, l2: float = L2) -> tuple:
    """Multinomial logistic regression, in which all classes weigh the same.

    The mean over classes of the mean cross-entropy of their cells, + ``l2`` / 2 times the squared weights of the
    features scaled to mean 0 and variance 1, is minimised by L-BFGS from zero. It is convex, so the result does not
    depend on chance.

    Args:
        features (ndarray): (N, D) float32.
        labels (ndarray): (N,) int64, 0..K-1; a class without a cell gets a bias that rules it out.
        num_classes (int): K.
        l2 (float): Above 0.

    Returns:
        tuple: Weights (K, D) and biases (K,), float32, for features as they are given.
    """
    counts = np.bincount(labels, minlength=num_classes)
    taught = np.flatnonzero(counts)
    mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs = torch.from_numpy(((features - mean) / std).astype(np.float64))
    targets = torch.from_numpy(np.searchsorted(taught, labels))
    balance = torch.from_numpy(1 / (len(taught) * counts[labels].astype(np.float64)))
    weight = torch.zeros(len(taught), features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(taught), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MAX_STEPS, line_search_fn='strong_wolfe')

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        errors = cross_entropy(inputs @ weight.T + bias, targets, reduction='none')
        value = balance @ errors + l2 / 2 * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    all_weights = np.zeros((num_classes, features.shape[1]), np.float32)
    biases = np.full(num_classes, -1e4, np.float32)
    all_weights[taught] = weight.detach().numpy() / std
    biases[taught] = bias.detach().numpy() - all_weights[taught] @ mean
    return all_weights, biases


def classify(features: np.ndarray, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
    """(N,) int64, the likeliest class of each of (N, D) features."""
    return (features @ weights.T + biases).argmax(axis=1)


def held_out_classes(
    features: np.ndarray, labels: np.ndarray, groups: Sequence, num_classes: int, copies: int = 1
) -> np.ndarray:
    """The class of each cell by a classifier that has not seen its group: cross-validation with a fold for each group,
    or :data:`MAX_FOLDS` folds of whole groups.

    Args:
        features (ndarray): (copies, N, D) float32; the first copy is classified, all teach.
        labels (ndarray): (N,) int64.
        groups (Sequence): N values that are equal for cells of one group, such as an image; two groups or more.
        num_classes (int): K.
        copies (int): See ``features``.

    Returns:
        ndarray: (N,) int64.
    """
    folds = np.unique(groups, return_inverse=True)[1] % MAX_FOLDS
    found = np.empty(len(labels), np.int64)
    for fold in np.unique(folds):
        held_out = folds == fold
        teaching = features[:, ~held_out].reshape(-1, features.shape[-1])
        fitted = fit_classifier(teaching, np.tile(labels[~held_out], copies), num_classes)
        found[held_out] = classify(features[0, held_out], *fitted)
    return found
