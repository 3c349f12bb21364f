"""The page in a browser, where the machine has one: curves, slider and videos work in both themes, the console stays silent."""

import shutil

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from drifting_vla_jax.report.results.page import write_results
from drifting_vla_jax.report.run.page import write_report
from tests.report.conftest import episode

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")]


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """opened(page, theme) -> the page in the browser, and what it writes to the console."""
    contexts = []

    def opened(page, theme="light"):
        contexts.append(browser.new_context(color_scheme=theme, viewport={"width": 1200, "height": 900}))
        tab, said = contexts[-1].new_page(), []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.goto(page.as_uri())
        return tab, said

    yield opened
    for context in contexts:
        context.close()


def draw(workdir, name, step, colour):
    path = workdir / "figures" / name / f"{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 80, 3), colour, np.uint8)).save(path)


def film(path, frames=20):
    path.parent.mkdir(parents=True)
    writer = imageio_ffmpeg.write_frames(
        str(path), (64, 48), fps=10, codec="libx264", macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    for i in range(frames):
        writer.send(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.close()


@pytest.fixture
def two_runs(make_run, evaluate, ten):
    """Two runs, figures of which were drawn at other steps, one with a film."""
    a, b = make_run("a"), make_run("b")
    for step in (2, 4):
        evaluate(a, ten, step=step)
        draw(a, "A1_drifting_field", step, (200, 0, 10 * step))
    draw(b, "A1_drifting_field", 3, (0, 200, 0))
    film(a / "figures" / "B3_trajectory_video" / "00000004.mp4")
    evaluate(b, [episode("reach", 0, True, instruction="<script>document.title = 'taken'</script>")])
    return a, b


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_opens_without_a_word_on_the_console(opened, two_runs, theme):
    page, _ = write_report(*two_runs)
    tab, said = opened(page, theme)
    assert tab.locator("canvas").count() == page.read_text().count('class="chart" data-chart=') == 6
    assert tab.title() == "a and b: Drifting-VLA report" and said == []


def test_an_error_would_have_been_seen(opened, two_runs):
    page, _ = write_report(*two_runs)
    page.write_text(page.read_text().replace("const figures = []", "nonsense()"))
    assert "nonsense is not defined" in " ".join(opened(page)[1])


COLOUR = """image => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  canvas.getContext("2d").drawImage(image, 0, 0, 1, 1);
  return [...canvas.getContext("2d").getImageData(0, 0, 1, 1).data.slice(0, 3)];
}"""


def test_the_slider_goes_through_the_steps_of_both_runs(opened, two_runs):
    tab, said = opened(write_report(*two_runs)[0])
    slider, images = tab.locator("#figure-step"), tab.locator(".picture img")
    assert images.count() == 2

    def shown():
        tab.wait_for_function("[...document.querySelectorAll('.picture img')].every(image => image.complete)")
        return [np.round(images.nth(i).evaluate(COLOUR), -1).tolist() for i in range(2)]

    last = ["200,0,40", "0,200,0"]
    assert [",".join(map(str, c)) for c in shown()] == last and tab.locator("#figure-at").inner_text() == "4"
    slider.focus()
    for key, at, first in (("ArrowLeft", "3", 20), ("ArrowLeft", "2", 20), ("End", "4", 40)):
        slider.press(key)
        assert tab.locator("#figure-at").inner_text() == at
        assert shown() == [[200, 0, first], [0, 200, 0]]
    assert tab.locator(".picture .at").all_inner_texts() == ["step 4", "step 3"] and said == []


def test_videos_play(opened, two_runs):
    tab, said = opened(write_report(*two_runs)[0])
    video = tab.locator(".trajectories video")
    video.evaluate("video => video.play()")
    tab.wait_for_function("document.querySelector('.trajectories video').currentTime > 0.3", timeout=10_000)
    assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [64, 48] and said == []


def test_the_page_of_results_opens_and_fits(opened, two_runs, tmp_path):
    """Held-out error of both runs against steps and against minutes; no part of the page is wider than the window."""
    page, _ = write_results(two_runs, tmp_path / "results")
    tab, said = opened(page)
    assert tab.locator("canvas").count() == 2 and said == []
    assert tab.locator("h1").inner_text() == "Meta-World"
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
