"""What a policy has learnt, as pictures: pure functions from numpy arrays to matplotlib figures, see ``registry.PLOTS``."""
