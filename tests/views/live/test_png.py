"""Pictures that every browser can read, without Pillow."""

import struct
import zlib

import numpy as np
import pytest

from views.live.png import encode_png


def decode(data):
    """[H, W, 3] by the PNG specification, for true colour without filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert checksum == zlib.crc32(kind + content)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (depth, colour, rest) == (8, 2, [0, 0, 0])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


@pytest.mark.parametrize("shape", [(210, 160, 3), (1, 1, 3), (10, 7, 3)])
def test_a_picture_comes_back_as_it_was(shape):
    screen = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(decode(encode_png(screen)), screen)


def test_a_view_into_another_array_is_written_as_seen():
    screen = np.random.default_rng(2).integers(0, 256, (8, 6, 3), np.uint8)
    np.testing.assert_array_equal(decode(encode_png(screen[::2, ::-1])), screen[::2, ::-1])


@pytest.mark.parametrize(
    "screen", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(screen):
    with pytest.raises(ValueError, match="not a picture"):
        encode_png(screen)


def test_pillow_reads_it_too():
    image = pytest.importorskip("PIL.Image")
    from io import BytesIO

    screen = np.random.default_rng(3).integers(0, 256, (21, 16, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(image.open(BytesIO(encode_png(screen)))), screen)
