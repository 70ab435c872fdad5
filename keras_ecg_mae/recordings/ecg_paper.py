"""ECGs drawn as a cardiologist reads them: on millimetre paper, 25 mm/s and 10 mm/mV.

Only matplotlib's object interface is used, so drawing is safe in any thread and leaves pyplot's state alone. Each page
is one Axes whose data unit is the millimetre of the printed page. Traces are drawn about their median, as an
electrocardiograph's high-pass filter would show them.
"""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from keras_ecg_mae import spec

MILLIMETRES_PER_INCH = 25.4
A4_LANDSCAPE_MM = (297.0, 210.0)
A3_WIDTH_MM = 420.0
PAPER_COLOUR, FINE_GRID_COLOUR, GRID_COLOUR = "#fffafa", "#f9dede", "#ebadad"
INK, PALE_INK, ACCENT, REMOVED_COLOUR = "#16161d", "#8c8c94", "#0b5fc0", "#d9dce3"

# The usual page: four columns of 2.5 s, and lead II over all 10 s as the rhythm strip.
PAGE_LAYOUT = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM_LEAD = "II"
ROW_HEIGHT_MM = 40.0
# A lead's name stands over its trace, further right where a beat would cross it.
LABEL_HEIGHT_MM, LABEL_WIDTH_MM, LABEL_SHIFTS_MM = 12.5, 9.5, (1.5, 5.0, 10.0, 15.0, 20.0)
# Far off any page, and near enough for matplotlib to count in pixels: microvolts drawn as millivolts.
LARGEST_DRAWN_MV = 1e4
# Notes at 8 points: as many characters as are sure to fit beside the scale, and as many lines as have a place.
NOTE_WIDTH, NOTE_LINES = 120, 3


def draw_ecg(ecg_mv: np.ndarray, title: str | None = None, note: str | None = None) -> Figure:
    """One recording on A4 landscape: 3 x 4 leads, a rhythm strip and the 1 mV calibration pulse.

    Args:
        ecg_mv: `(12, 5000)`, millivolts, as `spec` orders it; NaN where nothing was recorded.
        title: a line over the page; it is drawn as it is, so keep names out of it.
        note: some lines under the page.

    Returns:
        a figure that prints to scale: a millimetre of its grid is one of the page.
    """
    shown_mv = np.clip(_twelve_leads(ecg_mv, "ecg_mv"), -LARGEST_DRAWN_MV, LARGEST_DRAWN_MV)
    recorded = np.isfinite(shown_mv).any(axis=1)
    shown_mv[recorded] -= np.nanmedian(shown_mv[recorded], axis=1, keepdims=True)
    figure, axes = _page(A4_LANDSCAPE_MM)
    paper = _Paper(axes, left=13.5, bottom=20.0, width=270.0, height=170.0, speed_mm_s=25.0, gain_mm_mv=10.0)
    for row, leads in enumerate((*PAGE_LAYOUT, (RHYTHM_LEAD,))):
        baseline = paper.top - 30.0 - ROW_HEIGHT_MM * row
        paper.calibration_pulse(paper.left + 5.0, baseline)
        samples = spec.SAMPLES // len(leads)
        for column, lead in enumerate(leads):
            start = paper.left + 15.0 + column * samples / spec.SAMPLING_RATE_HZ * paper.speed_mm_s
            place = spec.LEADS.index(lead)
            trace_mv = shown_mv[place, column * samples :][:samples]
            paper.trace(trace_mv, start, baseline)
            label = start + _label_shift_mm(trace_mv * paper.gain_mm_mv, spec.SAMPLING_RATE_HZ / paper.speed_mm_s)
            _text(axes, label, baseline + LABEL_HEIGHT_MM, lead, size=10, weight="bold")
            if not recorded[place]:
                _text(axes, label, baseline + 6.0, "not recorded", size=9)
            if column:
                axes.plot([start, start], [baseline - 2.5, baseline + 2.5], color=INK, linewidth=0.8, zorder=3)
    _text(axes, paper.left, 195.0, title or "", size=11, weight="bold")
    _text(axes, paper.right, 14.0, paper.scale, size=10, align="right")
    lines = textwrap.wrap(note or "", NOTE_WIDTH, max_lines=NOTE_LINES, placeholder=" ...")
    for line, words in enumerate(lines):
        _text(axes, paper.left, 15.0 - 4.0 * line, words, size=8)
    return figure


def draw_reconstruction(
    original_mv: np.ndarray,
    reconstructed_mv: np.ndarray,
    mask: np.ndarray,
    title: str | None = None,
    leads: Sequence[str] = spec.LEADS,
) -> Figure:
    """What a masked autoencoder saw and what it made of it: a row a lead, three columns, on a page as wide as A3.

    Sawano et al. show leads II and V5 in figure 1 and all twelve in figure 3; how they drew them is not copied. Twelve
    leads fill A3 landscape. Up to six stand twice as far apart, on a page as high as they need.

    Args:
        original_mv: `(12, 5000)`, millivolts.
        reconstructed_mv: `(12, 5000)`, millivolts; used where patches were removed.
        mask: `(240,)`, 1 where a patch was removed; lead by lead, 20 patches a lead.
        title: a line over the page.
        leads: those to draw, in this order.

    Returns:
        a figure: the original; the same with removed patches shaded; visible patches in grey, reconstructed in blue.
    """
    original_mv = _twelve_leads(original_mv, "original_mv")
    reconstructed_mv = _twelve_leads(reconstructed_mv, "reconstructed_mv")
    rows = [spec.LEADS.index(lead) for lead in leads]
    removed_patches = np.reshape(mask, (len(spec.LEADS), spec.PATCHES_PER_LEAD)).astype(bool)
    removed = removed_patches.repeat(spec.PATCH_SAMPLES, axis=1)
    medians_mv = np.median(original_mv, axis=1, keepdims=True)
    shown_mv = original_mv - medians_mv
    visible_mv = np.where(removed, np.nan, shown_mv)
    filled_mv = np.where(removed, reconstructed_mv - medians_mv, np.nan)

    # Whole five millimetres, so that a lead's 0 mV falls on the same line of the grid in each row.
    row_height = float(min(40, 240 // len(rows) // 5 * 5))
    # Half the usual gain where the usual one would draw a beat over its neighbours' rows.
    gain_mm_mv = 10.0 if np.abs(shown_mv[rows]).max() * 10.0 < 0.9 * row_height else 5.0
    height = len(rows) * row_height
    figure, axes = _page((A3_WIDTH_MM, height + 57.0))
    original, masked, reconstructed = (
        _Paper(axes, left, bottom=25.0, width=125.0, height=height, speed_mm_s=12.5, gain_mm_mv=gain_mm_mv)
        for left in (16.0, 150.0, 284.0)
    )
    for place, (row, lead) in enumerate(zip(rows, leads, strict=True)):
        baseline = original.top - (place + 0.5) * row_height
        original.trace(shown_mv[row], original.left, baseline)
        masked.shade(removed_patches[row], baseline - row_height / 2, row_height)
        masked.trace(visible_mv[row], masked.left, baseline)
        reconstructed.trace(visible_mv[row], reconstructed.left, baseline, PALE_INK, 0.6)
        reconstructed.trace(filled_mv[row], reconstructed.left, baseline, ACCENT, 0.9)
        _text(axes, original.left - 2.0, baseline, lead, size=11, weight="bold", align="right")
    of_all = "" if len(rows) == len(spec.LEADS) else f" of all {len(spec.LEADS)} leads"
    share = f"{removed_patches.mean():.0%} of the patches{of_all}"
    _text(axes, original.left, original.top + 4.0, "Original", size=12, weight="bold")
    _text(axes, masked.left, original.top + 4.0, f"Masked: {share} removed", size=12, weight="bold")
    _text(axes, reconstructed.left, original.top + 4.0, "Reconstructed", size=12, weight="bold")
    _text(axes, original.left, original.top + 15.0, title or "", size=14, weight="bold")
    _text(axes, original.left, 18.0, "Blue: patches the model reconstructed. Grey: patches it saw.", size=10)
    _text(axes, reconstructed.right, 18.0, original.scale, size=10, align="right")
    return figure


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file, at its own resolution."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file, which depends on nothing else."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "keras_ecg_mae"}):  # or its elements' names are random
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue().encode()


class _Paper:
    """A sheet of millimetre paper on a page, with its scale; traces end at its edges."""

    def __init__(
        self,
        axes: Axes,
        left: float,
        bottom: float,
        width: float,
        height: float,
        speed_mm_s: float,
        gain_mm_mv: float,
    ):
        self.axes, self.left, self.right, self.top = axes, left, left + width, bottom + height
        self.speed_mm_s, self.gain_mm_mv = speed_mm_s, gain_mm_mv
        self.sheet = Rectangle((left, bottom), width, height, color=PAPER_COLOUR, linewidth=0, zorder=0)
        axes.add_patch(self.sheet)
        # A fine line each millimetre, a strong one each five.
        for step, colour, line_width, order in ((1, FINE_GRID_COLOUR, 0.35, 0.1), (5, GRID_COLOUR, 0.6, 0.2)):
            lines = [[(left + x, bottom), (left + x, self.top)] for x in range(0, int(width) + 1, step)]
            lines += [[(left, bottom + y), (self.right, bottom + y)] for y in range(0, int(height) + 1, step)]
            grid = LineCollection(lines, colors=colour, linewidths=line_width, zorder=order)
            axes.add_collection(grid, autolim=False)

    @property
    def scale(self) -> str:
        return f"{self.speed_mm_s:g} mm/s    {self.gain_mm_mv:g} mm/mV    {spec.SAMPLING_RATE_HZ} Hz"

    def trace(
        self, lead_mv: np.ndarray, start: float, baseline: float, colour: str = INK, line_width: float = 0.7
    ) -> None:
        """One lead from `start`, its 0 mV at `baseline`; NaN leaves a gap."""
        x = start + np.arange(lead_mv.size) / spec.SAMPLING_RATE_HZ * self.speed_mm_s
        y = baseline + lead_mv * self.gain_mm_mv
        (line,) = self.axes.plot(x, y, color=colour, linewidth=line_width, solid_joinstyle="round", zorder=3)
        line.set_clip_path(self.sheet)

    def shade(self, removed: np.ndarray, bottom: float, height: float) -> None:
        """A grey box for each of the row's patches that is removed."""
        patch_width = (self.right - self.left) / removed.size
        for patch in np.flatnonzero(removed):
            corner = (self.left + patch * patch_width, bottom)
            self.axes.add_patch(Rectangle(corner, patch_width, height, color=REMOVED_COLOUR, linewidth=0, zorder=2))

    def calibration_pulse(self, start: float, baseline: float) -> None:
        """1 mV for 0.2 s from `start`: the scale drawn rather than told."""
        x = start + np.array([-0.04, 0.0, 0.0, 0.2, 0.2, 0.24]) * self.speed_mm_s
        y = baseline + np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0]) * self.gain_mm_mv
        self.axes.plot(x, y, color=INK, linewidth=0.8, solid_joinstyle="miter", zorder=3)


def _label_shift_mm(trace_mm: np.ndarray, samples_a_mm: float) -> float:
    """The first shift at which the trace stays under the name; the first of all where none does."""

    def crossed(shift_mm: float) -> bool:
        beside = trace_mm[round((shift_mm - 1.0) * samples_a_mm) : round((shift_mm + LABEL_WIDTH_MM) * samples_a_mm)]
        return bool((beside > LABEL_HEIGHT_MM - 2.5).any())

    return min(LABEL_SHIFTS_MM, key=crossed)


def _twelve_leads(ecg_mv: np.ndarray, name: str) -> np.ndarray:
    ecg_mv = np.asarray(ecg_mv, dtype=np.float64)
    if ecg_mv.shape != (len(spec.LEADS), spec.SAMPLES):
        raise ValueError(f"Expected {name} of shape ({len(spec.LEADS)}, {spec.SAMPLES}). Received {ecg_mv.shape}.")
    return ecg_mv


def _page(size_mm: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty page and its only Axes, whose units are millimetres from the page's lower left corner."""
    figure = Figure(figsize=(size_mm[0] / MILLIMETRES_PER_INCH, size_mm[1] / MILLIMETRES_PER_INCH), dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, size_mm[0]), ylim=(0.0, size_mm[1]))
    axes.set_axis_off()
    return figure, axes


def _text(axes: Axes, x: float, y: float, text: str, size: float, weight: str = "normal", align: str = "left") -> None:
    # A dollar sign in a file's name would start a formula, and an unbalanced one would raise. The halo keeps a lead's
    # name readable where a tall QRS crosses it.
    axes.text(
        x,
        y,
        text,
        fontsize=size,
        fontweight=weight,
        color=INK,
        ha=align,
        va="center",
        parse_math=False,
        path_effects=[withStroke(linewidth=2.5, foreground=PAPER_COLOUR)],
        zorder=4,
    )
