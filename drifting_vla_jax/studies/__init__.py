"""Experiments with a training objective alone, without a robot."""
