import io
import struct
import zlib

import cv2
import numpy as np
import pytest
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


def jpeg(mode="RGB", side=112, **options):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_a_hole_is_damaged(progressive):
    """OpenCV fills what is missing with grey; half of the bytes are left here."""
    data = jpeg(progressive=progressive)
    start = data.index(b"\xff\xda") + 20
    for at in range(start, len(data) - 2000, 777):
        with pytest.raises(InputError, match="key 7: not a readable image"):
            decode(data[:at] + data[at + 1500 :], "a.rec, key 7")


@pytest.mark.parametrize("progressive", [False, True])
def test_what_takes_no_pixel_is_no_damage(progressive):
    data = jpeg(progressive=progressive)
    whole = decode(data, "a")
    jfif = data.index(b"JFIF\0") + 5
    harmless = {
        "bytes behind the end": data + b"anything at all",
        "zeros before the end": data[:-2] + bytes(40) + data[-2:],
        "zeros before the first segment": data[:2] + bytes(3) + data[2:],
        "a newer version": data[:jfif] + b"\7" + data[jfif + 1 :],
        "two of them": data[:2] + bytes(3) + data[2:-2] + bytes(99) + data[-2:],
    }
    for what, changed in harmless.items():
        assert np.array_equal(decode(changed, what), whole), what
    for left_over in (bytes(range(1, 60)), b"\x51", b"\x51\x51"):
        with pytest.raises(InputError, match="not a readable image"):
            decode(data[:-2] + bytes(8) + left_over + data[-2:], "a damaged scan")
        with pytest.raises(InputError, match="not a readable image"):
            decode(data[:-2] + 20 * left_over + b"\x07" + data[-2:], "a damaged scan")


def test_the_end_marker_alone_may_be_missing():
    data, scans = jpeg(), jpeg(progressive=True)
    whole = decode(data, "a")
    assert np.array_equal(decode(data[:-2], "a"), whole)
    assert np.array_equal(decode(data[:-1], "a"), whole)
    ends = [at for at in range(len(scans)) if scans[at : at + 2] == b"\xff\xc4"][2:]
    assert ends
    for cut in (data[:-12], data[: len(data) // 2], scans[:-2], *(scans[:at] for at in ends)):
        with pytest.raises(InputError):
            decode(cut, "a")


@pytest.mark.parametrize("ending", [".png", ".bmp", ".webp", ".tiff", ".ppm", ".gif"])
def test_other_pictures_that_are_cut_off_are_damaged(ending):
    data = cv2.imencode(ending, np.asarray(Image.open(io.BytesIO(jpeg(side=48)))))[1].tobytes()
    assert decode(data, "a").shape == (48, 48, 3)
    for length in (*range(0, len(data), len(data) // 7), len(data) - 1):
        with pytest.raises(InputError, match="a: not a readable image"):
            decode(data[:length], "a")


def test_damage_is_told_by_the_error_alone(capfd):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    for ending in (".png", ".bmp", ".webp", ".tiff", ".gif"):
        data = bytearray(cv2.imencode(ending, pixels)[1].tobytes())
        with pytest.raises(InputError, match="a: not a readable image"):
            decode(bytes(data[: len(data) // 2]), "a")
        if ending == ".png":
            data[len(data) // 2] ^= 1
            with pytest.raises(InputError, match="a: .* a checksum is wrong"):
                decode(bytes(data), "a")
    assert capfd.readouterr() == ("", "")


def chunk(name, content):
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def claims(kind, side):
    """A few bytes that claim to be a picture of so many pixels a side."""
    if kind == "png":
        start = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        rows = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + rows
    if kind == "bmp":
        head = struct.pack("<IiiHHIIiiII", 40, side, -side, 1, 24, 0, 0, 0, 0, 0, 0)
        return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head
    if kind == "gif":
        return b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b";"
    if kind == "webp":
        size = (side - 1).to_bytes(3, "little")
        body = b"WEBPVP8X" + struct.pack("<II", 10, 0) + size + size
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if kind == "lossless":
        bits = (side - 1) | (side - 1) << 14
        body = b"WEBPVP8L" + struct.pack("<IBI", 5, 0x2F, bits) + b"\0"
        return b"RIFF" + struct.pack("<I", len(body)) + body
    if kind in ("tiff", "tile"):
        sides = {256: side, 257: side} if kind == "tiff" else {256: 8, 257: 8, 322: side, 323: side}
        tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sides.items())
        return b"II*\0" + struct.pack("<IH", 8, len(sides)) + tags + bytes(4)
    if kind == "pnm":
        return b"P6 # made to harm\n%d\n# by someone\n%d 255\n" % (side, side)
    data = bytearray(encode(np.zeros((16, 16, 3), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


KINDS = ["jpeg", "png", "bmp", "gif", "webp", "lossless", "tiff", "tile", "pnm"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_file_that_claims_many_pixels_is_refused(kind):
    data = claims(kind, 16000)
    assert len(data) < 2000
    with pytest.raises(InputError, match="a.rec, key 7: .* claims 16000 x 16000 pixels"):
        decode(data, "a.rec, key 7")


def test_a_chunk_of_a_png_lies_in_the_file():
    data = claims("png", 8)
    for length in (2**31 - 1, 2**32 - 1, len(data)):
        with pytest.raises(InputError, match="damaged or cut off"):
            decode(data[:33] + struct.pack(">I", length) + data[37:], "a")


@pytest.mark.parametrize("shape", [(218, 178), (112, 96), (7, 8)])
def test_what_is_not_square_is_not_squashed(shape):
    data = encode(np.zeros((*shape, 3), np.uint8))
    assert decode(data, "a").shape == (*shape, 3)
    with pytest.raises(InputError, match=f"a: {shape[1]} x {shape[0]} pixels; expected a square"):
        decode(data, "a", 112)


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
    for broken in (b"", b"not an image", data[: len(data) // 2], data[:-9], data[:200]):
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
