# A rollout worker with its simulator: CoppeliaSim 4.1.0, PyRep, RLBench, the base installation. No jax.
#   docker build -f docker/rollout.Dockerfile --build-arg COPPELIASIM_SHA256=... -t drifting-vla-rollout .
# The first build without the sum stops and prints that of what it got; compare before you pass it on. CoppeliaSim's
# educational edition has its own licence: the image is for you, not for a public registry.
# The last CoppeliaSim that PyRep speaks to wants Ubuntu 20.04's libraries; this project wants a newer Python than is there,
# and PyRep's compiled part fits any (abi3): the Python is uv's.
FROM ghcr.io/astral-sh/uv:0.8.0 AS uv

FROM ubuntu:20.04 AS simulator
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends build-essential ca-certificates curl git xz-utils \
  && rm -rf /var/lib/apt/lists/*

ARG COPPELIASIM_URL=https://downloads.coppeliarobotics.com/V4_1_0/CoppeliaSim_Edu_V4_1_0_Ubuntu20_04.tar.xz
ARG COPPELIASIM_SHA256=
ENV COPPELIASIM_ROOT=/opt/coppeliasim
WORKDIR /tmp/coppeliasim
RUN curl --fail --location --retry 3 --output archive.tar.xz "$COPPELIASIM_URL" \
  && sum=$(sha256sum archive.tar.xz | cut -d' ' -f1) \
  && if [ "$sum" != "$COPPELIASIM_SHA256" ]; then \
       echo "error: $COPPELIASIM_URL has sha256 $sum, expected '$COPPELIASIM_SHA256'" >&2; \
       echo "compare with a copy you trust, then build with --build-arg COPPELIASIM_SHA256=$sum" >&2; \
       exit 1; \
     fi \
  && mkdir -p "$COPPELIASIM_ROOT" \
  && tar -xf archive.tar.xz -C "$COPPELIASIM_ROOT" --strip-components=1 \
  && rm archive.tar.xz

COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PYTHON_INSTALL_DIR=/opt/python UV_PYTHON=3.11 VIRTUAL_ENV=/opt/venv UV_NO_CACHE=1 CC=gcc CXX=g++
WORKDIR /app
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY drifting_vla_jax/__init__.py drifting_vla_jax/__init__.py
RUN uv venv "$VIRTUAL_ENV" \
  && uv pip install --constraint constraints.txt "setuptools>=75,<80" wheel --editable ".[rlbench]"

# PyRep is compiled against the simulator's library; RLBench would fetch another PyRep, so it comes without dependencies.
# peract has all 18 tasks and wrote the published data; stepjam/RLBench@02720bba4c73fe02eb75df946b8791b806028a9d has 15.
ARG PYREP=https://github.com/stepjam/PyRep.git@8f420be8064b1970aae18a9cfbc978dfb15747ef
ARG RLBENCH=https://github.com/MohitShridhar/RLBench.git@ad991951bc53e4f3b73b803a75cf4b7d55295cf7
RUN LD_LIBRARY_PATH="$COPPELIASIM_ROOT" uv pip install --no-build-isolation --no-deps "pyrep @ git+$PYREP" \
  && uv pip install --no-build-isolation --no-deps "rlbench @ git+$RLBENCH"

FROM ubuntu:20.04
ENV DEBIAN_FRONTEND=noninteractive
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates dbus-x11 libavcodec58 libavformat58 libdbus-1-3 \
    libegl1 libfontconfig1 libgl1 libgl1-mesa-dri libglib2.0-0 libswscale5 libx11-6 libx11-xcb1 libxau6 libxcb1 \
    libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 \
    libxcb-xkb1 libxi6 libxkbcommon-x11-0 libxrender1 xvfb \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --create-home --uid 10001 worker \
  && install -d -m 1777 /tmp/.X11-unix \
  && mkdir -p /app/data /app/runs \
  && chown -R worker:worker /app
# CoppeliaSim writes into its own folder when it starts.
COPY --from=simulator --chown=worker:worker /opt/coppeliasim /opt/coppeliasim
COPY --from=simulator /opt/python /opt/python
COPY --from=simulator /opt/venv /opt/venv
WORKDIR /app
COPY --chown=worker:worker setup.py pyproject.toml README.md ./
COPY --chown=worker:worker drifting_vla_jax drifting_vla_jax
COPY docker/entrypoint.sh docker/workers.sh /usr/local/bin/

# The entrypoint sets what CoppeliaSim's libraries need from this, before Python starts.
ENV PATH=/opt/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 COPPELIASIM_ROOT=/opt/coppeliasim
USER 10001
ENTRYPOINT ["bash", "/usr/local/bin/entrypoint.sh"]
CMD ["python", "-m", "drifting_vla_jax.rollout.worker", "--help"]
