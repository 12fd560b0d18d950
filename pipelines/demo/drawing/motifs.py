"""What is inside a package, drawn on its label: each takes the art, a centre, a radius in px and a colour."""

import math
from collections.abc import Callable

from PIL import Image, ImageDraw

from pipelines.demo.drawing.colours import LEAF, Colour, disc, mix


def _ball(art: Image.Image, x: float, y: float, radius: float, colour: Colour) -> None:
    """A lit ball."""
    size = int(2 * radius)
    corner = size // 2 + size // 6
    away = Image.radial_gradient("L").resize((size * 2, size * 2)).crop((corner, corner, corner + size, corner + size))
    lit = Image.composite(
        Image.new("RGB", (size, size), mix(colour, (0, 0, 0), 0.45)),
        Image.new("RGB", (size, size), mix(colour, (255, 255, 255), 0.38)),
        away.point([min(255, int(value * 1.7)) for value in range(256)]),
    )
    mask = Image.new("L", (size, size), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, size - 1, size - 1), fill=255)
    art.paste(lit, (int(x - radius), int(y - radius)), mask)


def _round(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    _ball(art, x, y + r * 0.1, r * 0.84, colour)
    pen = ImageDraw.Draw(art)
    pen.line([(x, y - r * 0.55), (x + r * 0.08, y - r * 0.98)], fill=(96, 66, 36), width=max(3, r // 10))
    _blade(art, x + r * 0.38, y - r * 0.76, r * 0.42, -0.5, LEAF)


def _blade(art: Image.Image, x: float, y: float, r: float, turn: float, colour: Colour) -> None:
    """A leaf about (x, y), 2 r long, turned by `turn` rad."""
    edge = []
    for i in range(41):
        t = i / 40 * 2 - 1
        edge.append((t, 0.42 * (1 - t * t)))
    edge += [(t, -v) for t, v in reversed(edge)]
    cos, sin = math.cos(turn), math.sin(turn)
    pen = ImageDraw.Draw(art)
    pen.polygon([(x + r * (t * cos - v * sin), y + r * (t * sin + v * cos)) for t, v in edge], fill=colour)
    vein = mix(colour, (255, 255, 255), 0.4)
    pen.line(
        [(x - r * cos * 0.9, y - r * sin * 0.9), (x + r * cos * 0.9, y + r * sin * 0.9)], vein, max(2, int(r / 14))
    )


def _leaf(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    for turn, lift in ((-0.5, 0.25), (-2.6, 0.25), (-1.57, -0.25)):
        _blade(art, x + r * 0.45 * math.cos(turn), y + r * (lift + 0.35 * math.sin(turn) + 0.2), r * 0.62, turn, colour)


def _berries(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    _blade(art, x - r * 0.4, y - r * 0.7, r * 0.45, 0.6, LEAF)
    _blade(art, x + r * 0.4, y - r * 0.7, r * 0.45, -0.6, LEAF)
    for dx, dy in ((-0.5, -0.2), (0.5, -0.2), (0, -0.32), (-0.3, 0.28), (0.3, 0.28), (0, 0.62)):
        _ball(art, x + dx * r, y + dy * r, r * 0.34, colour)


def _cherries(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    pen = ImageDraw.Draw(art)
    for dx in (-0.45, 0.45):
        pen.line([(x + dx * r, y + r * 0.3), (x + r * 0.1, y - r * 0.9)], fill=LEAF, width=max(3, r // 12))
    _blade(art, x + r * 0.45, y - r * 0.78, r * 0.4, 0.25, LEAF)
    for dx in (-0.45, 0.45):
        _ball(art, x + dx * r, y + r * 0.42, r * 0.44, colour)


def _citrus(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    _blade(art, x + r * 0.72, y - r * 0.62, r * 0.4, -0.7, LEAF)
    pen = ImageDraw.Draw(art)
    disc(pen, x, y, int(r * 0.92), mix(colour, (0, 0, 0), 0.1))
    disc(pen, x, y, int(r * 0.82), mix(colour, (255, 250, 225), 0.75))
    inner = int(r * 0.76)
    for i in range(9):
        pen.pieslice((x - inner, y - inner, x + inner, y + inner), i * 40 + 3, i * 40 + 37, fill=colour)
    disc(pen, x, y, int(r * 0.1), mix(colour, (255, 250, 225), 0.75))


def _peas(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    _blade(art, x, y + r * 0.12, r, -0.35, mix(colour, (0, 0, 0), 0.4))
    for i in (-2, -1, 0, 1, 2):
        _ball(art, x + i * r * 0.31, y + r * 0.12 - i * r * 0.115, r * (0.25 - abs(i) * 0.03), colour)


def _strawberry(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    outline = []
    for i in range(60):
        t = 2 * math.pi * i / 60
        outline.append(
            (x + r * 0.74 * math.sin(t) * (1 - 0.22 * (1 - math.cos(t))), y + r * 0.1 - r * 0.8 * math.cos(t))
        )
    lower = [(px, y + r * 0.1 + (py - y - r * 0.1) * (1 if py < y else 1.08)) for px, py in outline]
    pen = ImageDraw.Draw(art)
    pen.polygon(lower, fill=colour)
    for row, count in enumerate((4, 4, 3, 2)):
        for i in range(count):
            seed_x = x + (i - (count - 1) / 2) * r * 0.3
            disc(pen, int(seed_x), int(y - r * 0.28 + row * r * 0.28), max(2, r // 22), (250, 214, 120))
    for turn in (-0.3, 0.4, 2.7, 3.5):
        _blade(art, x + r * 0.3 * math.cos(turn), y - r * 0.68 + r * 0.12 * math.sin(turn), r * 0.34, turn, LEAF)


def _beans(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    for dx, dy, turn in ((-0.42, -0.3, 35), (0.42, -0.1, -30), (-0.1, 0.48, 10)):
        side = int(r * 1.1)
        bean = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        pen = ImageDraw.Draw(bean)
        pen.ellipse((side * 0.1, side * 0.2, side * 0.9, side * 0.8), fill=colour)
        pen.ellipse((side * 0.16, side * 0.24, side * 0.7, side * 0.5), fill=mix(colour, (255, 255, 255), 0.18))
        pen.arc((side * 0.1, -side * 0.1, side * 0.9, side * 0.55), 20, 160, mix(colour, (0, 0, 0), 0.55), side // 16)
        bean = bean.rotate(turn, Image.Resampling.BICUBIC)
        art.paste(bean, (int(x + dx * r - side / 2), int(y + dy * r - side / 2)), bean)


def _peanut(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    for dx, dy in ((-0.36, 0.36), (0.36, -0.36)):
        _ball(art, x + dx * r, y + dy * r, r * 0.52, colour)
    _ball(art, x, y, r * 0.36, colour)
    pen = ImageDraw.Draw(art)
    for i in range(-4, 5):
        for j in (-1, 0, 1):
            px, py = x + i * r * 0.16 + j * r * 0.17, y - i * r * 0.16 + j * r * 0.17
            disc(pen, int(px), int(py), max(2, r // 28), mix(colour, (0, 0, 0), 0.35))


def _chilli(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    for step in range(60):
        t = step / 59
        px, py = x + r * (0.6 - 1.35 * t), y - r * 0.5 + r * 1.25 * t**1.8 * (1.6 - t)
        _ball(art, px, py, max(3, r * 0.3 * (1 - t) ** 0.7), colour)
    pen = ImageDraw.Draw(art)
    pen.line([(x + r * 0.66, y - r * 0.6), (x + r * 0.86, y - r * 0.95)], fill=LEAF, width=max(4, r // 8))
    disc(pen, int(x + r * 0.66), int(y - r * 0.62), int(r * 0.17), LEAF)


def _crystals(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    pen = ImageDraw.Draw(art)
    for dx, dy, s, turn in ((-0.4, 0.25, 0.4, 0.2), (0.4, 0.3, 0.36, 0.6), (0, -0.35, 0.44, -0.2)):
        square = [turn + math.pi / 4 + i * math.pi / 2 for i in range(4)]
        corners = [(x + r * (dx + s * math.cos(t)), y + r * (dy + s * math.sin(t))) for t in square]
        pen.polygon(corners, fill=mix(colour, (60, 120, 180), 0.45), outline=(40, 90, 150), width=max(3, r // 20))
        pen.polygon([corners[2], corners[3], (x + r * dx, y + r * dy)], fill=colour)


def _comb(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    pen = ImageDraw.Draw(art)
    s = r * 0.34
    for column, row in ((0, 0), (1, 0.5), (-1, 0.5), (0, 1), (0, -1), (1, -0.5), (-1, -0.5)):
        cx, cy = x + column * s * 1.56, y + row * s * 1.8
        hexagon = [(cx + s * math.cos(i * math.pi / 3), cy + s * math.sin(i * math.pi / 3)) for i in range(6)]
        fill = colour if column or row else mix(colour, (255, 220, 90), 0.6)
        pen.polygon(hexagon, fill=fill, outline=mix(colour, (0, 0, 0), 0.35), width=max(3, r // 24))


def _squares(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    pen = ImageDraw.Draw(art)
    s = r * 0.42
    for column in (-1, 0, 1):
        for row in (-1, 0, 1):
            cx, cy = x + column * s, y + row * s
            pen.rectangle((cx - s / 2, cy - s / 2, cx + s / 2, cy + s / 2), fill=mix(colour, (0, 0, 0), 0.3))
            inner = s * 0.36
            pen.rectangle((cx - inner, cy - inner, cx + inner, cy + inner), fill=mix(colour, (190, 120, 70), 0.35))


def _sprig(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    pen = ImageDraw.Draw(art)
    for lean in (-0.42, 0, 0.42):
        tip = (x + lean * r * 1.3, y - r * 0.9)
        pen.line([(x, y + r * 0.9), tip], fill=LEAF, width=max(3, r // 16))
        for i in range(7):
            t = 0.42 + i * 0.09
            cx, cy = x + (tip[0] - x) * t, y + r * 0.9 + (tip[1] - y - r * 0.9) * t
            for side in (-1, 1):
                _ball(art, cx + side * r * 0.09, cy, r * (0.15 - 0.008 * i), colour)


def _flower(art: Image.Image, x: int, y: int, r: int, colour: Colour) -> None:
    for i in range(12):
        turn = 2 * math.pi * i / 12
        _blade(
            art,
            x + r * 0.58 * math.cos(turn),
            y + r * 0.58 * math.sin(turn),
            r * 0.4,
            turn,
            mix(colour, (214, 176, 70), 0.25 * (i % 2)),
        )
    _ball(art, x, y, r * 0.33, (226, 160, 20))


MOTIFS: dict[str, Callable[[Image.Image, int, int, int, Colour], None]] = {
    "round": _round,
    "leaf": _leaf,
    "berries": _berries,
    "cherries": _cherries,
    "citrus": _citrus,
    "peas": _peas,
    "strawberry": _strawberry,
    "beans": _beans,
    "peanut": _peanut,
    "chilli": _chilli,
    "crystals": _crystals,
    "comb": _comb,
    "squares": _squares,
    "sprig": _sprig,
    "flower": _flower,
}
