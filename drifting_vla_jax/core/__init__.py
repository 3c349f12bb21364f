"""What every room may use: numpy and the standard library only, importable by a simulator's process and by the learner."""
