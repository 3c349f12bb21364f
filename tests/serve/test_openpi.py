"""The client that others wrote, unmodified: openpi's, from the package index (launch/test.sh installs it)."""

import numpy as np
import pytest

from tests.serve.test_server import observation, serving

action_chunk_broker = pytest.importorskip(
    "openpi_client.action_chunk_broker", reason="pip install --no-deps openpi-client==0.1.2"
)
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # noqa: E402


def test_a_thousand_requests():
    with serving() as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        assert client.get_server_metadata()["cameras"] == ["top"]
        for n in range(1000):
            answer = client.infer(observation(n))
            assert answer["actions"].shape == (3, 8) and answer["actions"][0, 0] == n
        assert server.counts == {"answered": 1000}
        client._ws.close()


def test_its_broker_hands_out_one_action_after_another():
    with serving() as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        broker = action_chunk_broker.ActionChunkBroker(client, action_horizon=3)
        given = [broker.infer(observation(n))["actions"] for n in range(6)]
        assert [a[0] for a in given] == [0, 0, 0, 3, 3, 3] and given[0].shape == (8,)
        assert server.counts == {"answered": 2}
        client._ws.close()


def test_a_key_goes_through_and_a_wrong_one_is_an_error():
    with serving(api_key="k") as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port, api_key="k")
        assert client.infer(observation(1))["actions"][0, 0] == 1
        client._ws.close()
        with pytest.raises(Exception, match="401"):
            WebsocketClientPolicy("127.0.0.1", server.port, api_key="x")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": {}}, r"images has cameras \[\]; expected \['top'\]"),
        ({"images": {"top": np.zeros((8, 9, 3), np.uint8)}}, r"images\['top'\] is uint8 \[8, 9, 3\]; expected uint8"),
        ({"images": {"top": np.zeros((8, 8, 3), np.float32)}}, r"images\['top'\] is float32"),
        ({"state": np.full(4, np.nan, np.float32)}, "state is not finite"),
        ({"state": np.zeros(5, np.float32)}, r"state is float32 \[5\]; expected float32 \[4\]"),
        ({"prompt": ""}, "prompt is ''"),
    ],
)
def test_what_it_gets_wrong_is_named_and_the_connection_goes_on(changes, said):
    with serving() as server:
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        with pytest.raises(RuntimeError, match=said):
            client.infer(observation() | changes)
        assert client.infer(observation(5))["actions"][0, 0] == 5
        client._ws.close()
