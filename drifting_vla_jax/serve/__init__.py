"""The policy's end of the socket: many clients, one batch, one inference thread.

    server      PolicyServer, Policy     websocket, API key, /healthz, draining; in a thread or as a process
    batching    Batcher                  requests of all connections gathered within a deadline

numpy, asyncio and websockets only: the policy brings its own framework.
"""
