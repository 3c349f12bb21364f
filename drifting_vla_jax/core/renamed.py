"""Names of version 0.1: its modules and classes can be imported under their old names for one release, with a warning.

    from drifting_vla_jax.train.sinks import JsonlSink     gives train.monitoring.loggers.JsonlWriter
    python -m drifting_vla_jax.models.convert              runs models.pretrained

``install`` is called when the package is imported; nothing of a new name is loaded before an old one is asked for.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from collections.abc import Sequence

PACKAGE = "drifting_vla_jax"

# Old module -> new one, both within the package.
MODULES = {
    "cli": "core.cli",
    "config_checks": "config.checks",
    "config_files": "config.files",
    "config_migration": "config.migration",
    "config_ranges": "config.ranges",
    "data.actions": "data.normalization",
    "data.bounds": "data.value_range",
    "data.builder": "data.tfds_writer",
    "data.cache_features": "train.cache_features",
    "data.convert": "data.sources.recorded.convert",
    "data.demonstrations": "data.sources.scripted",
    "data.episodes": "data.sources.splits",
    "data.fields": "data.sources.recorded.fields",
    "data.hub": "core.hub",
    "data.keyframes": "data.sources.rlbench.keyframes",
    "data.lerobot_files": "data.sources.lerobot.reader",
    "data.lerobot_index": "data.sources.lerobot.index",
    "data.lerobot_meta": "data.sources.lerobot.writer",
    "data.lerobot_source": "data.sources.lerobot.source",
    "data.lerobot_stats": "data.sources.lerobot.stats",
    "data.mapping": "data.sources.recorded.mapping",
    "data.names": "data.sources.recorded.names",
    "data.peract": "data.sources.rlbench.episodes",
    "data.presets": "data.sources.recorded.presets",
    "data.reading": "data.sources.recorded.extract",
    "data.recordings": "data.sources.recorded.base",
    "data.rlbench_images": "data.sources.rlbench.images",
    "data.rlbench_source": "data.sources.rlbench.source",
    "data.rlds_files": "data.sources.rlds.reader",
    "data.rollouts": "data.sources.rollouts",
    "data.samples": "data.sampling",
    "data.screening": "data.sources.screening",
    "data.source_checks": "data.sources.episode_checks",
    "data.stored_features": "data.feature_cache",
    "data.tables": "data.sources.lerobot.parquet",
    "data.text": "models.tokenizers",
    "data.tfrecord": "data.sources.rlds.tfrecord",
    "envs.env": "envs.base",
    "envs.episodes": "core.episode",
    "envs.metaworld_changes": "envs.metaworld.perturbations",
    "envs.metaworld_published": "envs.metaworld.published",
    "envs.metaworld_tasks": "envs.metaworld.tasks",
    "envs.rlbench_check": "envs.rlbench.check",
    "envs.rlbench_control": "envs.rlbench.control",
    "envs.rlbench_demos": "envs.rlbench.demos",
    "envs.rlbench_install": "envs.rlbench.installation",
    "envs.rlbench_state": "core.end_effector",
    "envs.rlbench_tasks": "envs.rlbench.tasks",
    "envs.robosuite_control": "envs.robosuite.controller",
    "envs.robosuite_experts": "envs.robosuite.experts",
    "envs.robosuite_tasks": "envs.robosuite.tasks",
    "envs.rotations": "core.rotation",
    "envs.unpickle": "envs.rlbench.safe_pickle",
    "evaluate.crew": "evaluate.worker_pool",
    "evaluate.evaluation": "evaluate.evaluate",
    "figures.field": "figures.drift_field",
    "figures.film": "figures.trajectory_video",
    "figures.gallery": "figures.registry",
    "figures.paths": "figures.trajectory_3d",
    "figures.physical": "figures.units",
    "figures.rollouts": "figures.evaluations",
    "figures.samples": "figures.sample_distribution",
    "figures.snapshot": "figures.inputs",
    "figures.themes": "figures.style",
    "hints": "core.suggest",
    "layouts": "core.action_layout",
    "models.byte_text": "models.encoders.byte_text",
    "models.clip_text": "models.encoders.clip_text",
    "models.convert": "models.pretrained.convert",
    "models.dinov2": "models.encoders.dinov2",
    "models.fusion": "models.cross_attention",
    "models.resample": "models.encoders.position_embedding",
    "models.tower": "models.encoders.transformer",
    "models.vit": "models.encoders.vit",
    "objectives.bank": "objectives.drifting.memory_bank",
    "objectives.coupling": "objectives.drifting.affinity",
    "objectives.drifting_objective": "objectives.drifting.objective",
    "objectives.grouping": "objectives.drifting.grouping",
    "objectives.guidance": "objectives.drifting.guidance",
    "objectives.objective": "objectives.base",
    "objectives.strips": "objectives.drifting.blockwise",
    "objectives.study.__main__": "studies.drifting.__main__",
    "objectives.study.chunks": "studies.drifting.synthetic_chunks",
    "objectives.study.figures": "studies.drifting.plots",
    "objectives.study.learner": "studies.drifting.mlp_training",
    "objectives.study.page": "studies.drifting.report",
    "objectives.study.toys": "studies.drifting.toy_2d",
    "objectives.study.trials": "studies.drifting.runs",
    "policy.artefact": "policy.artifact",
    "report.checks.agreement": "report.dataset.checks.agreement",
    "report.checks.finding": "report.dataset.checks.finding",
    "report.checks.gripper": "report.dataset.checks.gripper",
    "report.checks.motion": "report.dataset.checks.motion",
    "report.checks.pictures": "report.dataset.checks.images",
    "report.checks.rotation": "report.dataset.checks.rotation",
    "report.checks.sets": "report.dataset.checks.dataset",
    "report.checks.table": "report.dataset.checks.registry",
    "report.curves": "report.run.curves",
    "report.datasheet": "report.dataset.datasheet",
    "report.demonstrations": "report.dataset.reader",
    "report.entries": "report.results.entries",
    "report.episodes": "report.dataset.page",
    "report.evaluations": "report.run.evaluations",
    "report.facts": "report.run.summary",
    "report.films": "report.run.videos",
    "report.frames": "report.dataset.images",
    "report.learning": "report.results.learning",
    "report.page": "report.run.page",
    "report.pictures": "report.run.images",
    "report.rates": "report.results.rates",
    "report.tables": "report.results.tables",
    "report.template": "report.html",
    "rollout.asynchronous": "rollout.chunking.asynchronous",
    "rollout.averaging": "rollout.chunking.averaging",
    "rollout.driver": "robot.driver",
    "rollout.driver_check": "robot.driver_check",
    "rollout.dry_run": "robot.replay_driver",
    "rollout.execution": "rollout.chunking.base",
    "rollout.limits": "robot.safety",
    "rollout.memory": "rollout.frame_history",
    "rollout.queue": "rollout.episode_claims",
    "rollout.realtime": "rollout.chunking.realtime",
    "rollout.recorder": "rollout.episode_log",
    "rollout.recording": "rollout.trajectory_writer",
    "rollout.replay": "rollout.demo_replay",
    "rollout.robot": "robot.env",
    "rollout.robot_command": "robot.__main__",
    "rollout.robot_session": "robot.session",
    "serve.listening": "serve.sockets",
    "serve.telemetry": "serve.metrics",
    "train.acting": "policy.sampling",
    "train.beside": "train.monitoring.background",
    "train.borrowed": "train.frozen_encoders",
    "train.compile": "aot.compile",
    "train.describe": "aot.describe",
    "train.figures": "train.monitoring.figures",
    "train.flops": "aot.flops",
    "train.held_out": "train.validation",
    "train.hlo": "aot.hlo",
    "train.known_data": "train.data_identity",
    "train.profile": "train.monitoring.profile",
    "train.record": "train.monitoring.run_info",
    "train.reports": "train.monitoring.reports",
    "train.rollouts": "train.monitoring.evaluations",
    "train.sinks": "train.monitoring.loggers",
    "train.topology": "aot.topology",
}

# New module -> {old name: new name}.
SYMBOLS = {
    "core.suggest": {"hint": "did_you_mean"},
    "figures.inputs": {"Snapshot": "FigureInputs"},
    "figures.drift_field": {"drifting_field": "plot_drift_field"},
    "figures.style": {"headline": "title", "remark": "annotate"},
    "envs.base": {"Observation": "EnvObservation"},
    "envs.mujoco_rendering": {"Photographer": "OffscreenRenderer"},
    "envs.rlbench.installation": {"Install": "RLBenchInstallation"},
    "envs.rlbench.safe_pickle": {"Record": "InertObject"},
    "serve.server": {"Limits": "ServerLimits", "Policy": "Servable"},
    "objectives.base": {"Generate": "ModelFn", "Expert": "Target"},
    "objectives.drifting.affinity": {
        "coupling": "field_weights",
        "ruler": "length_scale",
        "reach": "nearest_positive_distance",
    },
    "objectives.drifting.grouping": {"spread": "repeat_per_group"},
    "objectives.drifting.memory_bank": {"Bank": "MemoryBank", "Neighbours": "ExtraPositives"},
    "models.encoders.transformer": {"Tower": "TransformerEncoder"},
    "models.pretrained.load": {
        "randomly": "random_weights",
        "architecture": "load_architecture",
        "identity": "weights_hash",
    },
    "models.layers": {
        "attend_flat": "attention_cpu",
        "attend_even": "attention_cudnn",
        "few_rows": "is_small_batch",
        "split_batch": "constrain_batch_sharding",
        "portable": "no_custom_kernels",
    },
    "types": {"Observation": "ModelObservation", "CHOICES": "SELECTION_RULES"},
    "rollout.chunking.base": {"Chunks": "ChunkScheduler"},
    "rollout.episode": {"Asker": "PolicyClientProtocol"},
    "rollout.frame_history": {"ImageMemory": "FrameHistory"},
    "rollout.episode_claims": {"LIVES": "MAX_ATTEMPTS"},
    "rollout.trajectory_writer": {"Recording": "TrajectoryWriter"},
    "studies.drifting.synthetic_chunks": {"Chunks": "SyntheticChunks"},
    "studies.drifting.mlp_training": {"Trained": "TrainedMLP"},
    "data.normalization": {"ActionSpace": "ActionNormalizer"},
    "data.sampling": {"Order": "ShuffledIndex", "MixedOrder": "WeightedMixtureIndex", "Sampler": "SampleLoader"},
    "data.sources.recorded.base": {"Recording": "RecordedEpisode"},
    "data.sources.recorded.extract": {"Reading": "FieldExtractor"},
    "data.sources.lerobot.index": {"Episode": "EpisodeLocation"},
    "robot.driver": {"Reading": "RobotState", "check_reading": "check_state"},
    "robot.safety": {"Limits": "SafetyLimits"},
    "robot.session": {"Nobody": "AutomaticOperator", "Terminal": "TerminalOperator"},
    "robot.replay_driver": {"Replay": "ReplayDriver"},
    "train.frozen_encoders": {
        "Borrowed": "FrozenInputs",
        "borrow": "place_frozen_encoders",
        "borrowed_params": "frozen_params",
        "abstract_borrowed": "abstract_frozen_inputs",
        "NOTHING": "NO_FROZEN_INPUTS",
    },
    "train.partition": {"is_borrowed": "is_frozen_pretrained", "is_learned": "is_trainable"},
    "train.validation": {
        "HeldOut": "Validator",
        "HeldOutSets": "MixtureValidator",
        "Drawn": "EvalOutputs",
        "make_held_out": "make_validator",
    },
    "train.monitoring.run_info": {"RunRecord": "RunInfo"},
    "train.monitoring.loggers": {
        "Journal": "MultiWriter",
        "Sink": "MetricWriter",
        "JsonlSink": "JsonlWriter",
        "WandbSink": "WandbWriter",
        "TensorBoardSink": "TensorBoardWriter",
        "Record": "LogEntry",
    },
    "train.monitoring.evaluations": {"Rollouts": "BackgroundEvaluation"},
    "train.distributed": {"doing": "heartbeat"},
    "policy.sampling": {"answer": "predict_actions", "pick": "select_sample"},
    "policy.restore": {"Trained": "RestoredPolicy"},
    "evaluate.worker_pool": {"Crew": "WorkerPool"},
    "benchmarks.timing": {"Contestant": "Case", "Contest": "Comparison", "Absent": "Skipped"},
}


class _Renamed(types.ModuleType):
    """An old module: every attribute is that of the new one."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        new = MODULES[self.__name__.removeprefix(f"{PACKAGE}.")]
        module = importlib.import_module(f"{PACKAGE}.{new}")
        return getattr(module, SYMBOLS.get(new, {}).get(name, name))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds old modules; comes after Python's own finders, so a module that exists is never hidden."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None):
        prefix, _, name = fullname.partition(".")
        if prefix != PACKAGE or name not in MODULES:
            return None
        spec = importlib.machinery.ModuleSpec(fullname, self)
        if any(old.startswith(f"{name}.") for old in MODULES):
            spec.submodule_search_locations = []
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        new = MODULES[spec.name.removeprefix(f"{PACKAGE}.")]
        message = f"{spec.name} is {PACKAGE}.{new} now; the old name goes with the next release"
        warnings.warn(message, FutureWarning, stacklevel=2)
        return _Renamed(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass

    def get_code(self, fullname: str) -> types.CodeType:
        """For ``python -m``: runs the new module."""
        new = MODULES[fullname.removeprefix(f"{PACKAGE}.")].removesuffix(".__main__")
        return compile(
            f"import runpy\nrunpy.run_module('{PACKAGE}.{new}', run_name='__main__', alter_sys=True)", fullname, "exec"
        )


def install() -> None:
    """Lets old names be imported; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
