"""Head pose: 6DRepNet (Hempel et al., ICIP 2022), a RepVGG whose six outputs make a rotation.

Six numbers become two vectors and, by Gram-Schmidt, the first two columns of a rotation matrix
(Zhou et al., CVPR 2019); unlike angles they vary continuously with the pose. The matrix is
R = Rz(roll) Ry(yaw) Rx(pitch).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.estimators.repvgg import RepVGG, fuse, layers_of, without_prefix
from vec2face.recognizers.weights import load_into, read_state_dict
from vec2face.runtime.files import InputError

INPUT_SIZE = 224
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in [0, 1], RGB
_SINGULAR = 1e-6


def rotation_matrices(six: Tensor) -> Tensor:
    """Turn (B, 6) into rotation matrices (B, 3, 3)."""
    x = functional.normalize(six[:, :3], eps=1e-8)
    z = functional.normalize(torch.linalg.cross(x, six[:, 3:]), eps=1e-8)
    return torch.stack([x, torch.linalg.cross(z, x), z], 2)


def euler_angles(matrices: Tensor) -> Tensor:
    """Return (pitch, yaw, roll) in degrees, (B, 3), of rotation matrices (B, 3, 3).

    Pitch and roll are in [-180, 180], yaw in [-90, 90]. Looking straight to a side (cosine of the
    yaw below 1e-6) they cannot be told apart: roll is then 0, and the gradient finite.
    """
    square = matrices[:, 0, 0] ** 2 + matrices[:, 1, 0] ** 2
    singular = square.detach() < _SINGULAR**2
    one, zero = torch.ones_like(square), torch.zeros_like(square)

    def choose(straight: Tensor, otherwise: Tensor) -> Tensor:
        return torch.where(singular, straight, otherwise)

    # What is not chosen is kept away from the root and the angle of 0, whose gradients are not
    # finite and would spoil the one that is.
    cosine = choose(square.detach().sqrt(), choose(one, square).sqrt())
    pitch = torch.atan2(
        choose(-matrices[:, 1, 2], matrices[:, 2, 1]), choose(matrices[:, 1, 1], matrices[:, 2, 2])
    )
    yaw = torch.atan2(-matrices[:, 2, 0], cosine)
    roll = torch.atan2(choose(zero, matrices[:, 1, 0]), choose(one, matrices[:, 0, 0]))
    return torch.rad2deg(torch.stack([pitch, yaw, roll], 1))


class SixDRepNet(RepVGG):
    """Estimate the pose of heads, differentiably. Its arguments are those of ``RepVGG``."""

    def __init__(self, layers: Sequence[Sequence[tuple[int, int]]]) -> None:
        super().__init__(layers)
        self.linear_reg = nn.Linear(self.channels, 6)

    def rotations(self, images: Tensor) -> Tensor:
        """Return rotation matrices (B, 3, 3) of faces (B, 3, S, S), RGB in [-1, 1], of any size."""
        side = (INPUT_SIZE, INPUT_SIZE)
        if images.shape[2:] != side:
            images = functional.interpolate(
                images, side, mode="bilinear", align_corners=False, antialias=True
            )
        mean, std = (images.new_tensor(values).view(3, 1, 1) for values in (_MEAN, _STD))
        return self.rotations_of((images / 2 + 0.5 - mean) / std)

    def rotations_of(self, images: Tensor) -> Tensor:
        """Return rotation matrices of images (B, 3, H, W) as the network itself takes them."""
        return rotation_matrices(self.linear_reg(super().forward(images).mean((2, 3))))

    def forward(self, images: Tensor) -> Tensor:
        """Return (pitch, yaw, roll) in degrees, (B, 3), as ``euler_angles`` defines them."""
        return euler_angles(self.rotations(images))


def load_pose(path: Path | str) -> SixDRepNet:
    """Return the frozen pose estimator of a 6DRepNet checkpoint, whether fused or as trained.

    Raises:
        InputError: if the file is missing, no checkpoint, or of another network.
    """
    try:
        tensors = fuse(without_prefix(read_state_dict(path)))
        layers = layers_of(tensors)
        with torch.device("meta"):
            network = SixDRepNet(layers)
    except KeyError as error:
        raise InputError(f"{path}: incomplete, {error} is missing; download it again") from error
    except InputError:
        raise
    except Exception as error:  # whatever shapes from outside bring about
        raise InputError(f"{path}: not a 6DRepNet checkpoint: {error}") from error
    load_into(network, tensors, path)
    return network.requires_grad_(requires_grad=False).eval()
