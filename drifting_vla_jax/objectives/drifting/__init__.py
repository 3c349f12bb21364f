"""Drifting: ``loss.py`` has the field and the loss, ``objective.py`` how a policy is trained with them."""

from drifting_vla_jax.objectives.drifting.loss import drifting_loss

__all__ = ["drifting_loss"]
