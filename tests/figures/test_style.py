import matplotlib
import numpy as np
import pytest
from PIL import Image

from drifting_vla_jax.figures import drift_field
from drifting_vla_jax.figures.style import THEMES, picture, save


def bars(theme="light"):
    return drift_field.temperature_drift(np.array([0.1, 0.2]), np.array([1.0, 2.0]), theme=THEMES[theme])


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("theme", THEMES)
def test_a_figure_has_one_size_in_every_theme(tmp_path, theme, scale):
    save(bars(theme), tmp_path / "a.png", scale)
    width, height = drift_field.temperature_drift.size
    image = Image.open(tmp_path / "a.png").convert("RGB")
    assert image.size == (scale * width, scale * height)
    ground = tuple(int(THEMES[theme].background[i : i + 2], 16) for i in (1, 3, 5))
    assert image.getpixel((2, 2)) == ground


def test_themes_look_different(tmp_path):
    pictures = set()
    for theme in THEMES:
        save(bars(theme), tmp_path / "a.png")
        pictures.add(Image.open(tmp_path / "a.png").tobytes())
    assert len(pictures) == len(THEMES) == 4


def test_the_settings_of_others_neither_change_nor_matter(tmp_path):
    save(bars(), tmp_path / "a.png")
    with matplotlib.rc_context({"savefig.bbox": "tight", "font.size": 30}):
        before = dict(matplotlib.rcParams)
        save(bars("presentation"), tmp_path / "c.png")
        save(bars(), tmp_path / "b.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix, start", [pytest.param("pdf", b"%PDF", marks=pytest.mark.slow), ("svg", b"<?xml")])
def test_vector_files(tmp_path, suffix, start):
    save(bars(), tmp_path / f"a.{suffix}")
    first = (tmp_path / f"a.{suffix}").read_bytes()
    save(bars(), tmp_path / f"a.{suffix}")
    assert first.startswith(start) and first == (tmp_path / f"a.{suffix}").read_bytes()


def test_other_files_and_scales_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.png, \.pdf, \.svg"):
        save(bars(), tmp_path / "a.gif")
    with pytest.raises(ValueError, match="scale is 3"):
        save(bars(), tmp_path / "a.png", 3)
    assert not list(tmp_path.iterdir())


def test_a_dollar_in_a_task_is_no_formula(tmp_path):
    @picture(200, 200)
    def titled(figure, theme, text):
        figure.subplots().set_title(text)

    save(titled("put $5 or $\\bad{"), tmp_path / "a.png")
    assert (tmp_path / "a.png").exists()
