"""A policy behind a socket: what travels, and the robot's end of it.

    protocol    pack, unpack, check_observation     msgpack with NumPy arrays, openpi's encoding, no pickle
    client      PolicyClient                        blocking websocket client: observation in, chunk out

Needs numpy, msgpack and websockets; never jax.
"""
