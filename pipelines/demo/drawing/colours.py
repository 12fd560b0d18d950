"""Colours, and the few strokes that every drawing here is made of."""

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

CREAM: Colour = (245, 230, 200)
INK: Colour = (46, 36, 34)
STEEL: Colour = (176, 180, 186)
LEAF: Colour = (74, 140, 62)


def disc(pen: ImageDraw.ImageDraw, x: int, y: int, r: int, colour: Colour) -> None:
    """A filled circle."""
    pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """The colour, moved towards the other by a share in [0, 1]."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(colour, other, strict=True))
    return red, green, blue


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    """RGB [height, width], from one colour down to another."""
    down = Image.linear_gradient("L").resize((width, height))
    return Image.composite(Image.new("RGB", (width, height), bottom), Image.new("RGB", (width, height), top), down)
