"""Images of a request to grey levels of the size that a model takes, inside the graph."""

from __future__ import annotations

import tensorflow as tf

from egt_tf.data.preprocessing import resized_centre
from egt_tf.export.exif import jpeg_orientation, upright
from egt_tf.export.requests import RequestLimits, checked

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Up to the end of its first chunk, which holds width and height from byte 16 on.
_PNG_HEADER = 33


def decoded_images(encoded: tf.Tensor, image_size: int, limits: RequestLimits = RequestLimits()) -> tf.Tensor:
    """Decodes JPEG and PNG images, resizes and crops them as `egt_tf.data.support.load_image` does.

    Transparent images are laid over white, JPEG images are turned as their EXIF orientation says.

    Args:
        encoded: strings `(n,)`, n >= 1: the bytes of a file each.
        image_size: height and width of the result.
        limits: its `max_pixels` is the largest size of an image.

    Returns:
        Whole grey levels 0..255, float32 `(n, image_size, image_size, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: no image, neither JPEG nor PNG, damaged, or more than
            `limits.max_pixels` according to its header, which is read before anything is decoded.
    """
    encoded = checked(encoded, (tf.size(encoded) > 0, ["at least one image must be given. Received: none"]))
    # One after the other: several of the largest images at a time would need gigabytes.
    levels = tf.map_fn(
        lambda one: resized_centre(decoded_image(one, limits), image_size),
        encoded,
        parallel_iterations=1,
        fn_output_signature=tf.TensorSpec((image_size, image_size, 3), tf.uint8),
    )
    return tf.cast(levels, tf.float32)


def checked_floats(images: tf.Tensor) -> tf.Tensor:
    """Images that the client has decoded, resized and cropped.

    Args:
        images: float32 `(n, size, size, 3)`, n >= 1, grey levels 0..255.

    Returns:
        The same.

    Raises:
        tf.errors.InvalidArgumentError: when the graph runs: no image, or values outside 0..255.
    """
    in_range = (images >= 0.0) & (images <= 255.0)
    received = [tf.reduce_min(images), "to", tf.reduce_max(images)]
    return checked(
        images,
        (tf.shape(images)[0] > 0, ["at least one image must be given. Received: none"]),
        (in_range, ["the values of images must be grey levels 0..255. Received:", *received]),
    )


def decoded_image(encoded: tf.Tensor, limits: RequestLimits) -> tf.Tensor:
    """Decodes one image: a scalar string to uint8 `(height, width, 3)`. See `decoded_images`."""
    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    is_png = (tf.strings.substr(encoded, 0, len(_PNG)) == _PNG) & (tf.strings.length(encoded) >= _PNG_HEADER)
    received = ["Received:", tf.strings.length(encoded), "bytes of something else"]
    encoded = checked(encoded, (is_jpeg | is_png, ["an image must be the bytes of a JPEG or PNG file.", *received]))
    sides = tf.cond(is_jpeg, lambda: _jpeg_sides(encoded), lambda: _png_sides(encoded))
    small = tf.reduce_prod(sides) <= limits.max_pixels
    limit = f"an image may have at most {limits.size}. Received height and width:"
    encoded = checked(
        encoded, (small, [limit, sides]), (sides > 0, ["an image must have pixels. Received height and width:", sides])
    )
    image = tf.cond(is_jpeg, lambda: _decoded_jpeg(encoded), lambda: _over_white(_decoded_png(encoded)))
    return tf.ensure_shape(image, [None, None, 3])


def _jpeg_sides(encoded: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64)


def _png_sides(encoded: tf.Tensor) -> tf.Tensor:
    width_height = tf.io.decode_raw(tf.strings.substr(encoded, 16, 8), tf.int32, little_endian=False)
    return tf.cast(width_height[::-1], tf.int64)


def _decoded_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # The slow transform is the one that Pillow decodes with.
    image = tf.io.decode_jpeg(encoded, 3, dct_method="INTEGER_ACCURATE")
    return upright(image, jpeg_orientation(encoded))


def _decoded_png(encoded: tf.Tensor) -> tf.Tensor:
    """RGBA, uint8."""
    image = tf.io.decode_png(encoded, 4)
    # TensorFlow fills the opacity of grey images of d < 8 bits with 2^d - 1.
    depth = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, 24, 1), tf.uint8)[0], tf.int32)
    opaque = tf.cast(tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, tf.uint8)
    opacity = image[..., 3:]
    return tf.concat(
        [image[..., :3], tf.where((depth < 8) & (opacity == opaque), tf.constant(255, tf.uint8), opacity)], axis=-1
    )


def _over_white(image: tf.Tensor) -> tf.Tensor:
    """RGBA over white, uint8 to uint8."""
    colour, opacity = tf.cast(image[..., :3], tf.float32), tf.cast(image[..., 3:], tf.float32) / 255.0
    return tf.cast(tf.round(colour * opacity + 255.0 * (1.0 - opacity)), tf.uint8)
