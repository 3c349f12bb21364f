"""Episodes on disk: whole lines or none, one evaluation per folder."""

import json

import pytest

from drifting_vla_jax.rollout import episode_log


def line(task="reach", seed=0, success=True, **more) -> dict:
    return {"task": task, "variation": 0, "seed": seed, "success": success, **more}


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "new" / "episodes.jsonl"
    lines = [line(seed=seed, instruction="öffne\ndie Lade") for seed in range(3)]
    for part in (lines[:2], lines[2:]):
        with episode_log.EpisodeLog(path) as log:
            for episode in part:
                log.append(episode)
    assert episode_log.read_episodes(path) == lines
    assert len(path.read_bytes().splitlines()) == 3


def test_a_line_is_on_disk_before_the_log_is_closed(tmp_path):
    with episode_log.EpisodeLog(tmp_path / "episodes.jsonl") as log:
        log.append(line())
        assert episode_log.read_episodes(tmp_path / "episodes.jsonl") == [line()]


def test_a_line_cut_off_anywhere_is_ignored_and_then_replaced(tmp_path):
    path = tmp_path / "episodes.jsonl"
    whole = [json.dumps(line(seed=seed)) + "\n" for seed in range(2)]
    for cut in range(1, len(whole[1])):
        path.write_text(whole[0] + whole[1][:cut])
        assert episode_log.read_episodes(path) == [line(seed=0)]
        with episode_log.EpisodeLog(path) as log:
            log.append(line(seed=7))
        assert episode_log.read_episodes(path) == [line(seed=0), line(seed=7)]


def test_damage_inside_a_file_is_named(tmp_path):
    path = tmp_path / "episodes.jsonl"
    path.write_text('{"task": "a"}\n{"task": \n{"task": "b"}\n')
    with pytest.raises(ValueError, match=f"line 2 of {path} is damaged"):
        episode_log.read_episodes(path)


def test_two_writers_of_one_file_are_refused(tmp_path):
    path = tmp_path / "episodes.jsonl"
    with episode_log.EpisodeLog(path), pytest.raises(ValueError, match="another worker is writing"):
        episode_log.EpisodeLog(path)
    with episode_log.EpisodeLog(path) as log:
        log.append(line())


def test_what_json_cannot_say_is_not_written(tmp_path):
    with episode_log.EpisodeLog(tmp_path / "episodes.jsonl") as log, pytest.raises(ValueError, match="JSON compliant"):
        log.append(line(latency=float("nan")))
    assert episode_log.read_episodes(tmp_path / "episodes.jsonl") == []


def test_all_files_of_a_folder_count_and_a_scored_episode_wins(tmp_path):
    episode_log.write_episodes(tmp_path / "episodes.jsonl", [line(seed=0), line(seed=1, success=None)])
    episode_log.write_episodes(
        tmp_path / "episodes-0-of-2.jsonl", [line(seed=1, success=False), line(seed=2, success=None)]
    )
    episode_log.write_episodes(tmp_path / "episodes-1-of-2.jsonl", [line(seed=0, success=None), line(seed=3)])
    episodes = episode_log.read_all_episodes(tmp_path)
    assert {key[2]: episode["success"] for key, episode in episodes.items()} == {0: True, 1: False, 2: None, 3: True}
    assert episode_log.read_all_episodes(tmp_path / "nowhere") == {}


def test_a_folder_holds_one_evaluation(tmp_path):
    settings = {"config_hash": "abc", "max_steps": 100}
    episode_log.claim_folder(tmp_path / "eval", {"config_hash": "mistaken"})  # nothing came of it
    episode_log.claim_folder(tmp_path / "eval", settings)
    episode_log.write_episodes(tmp_path / "eval" / "episodes.jsonl", [line()])
    episode_log.claim_folder(tmp_path / "eval", dict(settings))
    with pytest.raises(ValueError, match="max_steps 100, this one has 150"):
        episode_log.claim_folder(tmp_path / "eval", settings | {"max_steps": 150})
    with pytest.raises(ValueError, match="extra None, this one has 1"):
        episode_log.claim_folder(tmp_path / "eval", settings | {"extra": 1})


def test_a_run_that_was_trained_again_does_not_go_on_with_what_it_was(tmp_path):
    """The same step of the same configuration: the weights tell them apart. An older evaluation does not name them."""
    settings = {"config_hash": "abc", "checkpoint_step": 100}
    episode_log.claim_folder(tmp_path, settings)
    episode_log.write_episodes(tmp_path / "episodes.jsonl", [line()])
    episode_log.claim_folder(tmp_path, settings | {"weights": "1", "dataset": "a"})
    episode_log.check_same(tmp_path, {"weights": "1", "checkpoint_step": 100})
    (tmp_path / "settings.json").write_text(json.dumps(settings | {"weights": "1", "dataset": "a"}))
    for changed in ({"weights": "2"}, {"dataset": "b"}):
        ((name, value),) = changed.items()
        with pytest.raises(
            ValueError, match=f"holds an evaluation with {name} '.', this one has '{value}'; choose another"
        ):
            episode_log.claim_folder(tmp_path, settings | {"weights": "1", "dataset": "a"} | changed)
        with pytest.raises(ValueError, match=f"with {name} "):
            episode_log.check_same(tmp_path, changed)
    with pytest.raises(ValueError, match="with dataset 'a', this one has None"):
        episode_log.claim_folder(tmp_path, settings)
    episode_log.check_same(tmp_path / "nowhere", {"weights": "2"})
