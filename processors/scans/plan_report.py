"""The report of a scan as PDF: numbers with their uncertainty, and a dimensioned plan drawn to scale as lines."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.result import DIMENSIONS, FoundOpening, FoundWall, ScanResult

if TYPE_CHECKING:
    from fpdf import FPDF

_MARGIN_MM: Final = 15.0
_PLAN_TOP_MM: Final = 97.0
_PLAN_MM: Final = (180.0, 182.0)
# Room for dimension lines and their texts around the plan.
_AROUND_MM: Final = 18.0
_SCALES: Final = (10, 20, 25, 30, 40, 50, 75, 100, 150, 200, 250, 500, 1000, 2000, 5000)
_UNITS: Final = {"area": "m²", "volume": "m³"}
# A file says when it was made; the same scan is to give the same bytes.
_MADE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_SHORT_WALL_MM: Final = 9.0


def report_pdf(result: ScanResult, title: str) -> bytes:
    """The report, one page of A4 and one of tables if there are walls."""
    from fpdf import FPDF  # noqa: PLC0415

    pdf = FPDF(format="A4")
    pdf.set_creation_date(_MADE)
    pdf.set_title(title)
    pdf.set_auto_page_break(auto=True, margin=_MARGIN_MM)
    pdf.set_margins(_MARGIN_MM, _MARGIN_MM)
    pdf.add_page()
    _heading(pdf, result, title)
    _dimensions(pdf, result)
    if result.floor_polygon:
        _Drawing(pdf, result).draw()
        pdf.add_page()
        _tables(pdf, result)
    return bytes(pdf.output())


def _text(text: str) -> str:
    """What the built-in fonts can print."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _heading(pdf: FPDF, result: ScanResult, title: str) -> None:
    pdf.set_font("helvetica", "B", 18)
    pdf.cell(0, 10, _text(title), new_x="LMARGIN", new_y="NEXT")
    pdf.set_font("helvetica", "", 10)
    lines = [
        f"Verdict: {result.verdict.value}. Confidence {result.confidence:.0%}, walls seen {result.completeness:.0%}, "
        f"{result.frames.accepted} frames measured from, {len(result.frames.rejected)} left out."
    ]
    if result.ceiling.parts:
        low, high, mean = result.ceiling.lowest, result.ceiling.highest, result.ceiling.mean
        lines.append(
            f"Ceiling: {result.ceiling.kind}, from {low} m to {high} m, {mean} m in the mean; the height is the highest."
        )
    if result.missing_parts:
        lines.append("Scan again: " + ", ".join(result.missing_parts) + ".")
    if result.warnings:
        lines.append("Likely mistakes: " + ", ".join(one.value.replace("_", " ") for one in result.warnings) + ".")
    for line in lines:
        pdf.multi_cell(0, 5, _text(line), new_x="LMARGIN", new_y="NEXT")
    pdf.ln(2)


def _dimensions(pdf: FPDF, result: ScanResult) -> None:
    rows: list[tuple[str, ...]] = [("", "measured", "standard deviation")]
    for name in DIMENSIONS:
        unit = _UNITS.get(name, "m")
        value, sigma = getattr(result.room_dimensions, name), getattr(result.uncertainty, name)
        shown = ("not measured", "") if value is None else (f"{value} {unit}", f"{sigma} {unit}")
        rows.append((name.capitalize(), *shown))
    _table(pdf, rows, (55, 50, 50))


def _tables(pdf: FPDF, result: ScanResult) -> None:
    walls = [(str(n), f"{w.length} m", f"{w.uncertainty} m", f"{w.seen:.0%}") for n, w in enumerate(result.walls, 1)]
    _titled(pdf, "Walls", [("wall", "length", "standard deviation", "seen"), *walls], (25, 40, 45, 30))
    openings = [
        (one.kind, str(one.wall + 1), *(f"{number} m" for number in (one.offset, one.width, one.height, one.sill)))
        for one in result.openings
    ]
    head = ("opening", "wall", "from its start", "width", "height", "sill")
    if result.ceiling.parts:
        parts = [
            (str(n), f"{one.lowest} m", f"{one.highest} m", str(one.slope), f"{one.area} m²")
            for n, one in enumerate(result.ceiling.parts, 1)
        ]
        _titled(
            pdf, "Ceiling", [("part", "lowest", "highest", "rise a metre", "area below"), *parts], (25, 35, 35, 35, 35)
        )
    _titled(pdf, "Openings", [head, *openings], (30, 20, 35, 30, 30, 30))
    objects = [(one.label or "object", *(f"{number} m" for number in one.size)) for one in result.objects]
    _titled(pdf, "Objects", [("object", "length", "width", "height"), *objects], (45, 35, 35, 35))


def _titled(pdf: FPDF, title: str, rows: list[tuple[str, ...]], widths: tuple[float, ...]) -> None:
    pdf.set_font("helvetica", "B", 13)
    pdf.cell(0, 9, title, new_x="LMARGIN", new_y="NEXT")
    _table(pdf, rows if len(rows) > 1 else [("none found",)], widths)
    pdf.ln(4)


def _table(pdf: FPDF, rows: list[tuple[str, ...]], widths: tuple[float, ...]) -> None:
    pdf.set_draw_color(200)
    pdf.set_line_width(0.2)
    for number, row in enumerate(rows):
        pdf.set_font("helvetica", "B" if number == 0 else "", 10)
        for text, width in zip(row, widths, strict=False):
            pdf.cell(width, 6.5, _text(text), border="B")
        pdf.ln(6.5)


class _Drawing:
    """The plan: walls with their lengths, openings, objects, and a bar of a metre."""

    def __init__(self, pdf: FPDF, result: ScanResult) -> None:
        self._pdf = pdf
        self._result = result
        corners = np.array(result.floor_polygon)
        low, high = corners.min(axis=0), corners.max(axis=0)
        room = np.array(_PLAN_MM) - 2 * _AROUND_MM
        needed = float(((high - low) * 1000 / room).max())
        self._scale = next((one for one in _SCALES if one >= needed), math.ceil(needed))
        middle = np.array([_MARGIN_MM + _PLAN_MM[0] / 2, _PLAN_TOP_MM + _PLAN_MM[1] / 2])
        self._origin = middle - np.array([1, -1]) * (low + high) / 2 * 1000 / self._scale

    def draw(self) -> None:
        """All of it."""
        for one in self._result.objects:
            self._object(one)
        self._walls()
        for opening in self._result.openings:
            self._opening(opening)
        for number, wall in enumerate(self._result.walls, 1):
            self._dimension(wall, number)
        self._legend()

    def _at(self, point: Any) -> NDArray[np.float64]:  # noqa: ANN401 - whatever numpy takes
        """Millimetres on the paper of metres in the room."""
        where: NDArray[np.float64] = self._origin + np.array([1, -1]) * np.asarray(point) * 1000 / self._scale
        return where

    def _pen(self, grey: int, width: float) -> None:
        self._pdf.set_draw_color(grey)
        self._pdf.set_line_width(width)

    def _line(self, first: NDArray[np.float64], last: NDArray[np.float64]) -> None:
        self._pdf.line(*(float(number) for number in (*first, *last)))

    def _walls(self) -> None:
        self._pen(30, 0.9)
        outline = [tuple(float(number) for number in self._at(corner)) for corner in self._result.floor_polygon]
        self._pdf.polygon(outline, style="D")

    def _object(self, one: Any) -> None:  # noqa: ANN401
        along = np.array([math.cos(one.yaw), math.sin(one.yaw)]) * one.size[0] / 2
        across = np.array([-math.sin(one.yaw), math.cos(one.yaw)]) * one.size[1] / 2
        center = np.array(one.center[:2])
        corners = [center + along + across, center - along + across, center - along - across, center + along - across]
        self._pen(170, 0.2)
        self._pdf.set_fill_color(238)
        self._pdf.polygon([tuple(float(number) for number in self._at(corner)) for corner in corners], style="DF")
        self._centred(self._at(center), one.label or f"{one.size[2]} m high", 6, 0.0)

    def _opening(self, opening: FoundOpening) -> None:
        wall = self._result.walls[opening.wall]
        along = _along(wall)
        first = np.array(wall.start) + along * opening.offset
        last = first + along * opening.width
        self._pen(255, 1.4)
        self._line(self._at(first), self._at(last))
        self._pen(30, 0.25)
        inwards = np.array([-along[1], along[0]])
        if opening.kind == "window":
            for shift in (-0.04, 0.04):
                self._line(self._at(first + inwards * shift), self._at(last + inwards * shift))
        elif opening.kind == "door":
            leaf = first + inwards * opening.width
            self._line(self._at(first), self._at(leaf))
            arc = [
                first + opening.width * (math.cos(a) * along + math.sin(a) * inwards)
                for a in np.linspace(0, math.pi / 2, 13)
            ]
            for one, other in itertools.pairwise(arc):
                self._line(self._at(one), self._at(other))
        label = f"{opening.kind} {opening.width} x {opening.height}"
        self._centred(self._at((first + last) / 2 + inwards * 0.12), label, 6, _angle(along))

    def _dimension(self, wall: FoundWall, number: int) -> None:
        """A line with ticks beside the wall, on the side that is outside, and the length above it."""
        along = _along(wall)
        outwards = np.array([along[1], -along[0]])
        first, last = (self._at(point) for point in (wall.start, wall.end))
        paper_out = np.array([outwards[0], -outwards[1]])
        off = 6.0 * paper_out
        self._pen(110, 0.2)
        self._line(first + off, last + off)
        for end in (first, last):
            self._line(end + 2.0 * paper_out, end + off + 1.5 * paper_out)
        is_short = wall.length * 1000 / self._scale < _SHORT_WALL_MM
        text = f"{wall.length}" if is_short else f"{wall.length} m"
        self._centred((first + last) / 2 + off + 2.2 * paper_out, text, 6.5 if is_short else 8, _angle(along))
        self._centred((first + last) / 2 + 2.8 * paper_out, str(number), 5.5, 0.0)

    def _centred(self, at: NDArray[np.float64], text: str, size: float, angle: float) -> None:
        pdf = self._pdf
        pdf.set_font("helvetica", "", size)
        pdf.set_text_color(60)
        x, y = float(at[0]), float(at[1])
        with pdf.rotation(angle, x, y):
            pdf.text(x - pdf.get_string_width(_text(text)) / 2, y + size * 0.12, _text(text))
        pdf.set_text_color(0)

    def _legend(self) -> None:
        pdf = self._pdf
        left, bottom, metre = _MARGIN_MM, _PLAN_TOP_MM + _PLAN_MM[1] - 2, 1000 / self._scale
        self._pen(30, 0.4)
        pdf.line(left, bottom, left + metre, bottom)
        for x in (left, left + metre):
            pdf.line(x, bottom - 1.2, x, bottom + 1.2)
        pdf.set_font("helvetica", "", 7)
        pdf.text(left + metre + 2, bottom + 1, f"1 m, scale 1 : {self._scale}; lengths between wall surfaces in metres")


def _along(wall: FoundWall) -> NDArray[np.float64]:
    way = np.array(wall.end) - np.array(wall.start)
    along: NDArray[np.float64] = way / np.linalg.norm(way)
    return along


def _angle(along: NDArray[np.float64]) -> float:
    """Degrees of a text along a wall that can be read without turning the head too far."""
    angle = math.degrees(math.atan2(along[1], along[0]))
    return angle - 180 if angle > 90.1 else angle + 180 if angle <= -90.1 else angle  # noqa: PLR2004
