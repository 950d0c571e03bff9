import os

import pytest

from service_kit.instance import instance_name
from service_kit.settings import Name, Port, Settings


class ProbeSettings(Settings, frozen=True, kw_only=True):
    service_name: Name = "probe-service"
    port: Port = 8000


def settings(instance: str | None = None) -> ProbeSettings:
    return ProbeSettings(db_dsn="postgresql://localhost/none", instance=instance)


def test_the_setting_names_the_instance() -> None:
    assert instance_name(settings("orders-blue-1")) == "orders-blue-1"


@pytest.mark.parametrize(("host", "shown"), [("web-1.example.org", "web-1"), ("x" * 300, "x" * 60)])
def test_without_it_the_machine_and_the_process_do(
    monkeypatch: pytest.MonkeyPatch, host: str, shown: str
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)

    assert instance_name(settings()) == f"{shown}-{os.getpid()}"
