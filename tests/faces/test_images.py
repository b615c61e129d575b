import io

import cv2
import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from vec2face.faces.images import decode, encode, resize, to_tensor, to_uint8
from vec2face.runtime.files import InputError


def smooth(side: int = 64) -> np.ndarray:
    y, x = np.mgrid[:side, :side] / (side - 1)
    return np.stack([255 * x, 255 * y, 128 + 0 * x], 2).astype(np.uint8)


def test_decoding_agrees_with_pillow_and_keeps_rgb():
    data = encode(smooth())
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decode(data, "a").astype(int) - expected).max() <= 2
    assert np.abs(decode(data, "a").astype(int) - smooth()).max() <= 8


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    ("mode", "progressive"), [("RGB", False), ("RGB", True), ("L", False), ("CMYK", False)]
)
def test_every_kind_of_jpeg_gives_opencvs_pixels(mode, progressive, subsampling):
    """Colours that simplejpeg refuses, too; odd sides have incomplete blocks."""
    noise = np.random.default_rng(0).integers(0, 256, (37, 45, 3), np.uint8)
    for side, quality in ((37, 95), (16, 60), (1, 10)):
        image = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1)[:side]).convert(mode)
        buffer = io.BytesIO()
        image.save(
            buffer, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling
        )
        data = np.frombuffer(buffer.getvalue(), np.uint8)
        expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(decode(buffer.getvalue(), "a"), expected)


def test_what_one_decoder_refuses_the_other_reads():
    """A damaged byte in the middle: pixels are those of the tolerant decoder, as ever."""
    data = encode(np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8))
    at, refused = data.rfind(b"\xff\xda") + 200, 0
    for n in range(40):
        damaged = data[: at + n] + b"\xff\xd3" + data[at + n + 2 :]
        try:
            simplejpeg.decode_jpeg(damaged, "RGB")
        except ValueError:
            refused += 1
        expected = cv2.imdecode(np.frombuffer(damaged, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert np.array_equal(decode(damaged, "a"), expected)
    assert refused


def test_decoding_ignores_the_orientation_tag_as_the_recognizers_do():
    image, buffer = Image.fromarray(smooth()), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif, quality=95)
    assert np.abs(decode(buffer.getvalue(), "a").astype(int) - smooth()).max() <= 8


def test_decoding_to_a_size():
    data = encode(smooth(64))
    assert decode(data, "a", 32).shape == (32, 32, 3)
    whole = decode(data, "a").astype(float)
    means = whole.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert np.abs(decode(data, "a", 32) - means).max() <= 0.51
    bigger = resize(decode(data, "a"), 128)
    assert bigger.shape == (128, 128, 3)
    assert bigger.max() <= whole.max()


def test_broken_images_are_named():
    data = encode(smooth())
    for broken in (b"", b"not an image", data[: len(data) // 2], data[:-2], data[:200]):
        with pytest.raises(InputError, match=r"some\.rec, key 7: not a readable image"):
            decode(broken, "some.rec, key 7")


def test_a_jpeg_cut_behind_its_thumbnail_is_broken():
    data = encode(smooth())
    thumbnail = encode(smooth(8))
    with_thumbnail = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert decode(with_thumbnail + data[2:], "a").shape == (64, 64, 3)
    with pytest.raises(InputError):
        decode(with_thumbnail + data[2:-40], "a")


def test_png_and_padded_jpeg_are_read():
    done, png = cv2.imencode(".png", smooth()[:, :, ::-1])
    assert done
    assert np.array_equal(decode(png.tobytes(), "a"), smooth())
    assert decode(encode(smooth()) + bytes(3), "a").shape == (64, 64, 3)


def test_tensors_have_the_fields_range_and_come_back():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 3), np.uint8)
    tensor = to_tensor(images)
    assert tensor.shape == (3, 3, 5, 4)
    assert tensor.dtype == torch.float32
    expected = (images.transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    assert np.allclose(tensor.numpy(), expected, atol=1e-6)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    flipped = to_tensor(images[:, :, ::-1])
    assert torch.equal(flipped, tensor.flip(3))
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    steps = torch.arange(256).float().div_(255).sub_(0.5).div_(0.5)  # float32 at every step
    assert torch.equal(to_tensor(levels).reshape(-1), steps)
    assert np.array_equal(to_uint8(tensor), images)
    assert to_uint8(torch.full((1, 3, 1, 1), 7.0)).max() == 255


def test_a_jpeg_that_claims_a_huge_size_is_refused():
    data = bytearray(encode(np.zeros((16, 16, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"  # height and width
    with pytest.raises(InputError, match="a.rec, key 7: claims 65500 x 65500 pixels"):
        decode(bytes(data), "a.rec, key 7")
