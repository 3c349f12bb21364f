"""A figure outside the package."""

from drifting_vla_jax.figures.registry import make_plot
from drifting_vla_jax.figures.style import picture

PLAIN = make_plot(
    "plain", "Plain", "Nothing.", picture(320, 240)(lambda figure, theme: None), lambda inputs: (), every=2
)
