from collections.abc import Mapping

import pytest

from service_kit.errors import StartupError
from service_kit.settings import Settings
from service_kit.tracing.settings import faults, is_on, tracer_for

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
SETTINGS = Settings(service_name="probe-service", db_dsn="postgresql://h/d", port=0)


@pytest.mark.parametrize(
    ("environ", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://h"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h/v1/traces"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_it_is_on_when_an_endpoint_for_traces_is_set(environ: Mapping[str, str], on: bool) -> None:
    assert is_on(environ) is on


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/otlp", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:4318/v1/traces", "http://h:99999"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "zip"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2.5", "soon"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10", "inf"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", __file__, "/nowhere.pem"),
        ("OTEL_TRACES_EXPORTER", "otlp", "zipkin"),
        ("OTEL_TRACES_SAMPLER", "ALWAYS_OFF", "jaeger_remote"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1", "0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "4096", "1e3"),
    ],
)
def test_each_variable_takes_what_makes_sense_and_nothing_else(name: str, good: str, bad: str) -> None:
    assert list(faults({name: good})) == []
    assert list(faults({name: ""})) == []
    [line] = faults({name: bad})
    assert line.startswith(name) and "allowed: " in line


@pytest.mark.parametrize("share", ["0", "0.1", "1", "1e-3"])
def test_a_ratio_is_a_share(share: str) -> None:
    assert list(faults({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": share})) == []


@pytest.mark.parametrize("share", ["", "10%", "1.1", "-0.1", "nan"])
def test_a_ratio_that_is_none_would_record_everything_and_so_is_refused(share: str) -> None:
    sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}
    [line] = faults(sampler)
    assert line.startswith("OTEL_TRACES_SAMPLER_ARG")


def test_an_endpoint_is_never_shown_since_it_may_hold_a_password() -> None:
    [line] = faults({"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://user:secret@collector"})
    assert "secret" not in line


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {"OTEL_TRACES_SAMPLER": "sometimes", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    for name, value in (ENDPOINT | wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError) as refused:
        tracer_for(SETTINGS)
    assert refused.value.exit_code == 2
    assert len(str(refused.value).splitlines()) == 2


def test_without_an_endpoint_there_is_no_tracer_and_nothing_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "sometimes")
    assert tracer_for(SETTINGS) is None
