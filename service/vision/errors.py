"""Why an image was refused.

ImageError
 +-- UnsupportedFormatError   the bytes are no format that is accepted
 +-- InvalidImageError        an accepted format whose bytes do not decode
 +-- ImageTooLargeError       more pixels than the limit, told from the header
 +-- NotEncodableError        it cannot be drawn in the format that was asked for
"""


class ImageError(ValueError):
    """An image that cannot be worked on; the message is fit for the person who sent it."""


class UnsupportedFormatError(ImageError):
    """The bytes are no format that is accepted."""


class InvalidImageError(ImageError):
    """An accepted format whose bytes do not decode, or only in part."""


class ImageTooLargeError(ImageError):
    """The header claims more pixels than the limit. Nothing was decoded."""

    def __init__(self, width: int, height: int, limit: int) -> None:
        super().__init__(f"the image claims {width} x {height} pixels, more than the limit of {limit} pixels")
        self.width = width
        self.height = height
        self.limit = limit


class NotEncodableError(ImageError):
    """The picture has sides that the format it was asked for in cannot have."""


def check_pixels(width: int, height: int, limit: int) -> None:
    """Raise ImageTooLargeError over the limit, InvalidImageError for a picture without pixels."""
    if width <= 0 or height <= 0:
        raise InvalidImageError("the image has no pixels")
    if width * height > limit:
        raise ImageTooLargeError(width, height, limit)
