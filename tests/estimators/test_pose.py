"""6DRepNet: rotations and angles against SciPy, the network against a plain functional account."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from vec2face.estimators.pose import INPUT_SIZE, euler_angles, load_pose, rotation_matrices
from vec2face.runtime.files import InputError

LAYERS = [[(8, 1)], [(8, 1), (8, 2)], [(16, 1)], [(16, 1), (16, 2), (16, 1)], [(24, 1)]]


def test_six_numbers_become_the_rotation_of_gram_schmidt():
    six = torch.randn(50, 6, dtype=torch.float64)
    found = rotation_matrices(six).numpy()
    for matrix, (a, b) in zip(found, six.numpy().reshape(-1, 2, 3), strict=True):
        q, r = np.linalg.qr(np.stack([a, b], 1))
        q = q * np.sign(np.diag(r))
        np.testing.assert_allclose(matrix[:, :2], q, atol=1e-12)
        np.testing.assert_allclose(matrix[:, 2], np.cross(q[:, 0], q[:, 1]), atol=1e-12)


def test_angles_are_those_of_scipy():
    rotations = Rotation.random(200, random_state=0)
    found = euler_angles(torch.from_numpy(rotations.as_matrix())).numpy()
    roll_yaw_pitch = rotations.as_euler("ZYX", degrees=True)
    np.testing.assert_allclose(found[:, ::-1], roll_yaw_pitch, atol=1e-9)


@pytest.mark.parametrize("yaw", [90.0, -90.0])
def test_straight_to_a_side_is_finite(yaw):
    matrix = torch.from_numpy(Rotation.from_euler("ZYX", [0, yaw, 20], degrees=True).as_matrix())
    matrix[0, 0] = matrix[1, 0] = 0
    matrix = matrix[None].requires_grad_()
    angles = euler_angles(matrix)
    assert angles[0].tolist() == pytest.approx([20, yaw, 0], abs=1e-6)
    angles.sum().backward()
    assert torch.isfinite(matrix.grad).all()


def trained_weights():
    """A checkpoint as it is trained: three branches a block, each behind a batch norm."""
    draw = torch.Generator().manual_seed(2)
    w, before = {}, 3

    def norm(name, size):
        u = torch.rand(4, size, generator=draw)
        w[f"{name}.weight"], w[f"{name}.bias"] = 0.4 + u[0] / 2, u[1] - 0.5
        w[f"{name}.running_mean"], w[f"{name}.running_var"] = u[2] - 0.5, 0.5 + u[3]
        w[f"{name}.num_batches_tracked"] = torch.tensor(1)

    for number, blocks in enumerate(LAYERS):
        for i, (width, groups) in enumerate(blocks):
            name = f"layer{number}.{i}" if number else "layer0"
            inputs = before // groups
            for branch, side in (("rbr_dense", 3), ("rbr_1x1", 1)):
                weight = torch.randn(width, inputs, side, side, generator=draw)
                w[f"{name}.{branch}.conv.weight"] = weight / math.sqrt(inputs * side * side)
                norm(f"{name}.{branch}.bn", width)
            if i:
                norm(f"{name}.rbr_identity", width)
            before = width
    w["linear_reg.weight"] = torch.randn(6, before, generator=draw)
    w["linear_reg.bias"] = torch.randn(6, generator=draw)
    return w


def trained_forward(w, x):
    def norm(name, x):
        mean, var, scale, shift = (
            w[f"{name}.{k}"][:, None, None]
            for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    for number, blocks in enumerate(LAYERS):
        for i, (_, groups) in enumerate(blocks):
            name, stride = f"layer{number}.{i}" if number else "layer0", 1 if i else 2
            y = sum(
                norm(
                    f"{name}.{branch}.bn",
                    F.conv2d(x, w[f"{name}.{branch}.conv.weight"], None, stride, pad, 1, groups),
                )
                for branch, pad in (("rbr_dense", 1), ("rbr_1x1", 0))
            )
            x = torch.relu(y + norm(f"{name}.rbr_identity", x) if i else y)
    return x.mean((2, 3)) @ w["linear_reg.weight"].T + w["linear_reg.bias"]


@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_training_form_fused_equals_its_branches(tmp_path, prefix):
    w = trained_weights()
    content = {"model_state_dict": {prefix + k: v for k, v in w.items()}, "epoch": 9}
    torch.save(content, tmp_path / "pose.tar.pth")
    net = load_pose(tmp_path / "pose.tar.pth")
    images = torch.rand(2, 3, INPUT_SIZE, INPUT_SIZE) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    seen = ((images + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    wanted = rotation_matrices(trained_forward(w, seen))
    assert (net.rotations(images) - wanted).abs().max() < 1e-5

    torch.save(net.state_dict(), tmp_path / "deploy.pth")  # the fused form has the same names
    again = load_pose(tmp_path / "deploy.pth")
    torch.testing.assert_close(again(images), net(images), rtol=0, atol=1e-3)


def test_what_is_no_pose_network_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3, 3, 3, 3)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"x\.pth: not a 6DRepNet checkpoint"):
        load_pose(tmp_path / "x.pth")
    w = trained_weights()
    del w["layer1.0.rbr_dense.bn.running_var"]
    torch.save(w, tmp_path / "y.pth")
    with pytest.raises(InputError, match=r"y\.pth: incomplete, .*layer1\.0\.rbr_dense\.bn"):
        load_pose(tmp_path / "y.pth")
