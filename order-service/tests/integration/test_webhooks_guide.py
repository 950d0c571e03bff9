"""The receiver of docs/webhooks.md is run as it stands there."""

import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from order_service.application.webhooks import Delivery, new_secret, shown_secret
from order_service.infrastructure.webhook_sender import WebhookSender

GUIDE = Path(__file__).parents[3] / "docs" / "webhooks.md"


async def test_the_receiver_of_the_guide_verifies_and_takes_each_message_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not GUIDE.is_file():
        pytest.skip("there is no folder docs/ beside the service")
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(GUIDE), "exec"), names)
    receiver: type[BaseHTTPRequestHandler] = names["Receiver"]
    receiver.log_message = lambda *_: None  # type: ignore[method-assign]
    secret = new_secret()
    receiver.secret = shown_secret(secret)  # type: ignore[attr-defined]

    def delivery(key: bytes) -> Delivery:
        url = f"http://127.0.0.1:{server.server_port}/"
        body = '{"type":"order.done","data":{"order_id":"order-1001"}}'
        return Delivery(
            id=1, endpoint_id=1, url=url, secrets=[key], message_id="msg_1", body=body, attempts=0
        )

    with HTTPServer(("127.0.0.1", 0), receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        async with WebhookSender(allow_private=True) as sender:
            answers = [(await sender.send(delivery(key))).status for key in (secret, secret, new_secret())]
        server.shutdown()
    assert answers == [204, 204, 401]
    assert capsys.readouterr().out == "order.done order-1001\n"
