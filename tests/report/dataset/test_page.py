"""The page of a data set: what is planted in a real one is on it, it quotes safely, and it stays one file of bounded size."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.episode import encode_png
from drifting_vla_jax.data import tfds_writer
from drifting_vla_jax.report.dataset import datasheet
from drifting_vla_jax.report.dataset import images as frames
from drifting_vla_jax.report.dataset import reader as demonstrations
from drifting_vla_jax.report.dataset.checks.finding import Finding
from drifting_vla_jax.report.dataset.checks.registry import CHECKS
from drifting_vla_jax.report.dataset.page import to_show, write_page
from tests import commands
from tests.report.dataset.planted import clean
from tests.report.run.test_browser import BROWSER, browser, opened  # noqa: F401 (fixtures)
from tests.report.run.test_page import Page
from tests.small import CAMERAS, SIZE, episode

ROOT = Path(__file__).parents[3]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7 * 7 }}"
PLANTED, TORN = 2, 5  # episodes of train that faults are in
STEPS = 24


def faulty(index):
    """An episode of the small data set; PLANTED jumps at 12, is black at 18 and asks evil; TORN has a NaN at 3."""
    made = episode(index, steps=STEPS)
    rng = np.random.default_rng(index)
    images = {
        camera: [encode_png(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)) for _ in range(STEPS)]
        for camera in CAMERAS
    }
    if index == TORN:
        made.state[3, 1] = np.nan
    if index != PLANTED:
        return replace(made, images=images)
    images["side"][18] = encode_png(np.zeros((SIZE, SIZE, 3), np.uint8))
    made.actions[12:, 2] += 0.19
    made.state[13:, 2] += 0.19
    return replace(made, images=images, instructions=(EVIL, "find red"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("faulty")
    paths = []
    for index in range(8):
        paths.append(out / f"{index}.npz")
        faulty(index).save(paths[-1])
    about = tfds_writer.About("test", CAMERAS, SIZE, ("x", "y", "z", "gripper"), 20.0, {"settings": {"noise": 0.5}})
    tfds_writer.write(out, {"train": paths[:-2], "val": paths[-2:]}, about)
    return out


@pytest.fixture(scope="module")
def made(data):
    return write_page(data)


@pytest.fixture(scope="module")
def page(made):
    return Page(made[0])


def test_what_was_planted_is_found_and_nothing_else(made):
    found = {check.name: findings for check, findings in made[1] if findings}
    assert set(found) == {"Numbers that are NaN or infinite", "One colour for an image", "Jumps of position"}
    (nan,) = found["Numbers that are NaN or infinite"]
    assert (nan.episode, nan.step) == (
        ("train", TORN),
        3,
    ) and nan.text == "1 number is NaN or infinite, the first in state y"
    (black,), (jump,) = found["One colour for an image"], found["Jumps of position"]
    assert (black.episode, black.step) == (("train", PLANTED), 18) and "camera side: black" in black.text
    assert (jump.episode, jump.step) == (("train", PLANTED), 12)


def test_findings_lead_to_the_episode_and_are_marked_in_its_plots(made, page):
    assert made[0].name == "episodes.html" and made[0].parent.name == "report"
    assert "2 kinds of wrong data and 1 kind of suspicious data in 8 episodes" in page.text
    assert f"Nothing found by the other {len(CHECKS) - 3} checks" in page.text
    links = [a["href"] for tag, a in page.tags if tag == "a" and a["href"].startswith("#train")]
    ids = [a["id"] for tag, a in page.tags if tag == "article" and "id" in a]
    assert links == [f"#train-{number}" for number in (TORN, PLANTED, PLANTED)]
    assert ids[:2] == [f"train-{TORN}", f"train-{PLANTED}"]
    assert sorted(ids) == sorted([*(f"train-{i}" for i in range(6)), "val-0", "val-1"])
    charts = [group["charts"] for group in page.charts()["groups"]]
    assert {tuple(chart["marks"]) for chart in charts[1]} == {(12, 18)} and not charts[2][0]["marks"]
    assert charts[0][0]["lines"][4]["values"][2:5].index(None) == 1  # a gap where the NaN is
    position = next(chart for chart in charts[1] if chart["title"] == "position")
    assert [line["label"] for line in position["lines"]] == ["x", "y", "z", "x state", "y state", "z state"]
    z = faulty(PLANTED).actions[:, 2]
    assert position["lines"][2]["values"] == pytest.approx(z.tolist(), abs=1e-5)


def test_tasks_and_numbers(page):
    assert page.row("reach-red")[:6] == ["3", "1", "1", "24", "24", "24"] and page.row("reach-red")[6] == "50.0 %"
    assert page.row("qy")[0] == "unit quaternion x y z w" and page.row("qy")[-1] == "constant"
    assert page.row("reach-blue")[-1].startswith("go to the blue ball")
    for fact in ("test", "front, side, 16 px", "20 steps per second", "6 episodes, 144 steps, 7 s", "noise"):
        assert fact in page.text


def test_columns_of_numbers():
    """1 .. 100 and one NaN: median 50.5, 1 % 1.99, standard deviation sqrt((100^2 - 1) / 12) = 28.87."""
    column = np.append(np.arange(1, 101), np.nan)[:, None]
    (row,) = datasheet.dimensions(column, ["x"])
    assert row["cuts"] == pytest.approx([1, 1.99, 50.5, 99.01, 100]) and row["std"] == pytest.approx(28.866, abs=1e-3)
    assert row["unit"] == "m" and row["missing"] == 1 and not row["constant"]
    assert len(row["bars"]) == datasheet.BINS and max(row["bars"]) == 1
    (flat,) = datasheet.dimensions(np.full((9, 1), 0.5), ["gripper"])
    assert flat["constant"] and sum(height > 0 for height in flat["bars"]) == 1


def test_histograms_keep_their_empty_bins(page):
    """The gripper is 0 or 1: its bars stand at both ends."""
    histogram = re.search(r'aria-label="histogram of gripper">(.*?)</svg>', page.source, re.S)[1]
    assert re.findall(r'x="(\d+)"', histogram) == ["0", str(datasheet.BINS - 1)]


def test_what_a_data_set_quotes_is_text_and_nothing_else(page):
    tags = [tag for tag, _ in page.tags]
    images = [a for tag, a in page.tags if tag == "img"]
    assert tags.count("script") == 3 and EVIL in page.text
    assert images and all(a["src"].startswith("data:image/webp;base64,") for a in images)
    assert not [a for _, a in page.tags for name in a if name.startswith("on")]


def test_nothing_is_loaded_from_elsewhere(page):
    loaded = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert all(link.startswith(("#", "data:")) for link in loaded)


def test_films_go_inside_until_the_budget_is_spent(data, tmp_path, page):
    films = [a["src"] for tag, a in page.tags if tag == "video"]
    assert len(films) == 8 and films[0].startswith("data:video/mp4;base64,")
    out, _ = write_page(data, tmp_path / "less.html", episodes=3, budget=len(films[0]) + 10)
    less = Page(out)
    assert [a["src"] for tag, a in less.tags if tag == "video"] == films[:1]
    assert "2 without a film: beyond" in less.text


def test_splits_tasks_and_how_many_are_shown(data, tmp_path):
    out, results = write_page(data, tmp_path / "val.html", splits=["val"], tasks=["reach-blue"], episodes=1, budget=0)
    page = Page(out)
    assert not [found for _, found in results if found] and "Nothing found by any check." in page.text
    assert [a["id"] for tag, a in page.tags if tag == "article" and "id" in a] == ["val-1"]
    assert "1 of 1" in page.text


def test_a_choice_without_episodes(data):
    opened_data = demonstrations.open_data(data)
    for about in opened_data.metadata["episodes"]["val"]:
        about["task"] = "reach-red"
    with pytest.raises(ValueError, match="no episode of reach-blue in val"):
        demonstrations.read_demonstrations(opened_data, ["val"], ["reach-blue"])


def test_which_episodes_are_shown():
    episodes = clean()
    keys = [e.key for e in episodes]
    findings = [Finding("", "push", key) for key in keys[:8]]
    by_name = {check.name: check for check in CHECKS}
    results = [
        (by_name["Jumps of position"], findings),
        (by_name["Gripper outside 0 .. 1"], [Finding("", "pull", keys[9])]),
    ]
    shown = to_show(episodes, results, 6)
    assert [e.key for e in shown[:4]] == [keys[0], keys[9], keys[1], keys[2]]  # two thirds, each check in turn
    assert {e.task for e in shown[4:]} == {"push", "pull"} and len({e.key for e in shown}) == 6
    assert [e.key for e in to_show(episodes, [], 2)] == [keys[0], keys[1]] and not to_show(episodes, results, 0)


def test_large_sets_are_sampled():
    episodes = clean()  # 12 of 40 steps
    assert frames.to_look_at(episodes, 480) == episodes
    some = frames.to_look_at(episodes, 160)
    assert sum(map(len, some)) <= 160 and some[0] is episodes[0] and some[-1] is episodes[-1]
    assert frames.evenly(100, 4) == [0, 33, 66, 99] and frames.evenly(2, 8) == [0, 1] and frames.evenly(0, 3) == []


def test_records_of_other_steps_and_damaged_images_are_seen(data):
    """Behind a data source whose first two records are exchanged, and that lost the end of a file."""

    class Records:
        def __init__(self, records):
            self.records = records

        def __getitem__(self, row):
            record = self.records[{0: 1, 1: 0}.get(row, row)]
            images = record["images"] | ({"front": record["images"]["front"][:40]} if row == 3 else {})
            return record | {"images": images}

    opened_data = demonstrations.open_data(data)
    first = demonstrations.read_demonstrations(opened_data)[0]
    split = opened_data.split("train")
    seen = frames._look_at(replace(split, records=Records(split.records)), first)
    assert seen["side"].misplaced == (0, 1) and seen["front"].damaged == (3,) and not seen["side"].damaged
    assert frames._look_at(split, first)["front"].misplaced == ()


def run(*flags):
    return commands.run("drifting_vla_jax.report.dataset.page", *flags)


@pytest.mark.slow
def test_bad_input_is_one_line(data, tmp_path):
    for flags, says in (
        ([f"--data={tmp_path}"], "no data set at"),
        ([f"--data={data}", "--tasks=reach-rad"], "nearest is 'reach-red', it has reach-"),
        ([f"--data={data}", "--split=valid"], "nearest is 'val', it has train, val"),
    ):
        result = run(*flags, f"--out={tmp_path}/page.html")
        (line,) = result.stderr.splitlines()
        assert result.returncode != 0 and line.startswith("error: ") and says in line and not result.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_command_reads_without_tensorflow(data, tmp_path):
    code = (
        "import sys; from pathlib import Path; from drifting_vla_jax.report.dataset.page import write_page\n"
        f"write_page(Path({str(data)!r}), Path({str(tmp_path / 'page.html')!r}), episodes=1)\n"
        "assert not {'tensorflow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    result = run(f"--data={data}", f"--out={tmp_path}/page.html", "--episodes=1")
    assert result.returncode == 0 and "wrong       One colour for an image: 1" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_opens_without_a_word_on_the_console(opened, made, theme):  # noqa: F811
    tab, said = opened(made[0], theme)
    assert said == [] and tab.locator("canvas").count() == tab.locator("[data-chart]").count() == 4 * 8
    assert tab.locator("img").first.evaluate("image => image.naturalWidth") == 8 * SIZE


def test_size(made, page):
    """Acceptance: at most 5 MB without films for 5 tasks and hundreds of episodes. Only findings and tasks grow with those."""
    films, stills = (sum(len(a["src"]) for tag, a in page.tags if tag == name) for name in ("video", "img"))
    charts = len(json.dumps(page.charts()))
    fixed = made[0].stat().st_size - films - stills - charts
    assert fixed < 150_000 and charts / 8 < 30_000 and stills / 8 < 60_000  # 12 episodes: about 1.2 MB
