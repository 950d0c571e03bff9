"""`order-processor up` as somebody runs it: a process of its own, on embedded parts."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from order_processor.samples import SAMPLES
from service_kit.testing.eventually import eventually
from service_kit.testing.otlp_receiver import otlp_receiver

COMMAND = Path(sys.executable).parent / "order-processor"
README = Path(__file__).parents[2] / "README.md"


class Up:
    """A running `order-processor up` on ports of the system's choice."""

    def __init__(self, process: asyncio.subprocess.Process, screen: Path) -> None:
        self._process = process
        self._screen = screen

    @property
    def screen(self) -> str:
        return self._screen.read_text()

    async def serving(self) -> str:
        """The URL of order-service, once the screen says that all is up."""
        await eventually(self._is_serving, within_seconds=60)
        return next(word for word in self.screen.split() if word.startswith("http://"))

    async def end(self, number: signal.Signals) -> int:
        self._process.send_signal(number)
        return await self._process.wait()

    async def ended(self) -> int:
        return await self._process.wait()

    async def close(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    def _is_serving(self) -> bool:
        if self._process.returncode is not None:
            raise RuntimeError(self.screen)
        return "Serving until" in self.screen


@asynccontextmanager
async def up(
    data_dir: Path, screen: Path, *options: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Up]:
    ports = () if "--order-port" in options else ("--order-port", "0", "--processor-port", "0")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("APP__")}
    with screen.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            "up",
            "--data-dir",
            data_dir,
            *ports,
            *options,
            env={**plain, **(settings or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    running = Up(process, screen)
    try:
        yield running
    finally:
        await running.close()


async def post(url: str, order_id: str) -> int:
    async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
        return (await client.post("/orders", json={**SAMPLES[0], "order_id": order_id})).status_code


async def test_the_first_run_shows_both_samples_and_the_second_continues(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "first") as first:
        url = await first.serving()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            good = (await client.get("/orders/ord-sample-success")).json()
            bad = (await client.get("/orders/ord-embargo-1")).json()
            assert (await client.get("/ready")).status_code == 200
        assert await first.end(signal.SIGINT) == 0
    assert (good["status"], good["version"], good["fail_reason"]) == ("done", 2, None)
    assert (bad["status"], bad["version"], bad["fail_reason"]) == ("failed", 2, "Pineapple/teapot embargo")
    assert "ord-sample-success" in first.screen and "Pineapple/teapot embargo" in first.screen
    assert "Traceback" not in first.screen

    async with up(tmp_path / "data", tmp_path / "second") as second:
        await second.serving()
        assert "from an earlier run" in second.screen
        assert await second.end(signal.SIGTERM) == 0


async def test_the_console_is_there_for_this_machine_and_shows_the_samples(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "screen") as running:
        url = await running.serving()
        assert f"{url}/console" in running.screen
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            orders = await client.get("/console/orders")
            rules = await client.get("/console/rules")
            stranger = await client.get("/console", headers={"host": "evil.example"})
            async with client.stream("GET", "/console/live?parts=verdict") as stream:
                lines = stream.aiter_lines()
                first = await anext(line async for line in lines if line.startswith("data:"))
                ended = asyncio.create_task(running.end(signal.SIGTERM))
                _ = [line async for line in lines]  # until it ends, which nobody but the service does
                assert await ended == 0

    assert (orders.status_code, rules.status_code, stranger.status_code) == (200, 200, 403)
    assert "ord-sample-success" in orders.text and "Too fatty food" in rules.text
    assert "parts" in first and "cut_off" not in running.screen


async def test_orders_that_were_pending_when_it_was_killed_get_done(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "first") as first:
        url = await first.serving()
        assert await post(url, "before") == 201
        posts = [asyncio.create_task(post(url, f"order-{number}")) for number in range(100)]
        await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        await first.end(signal.SIGKILL)
        outcomes = await asyncio.gather(*posts, return_exceptions=True)
    accepted = [f"order-{number}" for number, outcome in enumerate(outcomes) if outcome == 201]
    assert accepted

    async with up(tmp_path / "data", tmp_path / "second") as second:
        url = await second.serving()
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:

            async def all_final() -> bool:
                orders = [
                    (await client.get(f"/orders/{order_id}")).json() for order_id in ["before", *accepted]
                ]
                return {order["status"] for order in orders} == {"done"}

            await eventually(all_final)


async def test_operators_on_this_machine_need_no_key_and_foreign_pages_get_nothing(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "screen") as running:
        await running.serving()
        urls = {word for word in running.screen.split() if word.startswith("http://127.0.0.1:")}
        bases = {"/".join(url.split("/")[:3]) for url in urls}
        assert len(bases) == 2
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            for base in bases:
                pause, body = f"{base}/admin/consuming/pause", {"reason": "a test"}
                foreign = {"x-operator": "anna", "origin": "https://evil.example"}
                state = await client.get(f"{base}/admin/state")
                rebound = await client.get(f"{base}/admin/state", headers={"host": "evil.example"})
                forged = await client.post(pause, json=body, headers=foreign)
                ours = await client.post(pause, json=body, headers={"x-operator": "anna"})

                assert (state.status_code, ours.status_code) == (200, 200)
                assert (rebound.status_code, forged.status_code) == (403, 403)


async def test_a_second_start_on_one_data_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "first") as first:
        await first.serving()
        async with up(tmp_path / "data", tmp_path / "second") as second:
            assert await second.ended() == 1
        assert str(tmp_path / "data") in second.screen.replace("\n", "") and "Traceback" not in second.screen


async def test_a_taken_port_is_told_with_the_option_to_change(tmp_path: Path) -> None:
    async with up(tmp_path / "data", tmp_path / "first") as first:
        port = (await first.serving()).rpartition(":")[2]
        options = ("--ephemeral", "--order-port", port, "--processor-port", "0")
        async with up(tmp_path / "other", tmp_path / "second", *options) as second:
            assert await second.ended() == 1
    assert port in second.screen and "--order-port" in second.screen and "Traceback" not in second.screen
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("signals", [1, 2])
async def test_ctrl_c_while_it_starts_takes_everything_down(tmp_path: Path, signals: int) -> None:
    async with up(tmp_path / "data", tmp_path / "screen") as starting:
        await eventually(lambda: (tmp_path / "data").exists())
        for _ in range(signals):
            starting._process.send_signal(signal.SIGINT)
        assert await starting.ended() == 130
    assert "Traceback" not in starting.screen

    async with up(tmp_path / "data", tmp_path / "again") as again:
        await again.serving()


async def test_a_wrong_setting_is_told_in_one_line(tmp_path: Path) -> None:
    wrong = {"APP__SUCCESS_RATE": "2"}
    async with up(tmp_path / "data", tmp_path / "screen", settings=wrong) as starting:
        assert await starting.ended() == 2
    assert "APP__SUCCESS_RATE" in starting.screen and "Traceback" not in starting.screen


async def test_a_data_folder_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("precious")
    async with up(tmp_path / "data", tmp_path / "screen") as starting:
        assert await starting.ended() == 1
    assert "Traceback" not in starting.screen
    assert (tmp_path / "data").read_text() == "precious"


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ({"APP__ORDER_DB_DSN": "mysql://x"}, "order-processor: APP__ORDER_DB_DSN is not valid"),
        ({"APP__POLICY": "nowhere:decide"}, "order-processor: APP__POLICY: cannot load 'nowhere:decide'"),
        ({"APP__LOG_LEVEL": "loud"}, "order-processor: APP__LOG_LEVEL='loud' is not valid"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_SAMPLER": "loud"},
            "order-processor: OTEL_TRACES_SAMPLER='loud' is not valid",
        ),
    ],
)
async def test_settings_are_looked_at_before_anything_is_started(
    tmp_path: Path, setting: Mapping[str, str], told: str
) -> None:
    async with up(tmp_path / "data", tmp_path / "screen", settings=setting) as wrong:
        assert await wrong.ended() == 2
    assert wrong.screen.startswith(told) and wrong.screen.count("\n") == 1
    assert not (tmp_path / "data").exists()


async def test_one_port_for_both_is_told_in_one_line(tmp_path: Path) -> None:
    ports = ("--order-port", "20010", "--processor-port", "20010")
    async with up(tmp_path / "data", tmp_path / "screen", *ports) as wrong:
        assert await wrong.ended() == 2
    assert wrong.screen == "order-processor: --order-port and --processor-port must differ\n"


async def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "data" / "postgres").mkdir(parents=True)
    (tmp_path / "data" / "postgres" / "mine").write_text("mine")
    async with up(tmp_path / "data", tmp_path / "screen") as wrong:
        assert await wrong.ended() == 1
    assert "holds something else than a database" in wrong.screen
    assert (tmp_path / "data" / "postgres" / "mine").read_text() == "mine"


async def test_each_service_traces_by_its_own_name(tmp_path: Path) -> None:
    async with otlp_receiver() as receiver:
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "both-of-them"}
        async with up(tmp_path / "data", tmp_path / "screen", "--ephemeral", settings=tracing) as running:
            await running.serving()
            assert await running.end(signal.SIGTERM) == 0
            assert running.screen.count("thrown away") == 2 and "nothing is lost" not in running.screen

    kinds = {(span.service, span.kind) for span in receiver.spans}
    in_order_service = {("order-service", kind) for kind in ("SERVER", "PRODUCER", "CONSUMER")}
    in_processor = {("processor-service", kind) for kind in ("CONSUMER", "INTERNAL", "PRODUCER")}
    assert kinds == in_order_service | in_processor
    systems = {span.attributes["messaging.system"] for span in receiver.spans if span.kind == "PRODUCER"}
    assert systems == {"in_process"}
    for posted in receiver.named("POST /orders"):
        assert len([span for span in receiver.spans if span.trace_id == posted.trace_id]) == 6


@pytest.mark.parametrize(
    ("program", "module", "arguments"),
    [
        ("order_service", "order_service.main", []),
        ("processor_service", "processor_service.main", []),
        ("order_processor", "order_processor.main", []),
        ("order_processor", "order_processor.foreground", ["up"]),
    ],
)
def test_ctrl_c_while_a_command_still_loads_is_no_traceback(
    program: str, module: str, arguments: list[str]
) -> None:
    # The first thing that the command line loads stands for any moment of it.
    interrupted = (
        "import os, runpy, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == '{module}': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        f"sys.argv[1:] = {arguments!r}\n"
        f"runpy.run_module('{program}', run_name='__main__')\n"
    )
    ended = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
