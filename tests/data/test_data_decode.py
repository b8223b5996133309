"""Decoding: one pinned result per kind of file, and a named error for every kind of damage."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ftjax.data.decode import decode
from ftjax.errors import DataError

LIMIT = 1_000_000


def test_png_and_webp_and_jpeg_decode_to_pillows_pixels(helpers):
    picture, encode = helpers
    for form, options in (
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("JPEG", {"quality": 70}),
        ("JPEG", {"quality": 90, "progressive": True, "subsampling": 2}),
    ):
        data = encode(picture(3, (37, 53)), form, **options)
        with Image.open(io.BytesIO(data)) as reference:
            expected = np.asarray(reference.convert("RGB"))
        decoded = decode(data, LIMIT)
        np.testing.assert_array_equal(decoded.pixels, expected)
        assert decoded.conversions == ()


def test_grey_becomes_three_equal_channels(helpers):
    _, encode = helpers
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for form in ("PNG", "JPEG"):
        decoded = decode(encode(grey, form, **({"quality": 100} if form == "JPEG" else {})), LIMIT)
        assert decoded.conversions == ("grey",)
        np.testing.assert_array_equal(decoded.pixels, np.repeat(decoded.pixels[..., :1], 3, axis=-1))
        np.testing.assert_allclose(decoded.pixels[..., 0].astype(int), grey, atol=1)


def test_sixteen_bits_keep_the_high_byte(helpers):
    _, encode = helpers
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    decoded = decode(encode(Image.fromarray(values)), LIMIT)
    assert decoded.pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert decoded.conversions == ("16-bit",)


def test_sixteen_bit_colour_is_counted_too():
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = struct.pack(">6H", 0, 256, 65535, 511, 512, 1000)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    )
    decoded = decode(data, LIMIT)
    assert decoded.pixels.tolist() == [[[0, 1, 255], [1, 2, 3]]]
    assert decoded.conversions == ("16-bit",)


def test_palette_is_looked_up(helpers):
    _, encode = helpers
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    decoded = decode(encode(image), LIMIT)
    assert decoded.pixels.tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert decoded.conversions == ("palette",)


def test_transparency_lies_over_white(helpers):
    _, encode = helpers
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 128]]], np.uint8)
    decoded = decode(encode(Image.fromarray(rgba)), LIMIT)
    assert decoded.pixels.tolist() == [[[255, 255, 255], [255, 0, 0], [127, 127, 127]]]
    assert decoded.conversions == ("transparency (over white)",)
    grey = np.array([[[0, 0], [7, 255]]], np.uint8)
    decoded = decode(encode(Image.merge("LA", [Image.fromarray(grey[..., 0]), Image.fromarray(grey[..., 1])])), LIMIT)
    assert decoded.pixels.tolist() == [[[255, 255, 255], [7, 7, 7]]]
    assert decoded.conversions == ("grey", "transparency (over white)")


def test_transparent_palette_lies_over_white(helpers):
    _, encode = helpers
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    decoded = decode(encode(image, transparency=0), LIMIT)
    assert decoded.pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]
    assert decoded.conversions == ("palette", "transparency (over white)")


def test_cmyk_is_converted_without_a_profile(helpers):
    _, encode = helpers
    image = Image.new("CMYK", (16, 16), (0, 128, 255, 0))
    decoded = decode(encode(image, "JPEG", quality=100), LIMIT)
    assert np.abs(decoded.pixels.astype(int) - [255, 127, 0]).max() <= 2
    assert decoded.conversions == ("CMYK",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(helpers, orientation):
    from PIL import ImageOps

    picture, encode = helpers
    exif = Image.Exif()
    exif[274] = orientation
    for form in ("JPEG", "PNG"):
        data = encode(picture(5, (10, 14)), form, exif=exif)
        with Image.open(io.BytesIO(data)) as reference:
            expected = np.asarray(ImageOps.exif_transpose(reference))
        decoded = decode(data, LIMIT)
        np.testing.assert_array_equal(decoded.pixels, expected)
        assert decoded.conversions == (() if orientation == 1 else ("EXIF orientation",))


def test_an_unreadable_exif_block_does_not_cost_the_picture(helpers):
    picture, encode = helpers
    data = encode(picture(1), "JPEG", exif=b"Exif\0\0nonsense")
    assert decode(data, LIMIT).conversions == ("unreadable EXIF (ignored)",)


def test_of_an_animation_the_first_frame_counts(helpers):
    picture, encode = helpers
    frames = [Image.fromarray(picture(seed)) for seed in (1, 2)]
    for form, options in (("WEBP", {"lossless": True}), ("PNG", {})):
        decoded = decode(encode(frames[0], form, save_all=True, append_images=frames[1:], **options), LIMIT)
        np.testing.assert_array_equal(decoded.pixels, picture(1))
        assert decoded.conversions == ("animation (first frame)",)


def test_a_bomb_is_refused_from_its_header(helpers):
    _, encode = helpers
    data = encode(Image.new("L", (20000, 10000)))  # 200 million pixels in 24 kB, beyond even Pillow's own limit
    with pytest.raises(DataError, match=r"^20000 x 10000 = 200000000 pixels, more than data\.max_pixels=1000000 allows$"):
        decode(data, LIMIT)
    with pytest.raises(DataError, match=r"more than data\.max_pixels=10 allows"):
        decode(np.zeros((4, 4, 3), np.uint8), 10)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file (0 bytes)"),
        (b"GIF89a..", "not a JPEG, PNG or WebP file (it begins with b'GIF89a..')"),
        (b"\x89PNG\r\n\x1a\n", "damaged header"),
        (b"\xff\xd8\xff", "damaged header"),
        (b"RIFF\0\0\0\0WEBP", "damaged header"),
    ],
)
def test_what_is_no_image_is_named(data, message):
    with pytest.raises(DataError) as error:
        decode(data, LIMIT)
    assert message in str(error.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_a_cut_file_is_an_error(helpers, form, share):
    picture, encode = helpers
    data = encode(picture(2, (64, 64)), form)
    with pytest.raises(DataError, match="damaged"):
        decode(data[: int(len(data) * share)], LIMIT)


def test_damage_that_pillow_lets_pass_is_an_error(helpers):
    picture, encode = helpers
    data, random, only_ours = encode(picture(2, (64, 64)), "JPEG", quality=50), np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(data)
        damaged[random.integers(700, len(data) - 2)] = random.integers(0, 256)
        ours, theirs = _refusal(bytes(damaged)), _pillow_refuses(bytes(damaged))
        assert ours is not None or not theirs
        assert ours is None or ours.startswith("damaged JPEG file: ")
        only_ours += ours is not None and not theirs
    assert only_ours > 20


def test_a_jpeg_of_unusual_subsampling_goes_through_pillow(helpers):
    picture, encode = helpers
    data = bytearray(encode(picture(2, (48, 48)), "JPEG", subsampling=0))
    sampling = data.index(b"\xff\xc0") + 11
    data[sampling] = 0x31  # three luminance samples to one of colour, which turbojpeg has no name for
    with Image.open(io.BytesIO(bytes(data))) as image:
        np.testing.assert_array_equal(decode(bytes(data), LIMIT).pixels, np.asarray(image.convert("RGB")))


def _refusal(data: bytes) -> str | None:
    try:
        decode(data, LIMIT)
    except DataError as error:
        return str(error)
    return None


def _pillow_refuses(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except OSError:
        return True
    return False


def test_arrays_pass_through_and_grey_ones_are_repeated():
    colour = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(decode(colour, LIMIT).pixels, colour)
    grey = np.arange(4, dtype=np.uint8).reshape(2, 2)
    for given in (grey, grey[..., None]):
        decoded = decode(given, LIMIT)
        assert decoded.pixels.shape == (2, 2, 3)
        assert decoded.pixels[..., 2].tolist() == grey.tolist()
        assert decoded.conversions == ("grey",)
