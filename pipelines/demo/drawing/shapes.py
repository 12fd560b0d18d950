"""Packages: a label put on a box, a tin, a bottle, …; each shape gives an RGBA picture.

Everything is drawn at four times the size and reduced, with Pillow's own font, so it looks the same
everywhere.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from pipelines.demo.drawing.colours import CREAM, STEEL, Colour, gradient, mix
from pipelines.demo.drawing.labels import draw_label
from pipelines.demo.drawing.products import Flavour

CANVAS = 1024
"""Side of the drawing in px, before it is reduced."""


def draw(product: Flavour, size: int = 256) -> Image.Image:
    """The product's original: an RGB picture [size, size] of the package on white."""
    sheet = Image.new("RGB", (CANVAS, CANVAS), (255, 255, 255))
    package = SHAPES[product.package.shape](product)
    sheet.paste(package, ((CANVAS - package.width) // 2, (CANVAS - package.height) // 2), package)
    return sheet.resize((size, size), Image.Resampling.LANCZOS)


def _box(product: Flavour, width: int = 560, height: int = 780, depth: int = 120) -> Image.Image:
    """A carton box, seen a little from the right."""
    front = draw_label(product, width, height)
    side = gradient(depth, height, mix(product.base, (0, 0, 0), 0.32), mix(product.base, (0, 0, 0), 0.5))
    band = ImageDraw.Draw(side)
    band.rectangle((0, int(height * 0.765), depth, int(height * 0.895)), fill=mix(product.accent, (0, 0, 0), 0.35))
    fall, rise = 0.05, 0.22
    tall = height + int(width * fall) + 4
    out = Image.new("RGBA", (width + depth, tall), (0, 0, 0, 0))
    front, side = front.convert("RGBA"), side.convert("RGBA")
    out.paste(front.transform((width, tall), Image.Transform.AFFINE, (1, 0, 0, -fall, 1, 0)), (0, 0))
    out.paste(
        side.transform((depth, tall), Image.Transform.AFFINE, (1, 0, 0, rise, 1, -width * fall)),
        (width, 0),
    )
    return out


def _chest(product: Flavour) -> Image.Image:
    return _box(product, 720, 500, 130)


def _carton(product: Flavour) -> Image.Image:
    """A drink carton with a gable and a cap."""
    width, depth = 400, 130
    body = _box(product, width, 640, depth)
    gable = 150
    out = Image.new("RGBA", (body.width, body.height + gable), (0, 0, 0, 0))
    out.paste(body, (0, gable))
    pen = ImageDraw.Draw(out)
    roof = mix(product.base, (255, 255, 255), 0.3)
    ridge = 44
    shoulder = gable + int(width * 0.05)
    pen.polygon([(0, gable + 2), (width, shoulder + 2), (width - 14, ridge + 16), (44, ridge)], fill=roof)
    pen.polygon(
        [(width, shoulder + 2), (width + depth, gable), (width + 26, ridge + 14), (width - 14, ridge + 16)],
        fill=mix(product.base, (0, 0, 0), 0.42),
    )
    pen.polygon([(44, 0), (width + 26, 12), (width + 26, ridge + 16), (44, ridge)], fill=mix(roof, (0, 0, 0), 0.12))
    pen.ellipse((150, 62, 262, 146), fill=mix(product.accent, (0, 0, 0), 0.3))
    pen.ellipse((150, 50, 262, 128), fill=product.accent)
    return out


def _wrapped(art: Image.Image, width: int, sag: int) -> Image.Image:
    """The art around a lying-eye cylinder of this width: RGBA, `sag` px taller."""
    pixels = np.asarray(art.convert("RGB")).astype(np.float32)
    height = pixels.shape[0]
    across = (np.arange(width) + 0.5) / width * 2 - 1
    column = ((np.arcsin(across) / np.pi + 0.5) * (pixels.shape[1] - 1)).astype(int)
    drop = (sag * np.sqrt(1 - across**2)).astype(int)
    row = np.arange(height + sag)[:, None] - drop[None, :]
    inside = (row >= 0) & (row < height)
    wrapped = pixels[np.clip(row, 0, height - 1), column[None, :]]
    shine = 0.5 + 0.56 * np.sqrt(1 - ((across + 0.13) / 1.14) ** 2)
    shine = shine + 0.2 * np.exp(-(((across + 0.52) / 0.11) ** 2))
    lit = np.clip(
        wrapped * np.minimum(shine, 1.02)[None, :, None] + np.maximum(shine - 1.02, 0)[None, :, None] * 255, 0, 255
    )
    return Image.fromarray(np.dstack([lit, inside * 255.0]).astype(np.uint8), "RGBA")


def _metal(width: int, height: int, sag: int, colour: Colour = STEEL) -> Image.Image:
    return _wrapped(Image.new("RGB", (width, height), colour), width, sag)


def _lid(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour) -> None:
    """The ellipse of a top seen from above."""
    pen.ellipse(box, fill=mix(colour, (0, 0, 0), 0.2))
    left, top, right, bottom = box
    pen.ellipse((left + 12, top + 6, right - 12, bottom - 6), fill=colour)
    pen.ellipse((left + 30, top + 14, right - 30, bottom - 8), fill=mix(colour, (0, 0, 0), 0.13))


def _can(product: Flavour) -> Image.Image:
    """A slim drink can."""
    width, sag, height = 420, 44, 700
    out = Image.new("RGBA", (width, 900), (0, 0, 0, 0))
    _over(out, _metal(width - 70, 60, 30), 35, 800)
    _over(out, _metal(width - 60, 70, 32), 30, 52)
    _over(out, _taper(_wrapped(draw_label(product, 640, height + 40, 0.62), width, sag), 0.86, 40), 0, 76)
    _lid(ImageDraw.Draw(out), (30, 30, width - 30, 96), STEEL)
    ImageDraw.Draw(out).ellipse((width // 2 - 40, 52, width // 2 + 40, 76), fill=(120, 124, 130))
    return out


def _taper(image: Image.Image, narrow: float, reach: int) -> Image.Image:
    """The same, drawn in to `narrow` of its width over the top and bottom `reach` px."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    rows = np.arange(height)
    edge = np.clip(np.minimum(rows, height - 1 - rows) / reach, 0, 1)
    share = narrow + (1 - narrow) * np.sin(edge * np.pi / 2)
    return _squeezed(pixels, share[:, None] * np.ones((1, width)))


def _squeezed(pixels: np.ndarray, share: np.ndarray) -> Image.Image:
    """RGBA pixels [H, W, 4] with each row drawn to share [H, W] of the width about the middle."""
    height, width = pixels.shape[:2]
    column = (np.arange(width)[None, :] - width / 2 + 0.5) / share + width / 2 - 0.5
    inside = (column >= 0) & (column <= width - 1)
    out = pixels[np.arange(height)[:, None], np.clip(column, 0, width - 1).round().astype(int)].copy()
    out[..., 3] = np.where(inside, out[..., 3], 0)
    return Image.fromarray(out, "RGBA")


def _tin(product: Flavour) -> Image.Image:
    """A wide food tin."""
    width, sag = 600, 70
    out = Image.new("RGBA", (width, 860), (0, 0, 0, 0))
    _over(out, _metal(width, 40, sag), 0, 746)
    _over(out, _wrapped(draw_label(product, 900, 660, 0.64), width - 12, sag), 6, 92)
    _over(out, _metal(width, 30, sag), 0, 66)
    _lid(ImageDraw.Draw(out), (0, 2, width, 140), STEEL)
    return out


def _jar(product: Flavour) -> Image.Image:
    """A glass jar with a checked label and a lid of the same check."""
    width, sag = 560, 52
    out = Image.new("RGBA", (width, 800), (0, 0, 0, 0))
    inside = gradient(width, 610, mix(product.base, (255, 255, 255), 0.12), mix(product.base, (0, 0, 0), 0.3))
    glass = _taper(_wrapped(inside, width, sag), 0.8, 70)
    _over(out, glass, 0, 130)
    _over(out, _wrapped(draw_label(product, 860, 430, 0.5), width, sag), 0, 226)
    cloth = Image.new("RGB", (700, 120), mix(product.accent, product.base, 0.4))
    pen = ImageDraw.Draw(cloth)
    for i in range(0, 40, 2):
        pen.rectangle((i * 18, 0, i * 18 + 17, 120), fill=CREAM)
    _over(out, _wrapped(cloth, 500, 46), 30, 40)
    ImageDraw.Draw(out).ellipse((30, 0, 530, 88), fill=mix(product.accent, (255, 255, 255), 0.15))
    ImageDraw.Draw(out).ellipse((58, 12, 502, 76), fill=product.accent)
    return out


def _tub(product: Flavour) -> Image.Image:
    """A straight jar with a broad lid."""
    width, sag = 640, 64
    out = Image.new("RGBA", (width, 760), (0, 0, 0, 0))
    _over(out, _taper(_wrapped(draw_label(product, 960, 520, 0.62), width, sag), 0.93, 30), 0, 166)
    _over(out, _wrapped(gradient(600, 120, product.accent, mix(product.accent, (0, 0, 0), 0.2)), 600, 60), 20, 56)
    ImageDraw.Draw(out).ellipse((20, 0, 620, 118), fill=mix(product.accent, (255, 255, 255), 0.22))
    ImageDraw.Draw(out).ellipse((52, 14, 588, 102), fill=mix(product.accent, (255, 255, 255), 0.1))
    return out


def _cup(product: Flavour) -> Image.Image:
    """A cup that narrows to the foot, with a foil lid."""
    width, sag = 620, 60
    art = np.asarray(_wrapped(draw_label(product, 900, 560, 0.58), width, sag))
    share = np.linspace(1, 0.74, art.shape[0])[:, None] * np.ones((1, width))
    out = Image.new("RGBA", (width + 40, 720), (0, 0, 0, 0))
    _over(out, _squeezed(art, share), 20, 70)
    pen = ImageDraw.Draw(out)
    pen.ellipse((0, 14, width + 40, 142), fill=(150, 154, 160))
    pen.ellipse((0, 4, width + 40, 128), fill=(200, 203, 208))
    pen.ellipse((50, 18, width - 10, 112), fill=mix(product.base, (220, 222, 226), 0.45))
    pen.polygon([(width - 20, 100), (width + 40, 62), (width + 36, 150), (width + 4, 162)], fill=(200, 203, 208))
    return out


def _bottle(product: Flavour) -> Image.Image:
    """A round-shouldered bottle with a flip cap."""
    width, sag, height = 430, 40, 700
    body = np.asarray(_wrapped(gradient(640, height, product.base, mix(product.base, (0, 0, 0), 0.2)), width, sag))
    rows = np.arange(body.shape[0])
    shoulder = np.clip(rows / 190, 0, 1)
    share = (0.3 + 0.7 * np.sqrt(1 - (1 - shoulder) ** 2))[:, None] * np.ones((1, width))
    out = Image.new("RGBA", (width, 930), (0, 0, 0, 0))
    _over(out, _squeezed(body, share), 0, 180)
    _over(out, _wrapped(draw_label(product, 640, 470, 0.62), width, sag), 0, 360)
    cap = mix(product.accent, product.base, 0.35)
    _over(out, _wrapped(gradient(300, 170, cap, mix(cap, (0, 0, 0), 0.25)), 200, 24), 115, 16)
    ImageDraw.Draw(out).ellipse((115, 0, 315, 44), fill=mix(cap, (255, 255, 255), 0.25))
    return out


def _pillow(product: Flavour) -> Image.Image:
    """A bag full of air, crimped above and below."""
    width, height = 640, 880
    art = np.asarray(draw_label(product, width, height)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width * 2 - 1, y / height * 2 - 1
    light = 0.72 + 0.36 * np.cos(u * 1.25 + 0.25) * np.cos(v * 0.9)
    light += 0.07 * np.sin(u * 9 + v * 5) * np.clip(np.abs(v) - 0.45, 0, 1) * 3
    crimp = np.abs(v) > 0.9
    light = np.where(crimp, 0.82 + 0.12 * np.sin(y * 0.75), light)
    waist = 1 - 0.035 * np.cos(v * np.pi) - 0.02 * np.sin(v * 7) ** 2 - 0.02
    inside = np.abs(u) < waist
    zigzag = np.abs(((x / 26) % 1) - 0.5) * 20
    inside &= (y > zigzag) & (y < height - zigzag)
    lit = np.clip(art * light[..., None] + np.clip(light - 1, 0, 1)[..., None] * 400, 0, 255)
    return Image.fromarray(np.dstack([lit, inside * 255.0]).astype(np.uint8), "RGBA")


def _pouch(product: Flavour) -> Image.Image:
    """A stand-up coffee bag with a folded top."""
    width, height = 520, 760
    art = np.asarray(draw_label(product, width, height)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width * 2 - 1, y / height * 2 - 1
    light = 0.86 + 0.2 * np.cos(u * 1.4 + 0.3) - 0.16 * np.exp(-(((np.abs(u) - 0.9) / 0.06) ** 2))
    light -= 0.1 * np.clip(v - 0.7, 0, 1)
    lit = np.clip(art * np.minimum(light, 1.06)[..., None], 0, 255)
    foot = 18 * (1 - u**2)
    inside = y < height - 20 + foot
    front = Image.fromarray(np.dstack([lit, inside * 255.0]).astype(np.uint8), "RGBA")
    out = Image.new("RGBA", (width + 40, height + 130), (0, 0, 0, 0))
    out.paste(front, (20, 128), front)
    pen = ImageDraw.Draw(out)
    pen.polygon([(20, 130), (width + 20, 130), (width - 10, 66), (50, 66)], fill=mix(product.base, (0, 0, 0), 0.3))
    pen.rectangle((50, 20, width - 10, 68), fill=mix(product.base, (255, 255, 255), 0.12))
    pen.rectangle((30, 30, width + 10, 52), fill=product.accent)
    return out


def _bar(product: Flavour) -> Image.Image:
    """A flow-wrapped bar, lying."""
    width, height = 960, 400
    art = np.asarray(draw_label(product, width, height, 0.84)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width * 2 - 1, y / height * 2 - 1
    light = 0.78 + 0.28 * np.cos(v * 1.35 + 0.35) + 0.1 * np.exp(-(((v + 0.72) / 0.07) ** 2))
    crimp = np.abs(u) > 0.93
    light = np.where(crimp, 0.78 + 0.14 * np.sin(x * 0.8), light)
    zigzag = np.abs(((y / 24) % 1) - 0.5) * 18
    inside = (x > zigzag) & (x < width - zigzag) & (np.abs(v) < np.where(crimp, 0.9, 1.0))
    lit = np.clip(art * light[..., None], 0, 255)
    return Image.fromarray(np.dstack([lit, inside * 255.0]).astype(np.uint8), "RGBA")


SHAPES: dict[str, Callable[[Flavour], Image.Image]] = {
    "box": _box,
    "chest": _chest,
    "carton": _carton,
    "can": _can,
    "tin": _tin,
    "jar": _jar,
    "tub": _tub,
    "cup": _cup,
    "bottle": _bottle,
    "pillow": _pillow,
    "pouch": _pouch,
    "bar": _bar,
}


def _over(out: Image.Image, part: Image.Image, x: int, y: int) -> None:
    out.alpha_composite(part, (x, y))
