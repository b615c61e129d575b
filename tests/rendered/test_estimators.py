import numpy as np
import pytest
import torch

from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.network import embed, estimate_statistics
from vec2face.rendered.estimators import SIZE, equalise


def within(features, labels):
    """Covariance of the rows about their label's mean, by the definition."""
    rows = [f - features[labels == n].mean(0) for f, n in zip(features, labels, strict=True)]
    return np.cov(np.array(rows).T)


@pytest.mark.parametrize("power", [0.25, 0.375, 0.5])
def test_equalise_turns_the_within_class_covariance_to_its_power(power):
    torch.manual_seed(0)
    net = IResNet((1, 1, 1, 1), (4, 4, 4, 6), embedding=8, image_size=SIZE, dropout=0.0)
    torch.nn.init.normal_(net.features.bias)
    images = np.random.default_rng(0).integers(0, 256, (90, SIZE, SIZE, 3), np.uint8)
    labels = np.repeat(np.arange(30), 3)
    estimate_statistics(net, images)
    before = embed(net, images).astype(np.float64)

    equalise(net, images, labels, power)

    after = embed(net, images).astype(np.float64)
    assert np.isclose(after.std(), before.std(), rtol=1e-4)
    assert np.allclose(after.mean(0), 0, atol=1e-4)
    # C -> C^(-p) C C^(-p) = C^(1 - 2p), up to one factor
    values, vectors = np.linalg.eigh(within(before, labels))
    wanted = (vectors * values ** (1 - 2 * power)) @ vectors.T
    found = within(after, labels)
    assert np.allclose(found / np.trace(found), wanted / np.trace(wanted), atol=1e-4)
