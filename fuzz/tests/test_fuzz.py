"""Raw bytes to both services, and a judge that sees what it should.

What schemathesis makes is left to `make fuzz`: its fewest requests, thousands, take minutes.
"""

from pathlib import Path

import pytest

from acceptance.deployment import deployment
from fuzz.campaign import fuzz
from fuzz.connection import Answer, faults_of
from fuzz.stage import targets
from service_kit.testing.postgres_server import PostgresServer

HIDDEN = b'{"type":"x","status":404,"instance":"/smuggled"}'
PROBLEM = {"content-type": "application/problem+json"}


@pytest.mark.timeout(300)
async def test_no_bytes_make_a_service_fail(
    postgres_server: PostgresServer, rabbitmq_url: str, unique_name: str, tmp_path: Path
) -> None:
    async with (
        deployment(postgres_server, rabbitmq_url, unique_name, tmp_path) as deployed,
        targets(deployed, ()) as found,
    ):
        outcomes = [await fuzz(target, requests=0, raw=150, seed=1, folder=tmp_path) for target in found]

    for outcome in outcomes:
        assert outcome.faults == []
        assert outcome.cases == 150


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(500, PROBLEM, b'{"status":500}'), "status 500"),
        (Answer(503, PROBLEM, b'{"status":503}'), "status 503"),
        (Answer(404, {"content-type": "text/plain"}, b"no"), "404 is no problem"),
        (Answer(404, PROBLEM, b"no"), "unreadable"),
        (Answer(404, PROBLEM, b'{"status":400}'), "404 tells 400"),
        (Answer(400, PROBLEM, b'{"status":400,"detail":"Traceback (most recent"}'), "tells internals"),
        (Answer(200, {"set-cookie": "smuggled=1"}, b""), "a header was injected"),
        (Answer(404, PROBLEM, HIDDEN), "a hidden request was answered"),
    ],
)
def test_a_wrong_answer_is_seen(answer: Answer, words: str) -> None:
    assert any(words in fault for fault in faults_of(answer))
