"""Text of the world through every writer and its reader: what was said comes back, or it is refused by name."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drifting_vla_jax.core import text
from drifting_vla_jax.core.episode import Episode, task_name
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.sources.lerobot.reader import LeRobotFiles
from drifting_vla_jax.data.sources.recorded.base import RecordedEpisode, RecordingError
from drifting_vla_jax.data.sources.rlds.reader import RldsFiles
from drifting_vla_jax.evaluate.table import format_results
from drifting_vla_jax.models.tokenizers import ByteTokenizer
from drifting_vla_jax.report.results import tables
from drifting_vla_jax.robot.safety import SafetyLimits
from drifting_vla_jax.rollout import episode_log, video
from drifting_vla_jax.wire import protocol
from tests import lerobot_fixture
from tests.core.test_text import ANY, NONSENSE, WORLD
from tests.small import episode, write_episodes

SAID = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("world")


@SAID
@given(said=ANY)
def test_an_episode_s_file(folder, said):
    one = episode(0)
    try:
        one = replace(one, instructions=(said, "b"), images={})
    except ValueError as error:
        assert str(error).isprintable() and text.problem(said)
        return
    one.save(folder / "one.npz")
    assert Episode.load(folder / "one.npz").instructions == (said, "b")


@SAID
@given(said=ANY)
def test_lines_of_episodes(folder, said):
    line = {"task": said, "variation": 0, "seed": 1, "success": True, "instruction": said}
    episode_log.write_episodes(folder / "episodes.jsonl", [line, line])
    assert episode_log.read_episodes(folder / "episodes.jsonl") == [line, line]


@SAID
@given(said=ANY)
def test_an_observation_s_prompt(said):
    metadata = {"cameras": [], "image_size": 1, "state_dim": 1}
    message = {"images": {}, "state": np.zeros(1, np.float32), "prompt": said}
    try:
        protocol.check_observation(protocol.unpack(protocol.pack(message)), metadata)
    except protocol.ProtocolError as error:
        str(error).encode()
        assert text.instruction_problem(said) and "\x1b" not in str(error)
    else:
        assert text.instruction_problem(said) is None


@SAID
@given(said=ANY)
def test_bytes_of_an_instruction(said):
    try:
        tokens = ByteTokenizer(100)([said])
    except ValueError as error:
        assert "instruction" in str(error) and (not said.strip() or "surrogate" in str(error))
    else:
        kept = bytes(int(token) - 1 for token in tokens[0] if token).decode()
        assert kept == text.normalized(said.strip()).lower()


def test_one_spelling_of_the_same_word():
    assert (ByteTokenizer(9)(["e\u0301cole"]) == ByteTokenizer(9)(["\u00e9cole"])).all()
    assert task_name("e\u0301cole") == task_name("\u00e9cole") == "école"


@SAID
@given(said=ANY | st.text(st.characters(min_codepoint=0x20000, max_codepoint=0x2A000), min_size=50, max_size=99))
def test_a_task_s_name_is_a_file_s(said):
    if text.problem(said) is None:
        assert text.name_problem(task_name(said)) is None


def test_instructions_without_letters_are_different_tasks():
    assert task_name("\U0001f7e5") != task_name("\U0001f7e6") != "unnamed"


@pytest.fixture(scope="module")
def lerobot(tmp_path_factory):
    return lerobot_fixture.write_2(tmp_path_factory.mktemp("lerobot") / "set", images=True)


@pytest.mark.parametrize("escaped", [True, False])
@pytest.mark.parametrize("said", WORLD)
def test_tasks_of_lerobot(lerobot, said, escaped):
    lines = [json.dumps({"task_index": i, "task": each}, ensure_ascii=escaped) for i, each in enumerate([said, "b"])]
    (lerobot / "meta" / "tasks.jsonl").write_bytes("\n".join(lines).encode() + b"\n")
    files = LeRobotFiles(str(lerobot))
    first = next(each for split in files.splits.values() for each in split if each.index == 0)
    assert files.read(first, ()).instructions == (said,)


@pytest.mark.parametrize("said", NONSENSE)
def test_recordings_of_nonsense_are_refused_and_can_be_skipped(said):
    with pytest.raises(RecordingError, match=f"^episode 3: the instruction .*{NONSENSE[said]}"):
        RecordedEpisode("episode 3", (said,), {}, None)


@SAID
@given(said=st.binary(max_size=6) | ANY.map(lambda said: said.encode("utf-8", "surrogatepass")))
def test_texts_of_rlds(said):
    files = object.__new__(RldsFiles)
    files._texts = ("language_instruction",)
    features = {"language_instruction": SimpleNamespace(bytes_list=SimpleNamespace(value=[said]))}
    try:
        assert files._instructions(features, "it") == (said.decode().strip(),)
    except RecordingError as error:
        assert str(error).isprintable() and "instruction" in str(error)


def test_a_data_set(folder):
    shown = [replace(episode(i), instructions=(said, f"{said}!")) for i, said in enumerate(WORLD[:4] + WORLD[5:8])]
    data = DataSet(str(write_episodes(folder / "set", shown)), ("front",))
    assert data.instructions == [text for each in shown for text in each.instructions]


@pytest.mark.parametrize("said", [*WORLD, "a$b$c_", "[/red] x", "a|b\n|c", "<b>"])
def test_pictures_and_tables(said):
    frame = np.zeros((64, 64, 3), np.uint8)
    assert video.caption(frame, title=said, detail=said, state="open").shape[1] == 64
    lines = tables.markdown([tables.Table("t", "n", ("task", "x"), [(said, "1")])]).split("\n")
    assert lines[6].replace("\\|", "").count("|") == 3 and len(lines) == 8 and len(lines[6].splitlines()) == 1


def test_a_table_of_results_shows_names_in_brackets(monkeypatch):
    monkeypatch.setattr("drifting_vla_jax.evaluate.table._cells", lambda result: ["-"] * 6)
    monkeypatch.setattr("drifting_vla_jax.evaluate.table._notes", lambda results: [])
    assert "lift[red]" in format_results({"overall": {}, "tasks": {"lift[red]": {}}})


def test_a_file_of_limits_may_come_from_an_editor_of_windows(tmp_path):
    said = {
        "low": [0, 0, 0],
        "high": [1, 1, 1],
        "step_m": 0.1,
        "step_deg": 5,
        "lead_m": 0.2,
        "timeout_s": 1,
        "stale_s": 1,
    }
    (tmp_path / "limits.json").write_bytes(json.dumps(said, indent=1).replace("\n", "\r\n").encode("utf-8-sig"))
    assert SafetyLimits.load(tmp_path / "limits.json").step_deg == 5
    with pytest.raises(ValueError, match="low is"):
        SafetyLimits(low=(10**400, 0, 0), high=(1, 1, 1), **{name: said[name] for name in list(said)[2:]})
