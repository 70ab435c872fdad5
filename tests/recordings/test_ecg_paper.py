import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from keras_ecg_mae import spec
from keras_ecg_mae.recordings.ecg_paper import draw_ecg, draw_reconstruction, to_png, to_svg


def ramp_ecg(scale: float = 1.0) -> np.ndarray:
    """Twelve leads, each a sine of its own size about an offset, so that every trace can be told apart."""
    wave = np.sin(2 * np.pi * np.arange(5000) / 500)
    return scale * np.linspace(0.1, 1.0, 12)[:, None] * wave + 7.0


def traces(figure: Figure, samples: int) -> list[Line2D]:
    return [line for line in figure.axes[0].get_lines() if len(np.asarray(line.get_xdata())) == samples]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_page_is_a4_in_millimetres() -> None:
    figure = draw_ecg(ramp_ecg(), title="a $ in the title")
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, [297, 210])
    axes = figure.axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 297), (0, 210))
    assert axes.get_position().bounds == (0, 0, 1, 1)
    assert "25 mm/s    10 mm/mV    500 Hz" in texts(figure)
    assert "a $ in the title" in texts(figure)


def test_leads_stand_where_a_reader_expects_them_and_to_scale() -> None:
    ecg_mv = ramp_ecg()
    figure = draw_ecg(ecg_mv)
    columns = traces(figure, 1250)
    order = ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6"]
    assert [text for text in texts(figure) if text in spec.LEADS] == [*order, "II"]
    for place, (lead, line) in enumerate(zip(order, columns, strict=True)):
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        assert x[500] - x[0] == pytest.approx(25.0)
        samples = slice(place % 4 * 1250, place % 4 * 1250 + 1250)
        np.testing.assert_allclose(np.diff(y), np.diff(ecg_mv[spec.LEADS.index(lead), samples]) * 10, atol=1e-9)
    (rhythm,) = traces(figure, 5000)
    assert np.ptp(np.asarray(rhythm.get_ydata(), float)) == pytest.approx(np.ptp(ecg_mv[1]) * 10)
    assert np.ptp(np.asarray(rhythm.get_xdata(), float)) == pytest.approx(250, abs=0.1)


def test_calibration_pulses_are_one_millivolt_and_a_fifth_of_a_second() -> None:
    pulses = traces(draw_ecg(ramp_ecg()), 6)
    assert len(pulses) == 4
    for pulse in pulses:
        x, y = np.asarray(pulse.get_xdata(), float), np.asarray(pulse.get_ydata(), float)
        assert np.ptp(y) == pytest.approx(10)
        assert x[3] - x[2] == pytest.approx(5)


def test_reconstruction_shows_each_patch_once() -> None:
    original, made = ramp_ecg(), ramp_ecg(0.5)
    mask = np.zeros(240)
    mask[[0, 19, 20, 239]] = 1  # lead I's first and last patch, lead II's first, V6's last
    figure = draw_reconstruction(original, made, mask, title="step 100")
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, [420, 297])
    assert {"Original", "Masked: 2% of the patches removed", "Reconstructed", "step 100"} <= set(texts(figure))
    assert [text for text in texts(figure) if text in spec.LEADS] == list(spec.LEADS)
    lines = traces(figure, 5000)
    assert len(lines) == 12 * 4
    gaps = [np.isnan(np.asarray(line.get_ydata(), float)) for line in lines]
    for row in range(12):
        whole, masked, seen, filled = gaps[4 * row : 4 * row + 4]
        removed = mask.reshape(12, 20)[row].astype(bool).repeat(250)
        assert not whole.any()
        np.testing.assert_array_equal(masked, removed)
        np.testing.assert_array_equal(seen, removed)
        np.testing.assert_array_equal(filled, ~removed)
    full_line, filled_line = lines[44], lines[47]
    full, filled_y = (np.asarray(line.get_ydata(), float)[-250:] for line in (full_line, filled_line))
    assert np.ptp(filled_y) == pytest.approx(np.ptp(full) / 2)


def test_two_leads_stand_further_apart_on_a_lower_page() -> None:
    original, mask = ramp_ecg(), np.zeros(240)
    mask[25] = 1  # lead II
    figure = draw_reconstruction(original, ramp_ecg(0.5), mask, leads=("V5", "II"))
    np.testing.assert_allclose(figure.get_size_inches() * 25.4, [420, 137])
    assert [text for text in texts(figure) if text in spec.LEADS] == ["V5", "II"]
    assert "Masked: 0% of the patches of all 12 leads removed" in texts(figure)
    lines = traces(figure, 5000)
    assert len(lines) == 2 * 4
    for place, lead in enumerate(("V5", "II")):
        whole = np.asarray(lines[4 * place].get_ydata(), float)
        np.testing.assert_allclose(np.diff(whole), np.diff(original[spec.LEADS.index(lead)]) * 10, atol=1e-9)
        assert np.median(whole) == pytest.approx(25 + 60 - 40 * place)
    assert [np.isnan(np.asarray(line.get_ydata(), float)).sum() for line in lines[1::4]] == [0, 250]


def test_a_tall_lead_that_is_not_shown_does_not_change_the_scale() -> None:
    ecg_mv = ramp_ecg()
    ecg_mv[11] *= 4
    assert "12.5 mm/s    5 mm/mV    500 Hz" in texts(draw_reconstruction(ecg_mv, ecg_mv, np.zeros(240)))
    shown = texts(draw_reconstruction(ecg_mv, ecg_mv, np.zeros(240), leads=("II", "V5")))
    assert "12.5 mm/s    10 mm/mV    500 Hz" in shown


def test_shades_are_the_removed_patches() -> None:
    mask = np.zeros(240)
    mask[25] = 1  # lead II, patch 5: from 2.5 to 3 s
    figure = draw_reconstruction(ramp_ecg(), ramp_ecg(), mask)
    sheets_and_shades = [patch.get_bbox() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    masked_sheet, shade = sheets_and_shades[1], sheets_and_shades[3]
    assert len(sheets_and_shades) == 4
    assert (shade.x0 - masked_sheet.x0) / masked_sheet.width == pytest.approx(0.25)
    assert shade.width / masked_sheet.width == pytest.approx(0.05)
    assert (masked_sheet.y1 - shade.y1) / masked_sheet.height == pytest.approx(1 / 12)


def test_png_of_both() -> None:
    for figure, width in (
        (draw_ecg(ramp_ecg()), 1753),
        (draw_reconstruction(ramp_ecg(), ramp_ecg(), np.ones(240)), 2480),
    ):
        png = to_png(figure)
        assert png.startswith(b"\x89PNG")
        picture = imread(io.BytesIO(png))
        assert picture.shape[1] == width
        assert (picture[..., :3].min(axis=-1) < 0.2).mean() > 1e-3  # ink


def test_tall_traces_end_at_the_paper() -> None:
    ecg_mv = ramp_ecg()
    usual = imread(io.BytesIO(to_png(draw_ecg(ecg_mv))))
    ecg_mv[:, ::100] = 50.0
    tall = imread(io.BytesIO(to_png(draw_ecg(ecg_mv))))
    margin = slice(0, 80)
    np.testing.assert_array_equal(tall[margin], usual[margin])
    assert (tall != usual).any()


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"ecg_mv of shape \(12, 5000\). Received \(5000, 12\)"):
        draw_ecg(ramp_ecg().T)
    with pytest.raises(ValueError, match="reconstructed_mv"):
        draw_reconstruction(ramp_ecg(), ramp_ecg()[:, :250], np.ones(240))


def test_threads_draw_the_same_page() -> None:
    with ThreadPoolExecutor(2) as pool:
        pages = set(pool.map(lambda _: to_png(draw_ecg(ramp_ecg())), range(3)))
    assert len(pages) == 1


def test_pyplot_is_never_loaded() -> None:
    program = (
        "import sys, numpy as np; from keras_ecg_mae.recordings.ecg_paper import draw_ecg, to_png; "
        "to_png(draw_ecg(np.zeros((12, 5000)))); sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_leads_that_were_not_recorded_are_named_as_such() -> None:
    ecg_mv = ramp_ecg()
    ecg_mv[[4, 11]] = np.nan
    ecg_mv[1, 3000:] = np.nan
    figure = draw_ecg(ecg_mv, note="missing lead aVL V6")
    assert texts(figure).count("not recorded") == 2
    assert "missing lead aVL V6" in texts(figure)
    (rhythm,) = traces(figure, 5000)
    assert np.isnan(np.asarray(rhythm.get_ydata(), float)).sum() == 2000
    assert not [text for text in texts(draw_ecg(ramp_ecg())) if text == "not recorded"]


def test_a_long_note_is_broken_into_lines_and_ends_in_dots() -> None:
    lines = [text for text in texts(draw_ecg(ramp_ecg(), note="hum V1 " * 100)) if text.startswith("hum")]
    assert len(lines) == 3
    assert lines[-1].endswith("...")
    assert not lines[0].endswith("...")


def test_a_leads_name_stands_beside_its_trace() -> None:
    ecg_mv = np.zeros((12, 5000))
    ecg_mv[:, 100:120] = 3.0  # 5 mm into the first column, through where names usually stand
    ecg_mv[:, -1] = 3.0
    figure = draw_ecg(ecg_mv)
    x, y = (np.asarray(data, float) for data in traces(figure, 1250)[0].get_data())
    (name,) = [text for text in figure.axes[0].texts if text.get_text() == "I"]
    left, height = name.get_position()
    beside = (x >= left - 1) & (x <= left + 9)
    assert left > x[0] + 5
    assert not ((y[beside] > height - 2.5) & (y[beside] < height + 2.5)).any()


def test_svg_is_to_scale_and_the_same_each_time() -> None:
    picture = to_svg(draw_ecg(ramp_ecg()))
    assert picture == to_svg(draw_ecg(ramp_ecg()))
    root = ElementTree.fromstring(picture.decode())
    points = 72 / 25.4
    size = [float(root.attrib[name].removesuffix("pt")) for name in ("width", "height")]
    np.testing.assert_allclose(size, [297 * points, 210 * points], atol=0.01)
