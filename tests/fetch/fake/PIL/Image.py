"""Stands in for Pillow, so that conversions are tested where it is not installed: a photo is the line `FORMAT MODE W H`."""

BILINEAR = "bilinear"
MAX_IMAGE_PIXELS = None


class DecompressionBombError(Exception):
    pass


class Photo:
    def __init__(self, form, mode, width, height):
        self.format, self.mode, self.size = form, mode, (int(width), int(height))
        self.width, self.height = self.size

    def load(self):
        pass

    def convert(self, mode):
        return Photo(None, mode, *self.size)

    def resize(self, size, how):
        assert how == BILINEAR
        return Photo(None, self.mode, *size)

    def save(self, path, form, quality=None):
        suffix = "" if quality is None else f" quality={quality}"
        path.write_text(f"{form} {self.mode} {self.width} {self.height}{suffix}")


def fromarray(pixels):
    return Photo(None, "RGB", pixels.width, pixels.height)


def open(path):
    words = path.read_text().split()
    if len(words) != 4:
        raise OSError("cannot identify image file")
    return Photo(*words)
