"""Labels: a package's flat artwork, with brand, pattern, a drawing of what is inside, and the flavour."""

import math

from PIL import Image, ImageDraw, ImageFont

from pipelines.demo.drawing.colours import CREAM, INK, Colour, disc, gradient, mix
from pipelines.demo.drawing.motifs import MOTIFS
from pipelines.demo.drawing.products import Flavour


def draw_label(product: Flavour, width: int, height: int, side: float = 1.0) -> Image.Image:
    """Flat artwork [height, width]; `side` is the share of the width that faces the eye."""
    top = mix(product.base, (255, 255, 255), 0.16)
    art = gradient(width, height, top, mix(product.base, (0, 0, 0), 0.16))
    _pattern(art, product)
    pen = ImageDraw.Draw(art)
    seen = int(width * side)
    middle = width // 2
    light = sum(product.base) > 420
    ink, paper = (INK, CREAM) if light else (CREAM, INK)
    if height >= width * side * 0.8:
        _text(pen, product.package.brand, middle, int(height * 0.15), int(seen * 0.86), int(height * 0.16), ink, paper)
        _text(pen, product.package.kind.upper(), middle, int(height * 0.275), int(seen * 0.5), int(height * 0.06), ink)
        _plate(art, middle, int(height * 0.53), int(min(seen * 0.36, height * 0.2)), product)
        _strip(pen, product, middle, int(height * 0.83), int(seen * 0.88), int(height * 0.13))
    else:
        _plate(art, middle + int(seen * 0.28), int(height * 0.5), int(height * 0.35), product)
        left = middle - int(seen * 0.2)
        _text(pen, product.package.brand, left, int(height * 0.27), int(seen * 0.46), int(height * 0.28), ink, paper)
        _text(pen, product.package.kind.upper(), left, int(height * 0.51), int(seen * 0.36), int(height * 0.11), ink)
        _strip(pen, product, left, int(height * 0.76), int(seen * 0.5), int(height * 0.24))
    return art


def _strip(pen: ImageDraw.ImageDraw, product: Flavour, x: int, y: int, width: int, height: int) -> None:
    box = (x - width // 2, y - height // 2, x + width // 2, y + height // 2)
    pen.rounded_rectangle(box, height // 4, fill=product.accent)
    ink = INK if sum(product.accent) > 380 else CREAM
    _text(pen, product.flavour, x, y, int(width * 0.88), int(height * 0.72), ink)


def _plate(art: Image.Image, x: int, y: int, radius: int, product: Flavour) -> None:
    pen = ImageDraw.Draw(art)
    disc(pen, x, y, int(radius * 1.08), product.accent)
    disc(pen, x, y, radius, CREAM)
    MOTIFS[product.motif](art, x, y, int(radius * 0.8), product.motif_colour)


def _text(
    pen: ImageDraw.ImageDraw,
    words: str,
    x: int,
    y: int,
    width: int,
    height: int,
    colour: Colour,
    edge: Colour | None = None,
) -> None:
    """The words in bold, as large as fits width x height, centred on (x, y)."""
    size = height * 1.3
    for _ in range(2):
        stroke = max(1, int(size / 26))
        left, top, right, bottom = pen.textbbox(
            (0, 0), words, font=ImageFont.load_default(size), stroke_width=stroke, anchor="mm"
        )
        size *= min(width / (right - left), height / (bottom - top))
    font, stroke = ImageFont.load_default(size), max(1, int(size / 26))
    if edge:
        drop = max(2, int(size / 18))
        pen.text((x + drop, y + drop), words, fill=edge, font=font, stroke_width=stroke, stroke_fill=edge, anchor="mm")
    pen.text((x, y), words, fill=colour, font=font, stroke_width=stroke, stroke_fill=colour, anchor="mm")


def _pattern(art: Image.Image, product: Flavour) -> None:
    """Draw the package's ground on the art, in the flavour's colours."""
    pen = ImageDraw.Draw(art)
    width, height = art.size
    tint, deep = mix(product.base, product.accent, 0.35), mix(product.base, (0, 0, 0), 0.22)
    match product.package.pattern:
        case "rays" | "burst":
            spikes = 12 if product.package.pattern == "rays" else 20
            for i in range(spikes):
                turn = 2 * math.pi * i / spikes
                corners = [(width / 2, height * 0.53)]
                for t in (turn, turn + math.pi / spikes):
                    corners.append((width / 2 + 2 * height * math.cos(t), height * 0.53 + 2 * height * math.sin(t)))
                pen.polygon(corners, fill=tint)
        case "arcs":
            for r in range(10, 0, -1):
                colour = tint if r % 2 else product.base
                disc(pen, 0, height, r * height // 9, colour)
        case "waves" | "hills":
            start, steps = (0.6, 3) if product.package.pattern == "waves" else (0.48, 2)
            for step in range(steps):
                level = start + 0.13 * step
                wave = [
                    (x, height * (level + 0.04 * math.sin(x / width * 9 + 2 * step))) for x in range(0, width + 8, 8)
                ]
                colour = mix(product.base, product.accent, 0.3 + 0.25 * step)
                pen.polygon([*wave, (width, height), (0, height)], fill=colour)
        case "dots":
            for row in range(12):
                for column in range(14):
                    x, y = (column + row % 2 / 2) * width / 13, row * height / 11
                    disc(pen, int(x), int(y), int(width / 60 * (0.4 + row / 9)), tint)
        case "bands":
            pen.rectangle((0, 0, width, int(height * 0.33)), fill=deep)
            pen.rectangle((0, int(height * 0.33), width, int(height * 0.355)), fill=product.accent)
            pen.rectangle((0, int(height * 0.93), width, height), fill=product.accent)
        case "gingham":
            art.paste(CREAM, (0, 0, width, height))
            step = width // 22
            for i in range(0, 23, 2):
                pen.rectangle((i * step, 0, (i + 1) * step, height), fill=mix(CREAM, product.base, 0.28))
            veil = art.copy()
            for i in range(0, 23, 2):
                ImageDraw.Draw(veil).rectangle((0, i * step, width, (i + 1) * step), fill=mix(CREAM, product.base, 0.5))
            art.paste(Image.blend(art, veil, 0.5))
            pen.rounded_rectangle(
                (int(width * 0.22), int(height * 0.05), int(width * 0.78), int(height * 0.95)), 20, fill=product.base
            )
        case "diagonal":
            for i in range(-8, 16, 2):
                x = i * width // 12
                pen.polygon(
                    [(x, 0), (x + width // 12, 0), (x - height + width // 12, height), (x - height, height)], tint
                )
            pen.rectangle((0, 0, width, int(height * 0.33)), fill=product.base)
        case "peaks":
            for i, level in enumerate((0.36, 0.5, 0.64)):
                shift = width * 0.28 * (i - 1)
                colour = mix(product.base, product.accent, 0.2 + 0.2 * i)
                pen.polygon(
                    [(width / 2 + shift - width * 0.7, height), (width / 2 + shift, height * level),
                     (width / 2 + shift + width * 0.7, height)],
                    fill=colour,
                )  # fmt: skip
        case "stripe":
            pen.polygon([(width * 0.56, 0), (width, 0), (width, height), (width * 0.44, height)], fill=deep)
            pen.line([(width * 0.56, 0), (width * 0.44, height)], fill=product.accent, width=width // 60)
        case "frame":
            inset = width // 5
            pen.rounded_rectangle((inset, 18, width - inset, height - 18), 40, outline=CREAM, width=9)
