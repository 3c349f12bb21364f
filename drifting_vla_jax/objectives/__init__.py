"""Ways to train the network, interchangeable: ``drifting`` (one step), ``flow_matching`` (k steps), ``regression``."""
