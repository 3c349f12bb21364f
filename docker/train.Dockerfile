# The learner: training, evaluation's policy server, results. No simulator (that is rollout.Dockerfile).
#   docker build -f docker/train.Dockerfile -t drifting-vla-train .
#   docker run --gpus all -v "$PWD/data:/app/data" -v "$PWD/runs:/app/runs" drifting-vla-train \
#     python -m drifting_vla_jax.main --config=configs/rlbench_b2.py --workdir=runs/rlbench_b2
# jax's wheels bring CUDA; of the host it needs the driver alone, so the base is the smallest of NVIDIA's images.
FROM nvidia/cuda:12.9.1-base-ubuntu24.04

# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
  && rm -rf /var/lib/apt/lists/* \
  && python3 -m venv /opt/venv \
  && useradd --create-home --uid 10001 trainer \
  && mkdir -p /app/data /app/runs \
  && chown -R trainer:trainer /app
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1

# What changes rarely first: the packages are a layer of their own. torch, of the constraints, is not among the extras.
WORKDIR /app
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY drifting_vla_jax/__init__.py drifting_vla_jax/__init__.py
ARG EXTRAS=cuda,wandb
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[$EXTRAS]"
COPY --chown=trainer:trainer drifting_vla_jax drifting_vla_jax
COPY --chown=trainer:trainer configs configs
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh

USER 10001
ENTRYPOINT ["bash", "/usr/local/bin/entrypoint.sh"]
CMD ["python", "-m", "drifting_vla_jax.main", "--help"]
