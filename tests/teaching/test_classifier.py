import numpy as np
import pytest

from cellseg_mm.teaching import classify, fit_classifier, held_out_classes


def clouds(counts, seed=0):
    """Gaussian clouds in 5 dimensions, as many points of each class as given; their centres are 1.5 apart."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(0, 1, (len(labels), 5)) * [1, 3, 0.1, 1, 1] + [0, 7, 0, 0, 0]
    features[:, 0] += 1.5 * labels
    return features.astype(np.float32), labels


def balanced_loss(parameters, features, labels, num_classes, l2):
    """The loss of the docstring, written anew in numpy: standardised weights and biases, flat."""
    weights, biases = np.split(parameters.reshape(num_classes, -1), [-1], axis=1)
    inputs = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    logits = inputs.astype(np.float64) @ weights.T + biases.T
    logits -= logits.max(axis=1, keepdims=True)
    errors = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    means = [errors[labels == label].mean() for label in range(num_classes)]
    return np.mean(means) + l2 / 2 * (weights**2).sum()


def test_the_fit_is_the_minimum_of_the_balanced_loss():
    features, labels = clouds([60, 30, 10])
    weights, biases = fit_classifier(features, labels, 3, l2=0.02)
    std, mean = features.std(axis=0) + 1e-6, features.mean(axis=0)
    found = np.concatenate([weights * std, (biases + weights @ mean)[:, None]], axis=1).astype(np.float64).ravel()
    least = balanced_loss(found, features, labels, 3, 0.02)
    for index in range(len(found)):
        for step in (-0.02, 0.02):
            moved = found.copy()
            moved[index] += step
            assert balanced_loss(moved, features, labels, 3, 0.02) > least - 1e-7


def test_more_cells_of_the_same_kind_do_not_outvote_a_rare_class():
    features, labels = clouds([40, 40])
    often = np.repeat(np.arange(80), np.where(labels == 0, 9, 1))
    # the standardisation must not move, so it is done before
    features = (features - features[often].mean(axis=0)) / features[often].std(axis=0)
    rare = fit_classifier(features[often], labels[often], 2)
    share = (classify(features, *rare) == labels)[labels == 1].mean()
    assert share > 0.7


def test_a_class_without_a_cell_is_never_given():
    features, labels = clouds([30, 30])
    fitted = fit_classifier(features, 2 * labels, 4)
    assert set(classify(features, *fitted)) == {0, 2}


@pytest.mark.parametrize('num_groups', [3, 12])
def test_held_out_cells_do_not_teach(num_groups):
    features, labels = clouds([60, 60])
    groups = np.arange(120) % num_groups
    found = held_out_classes(features[None], labels, groups, 2)
    assert (found == labels).mean() > 0.7
    wrong = np.where(groups % 5 == 1, 1 - labels, labels)  # all of the second fold
    again = held_out_classes(features[None], wrong, groups, 2)
    assert np.array_equal(again[groups % 5 == 1], found[groups % 5 == 1])
    assert not np.array_equal(again, found)
