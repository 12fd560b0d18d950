"""Draws a verdict as a picture: both pictures side by side, the score on a scale with its thresholds, the model."""

from __future__ import annotations

import io
import math
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from photoproof.errors import PhotoproofError
from photoproof.pictures.prepare import PictureSource, prepare
from photoproof.verdict import Verdict, format_distinct

_WIDTH, _HEIGHT, _EDGE, _GAP = 1200, 880, 48, 32
_PICTURES_AT, _PICTURE_HEIGHT = 184, 420
_SCALE_AT, _SCALE_HEIGHT = 694, 26
_SCALE_TO, _TICKS = 0.9995, (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
_PAPER, _INK, _PALE, _LINE, _MAT = "#ffffff", "#1b1f24", "#667080", "#d5dae1", "#f2f4f7"
_COLOURS = {"match": "#1a7f4b", "mismatch": "#c0362c", "review": "#b06f00", "identical": "#5b4bb3"}
_TINTS = {"mismatch": "#f1c9c5", "review": "#f6dfb3", "match": "#bfe3cf"}
_WORDS = {
    "match": "Match",
    "mismatch": "Mismatch",
    "review": "For a person to decide",
    "identical": "A copy of the original picture",
}


class UnwritableReport(PhotoproofError):
    """The report's file can't be written."""

    exit_code = 2


def draw(verdict: Verdict, original: PictureSource, photo: PictureSource, file: str | Path) -> None:
    """Writes the report as a PNG of 1200 x 880 pixels. Raises InvalidImage and UnwritableReport."""
    sheet = Image.new("RGB", (_WIDTH, _HEIGHT), _PAPER)
    pen = ImageDraw.Draw(sheet)
    colour = _COLOURS[verdict.outcome]
    pen.rectangle((0, 0, _WIDTH, 10), fill=colour)
    pen.text((_EDGE, 44), _WORDS[verdict.outcome], font=_font(44), fill=colour)
    pen.text((_EDGE, 108), _sentence(verdict.reason), font=_font(22), fill=_INK)

    side = (_WIDTH - 2 * _EDGE - _GAP) // 2
    for column, (name, picture, sha256) in enumerate(
        (("Original", original, verdict.original_sha256), ("Photo", photo, verdict.photo_sha256))
    ):
        left = _EDGE + column * (side + _GAP)
        pen.text((left, _PICTURES_AT - 32), name, font=_font(20), fill=_PALE)
        pen.text((left + side, _PICTURES_AT - 28), f"sha256 {sha256[:16]}", font=_font(16), fill=_PALE, anchor="ra")
        _paste_picture(sheet, prepare(picture, name.lower()).image_bytes, (left, _PICTURES_AT, side, _PICTURE_HEIGHT))

    if verdict.probability is not None and verdict.accept_at is not None and verdict.reject_at is not None:
        _draw_scale(pen, verdict.probability, verdict.reject_at, verdict.accept_at, colour)
    else:
        pen.text((_EDGE, _SCALE_AT), "The model was not asked.", font=_font(22), fill=_PALE)
    pen.line((_EDGE, _HEIGHT - 82, _WIDTH - _EDGE, _HEIGHT - 82), fill=_LINE)
    pen.text((_EDGE, _HEIGHT - 60), _model_text(verdict), font=_font(18), fill=_PALE)
    if verdict.similarity is not None:
        scores = f"similarity {verdict.similarity:.3f}   distance {verdict.distance:.3f}"
        pen.text((_WIDTH - _EDGE, _HEIGHT - 60), scores, font=_font(18), fill=_PALE, anchor="ra")
    try:
        sheet.save(file, "PNG")
    except OSError as error:
        raise UnwritableReport(f"{file} can't be written: {error.strerror or error}") from error


def _paste_picture(sheet: Image.Image, image_bytes: bytes, frame: tuple[int, int, int, int]) -> None:
    """Puts a picture into the middle of a frame (left, top, width, height), as large as fits, at most three times."""
    left, top, width, height = frame
    ImageDraw.Draw(sheet).rectangle((left, top, left + width, top + height), fill=_MAT, outline=_LINE)
    picture = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    scale = min((width - 24) / picture.width, (height - 24) / picture.height, 3.0)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = picture.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(shown, (left + (width - size[0]) // 2, top + (height - size[1]) // 2))


def _draw_scale(pen: ImageDraw.ImageDraw, probability: float, reject_at: float, accept_at: float, colour: str) -> None:
    left, right, bottom = _EDGE, _WIDTH - _EDGE, _SCALE_AT + _SCALE_HEIGHT

    def x(value: float) -> float:
        return left + (right - left) * _position(value)

    zones = (("mismatch", 0.0, reject_at), ("review", reject_at, accept_at), ("match", accept_at, 1.0))
    for outcome, start, end in zones:
        pen.rectangle((x(start), _SCALE_AT, x(end), bottom), fill=_TINTS[outcome])
        if x(end) - x(start) > pen.textlength(outcome, font=_font(16)) + 12:
            middle = ((x(start) + x(end)) / 2, (_SCALE_AT + bottom) / 2)
            pen.text(middle, outcome, font=_font(16), fill=_COLOURS[outcome], anchor="mm")
    for value in (reject_at, accept_at):
        pen.line((x(value), _SCALE_AT - 4, x(value), bottom + 30), fill=_INK, width=2)
    shown, reject, accept = format_distinct(probability, reject_at, accept_at)
    _label_thresholds(pen, x(reject_at), x(accept_at), f"mismatch below {reject}", f"match from {accept}", bottom + 30)
    for value in _TICKS:
        pen.line((x(value), bottom, x(value), bottom + 5), fill=_PALE)
        if all(abs(x(value) - x(threshold)) > 24 for threshold in (reject_at, accept_at)):
            pen.text((x(value), bottom + 8), f"{value:g}", font=_font(13), fill=_PALE, anchor="ma")

    tip = _SCALE_AT - 3
    pen.polygon([(x(probability), tip), (x(probability) - 11, tip - 18), (x(probability) + 11, tip - 18)], fill=colour)
    text = f"probability {shown}"
    half = pen.textlength(text, font=_font(24)) / 2
    centre = min(max(x(probability), left + half), right - half)
    pen.text((centre, tip - 24), text, font=_font(24), fill=colour, anchor="ms")


def _position(probability: float) -> float:
    """Where a probability stands on the scale, 0 to 1: by its log-odds, as thresholds are often close to 0 and 1."""
    within = min(max(probability, 1 - _SCALE_TO), _SCALE_TO)
    return 0.5 + math.log(within / (1 - within)) / (2 * math.log(_SCALE_TO / (1 - _SCALE_TO)))


def _label_thresholds(
    pen: ImageDraw.ImageDraw, reject_x: float, accept_x: float, reject: str, accept: str, top: float
) -> None:
    """Names both thresholds below the scale, left and right of their marks, moved apart where they would overlap."""
    font = _font(16)
    reject_length, accept_length = pen.textlength(reject, font=font), pen.textlength(accept, font=font)
    accept_left = min(accept_x, _WIDTH - _EDGE - accept_length)
    reject_left = max(_EDGE, min(reject_x, accept_left - 16) - reject_length)
    accept_left = max(accept_left, reject_left + reject_length + 16)
    pen.text((reject_left, top), reject, font=font, fill=_PALE)
    pen.text((accept_left, top), accept, font=font, fill=_PALE)


def _model_text(verdict: Verdict) -> str:
    version = f" version {verdict.model_version}" if verdict.model_version is not None else ""
    identity = f"   model {verdict.model_id}" if verdict.model_id else ""
    return f"{verdict.model_name}{version}{identity}"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
