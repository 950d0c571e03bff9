from typing import Annotated, Any

import pytest
from msgspec import Meta

from service_kit.errors import StartupError
from service_kit.settings import Name, Port, Settings, masked, read_settings, settings_help

DSN = {"APP__DB_DSN": "postgresql://orders:hunter2@db1:5432,db2/orders?target_session_attrs=read-write"}


class ProbeSettings(Settings, frozen=True, kw_only=True):
    service_name: Name = "probe-service"
    port: Port = 8000
    success_rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    rules_file: str | None = None


def read(**variables: str) -> ProbeSettings:
    return read_settings(ProbeSettings, DSN | variables).settings


def faults(**variables: str) -> list[str]:
    with pytest.raises(StartupError) as caught:
        read(**variables)
    assert caught.value.exit_code == 2
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = read()

    assert settings.rabbitmq_url == "amqp://guest:guest@localhost/"
    assert (settings.host, settings.port, settings.service_name) == ("127.0.0.1", 8000, "probe-service")
    assert (settings.exchange, settings.queue_type, settings.events_per_message) == ("orders", "classic", 1)
    assert (settings.migrate, settings.log_level, settings.shutdown_grace_seconds) == (True, "INFO", 20.0)


def test_a_missing_required_setting_is_named_with_what_is_needed() -> None:
    [fault] = faults(APP__DB_DSN="")

    assert fault.startswith("APP__DB_DSN is not set; needed: postgresql://user:password@host:5432/database")


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("true", True),
        ("YES", True),
        ("on", True),
        ("1", True),
        ("False", False),
        ("no", False),
        ("off", False),
    ],
)
def test_a_switch_understands_the_usual_words(text: str, meaning: bool) -> None:
    assert read(APP__MIGRATE=text).migrate is meaning


def test_names_and_words_may_be_in_any_case_and_capitals_win() -> None:
    variables = {"app__port": "1", "APP__PORT": "2", "App__Port": "3", "app__queue_type": "Quorum"}
    settings = read(**variables, APP__LOG_LEVEL="debug")

    assert (settings.port, settings.queue_type, settings.log_level) == (2, "quorum", "DEBUG")


def test_an_empty_or_blank_value_counts_as_unset() -> None:
    settings = read(APP__PORT="", APP__HOST="  ", APP__RULES_FILE="", APP__EXCHANGE=" shop ")

    assert (settings.port, settings.host, settings.rules_file) == (8000, "127.0.0.1", None)
    assert settings.exchange == "shop"


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("PORT", "http", "a whole number from 0 to 65535"),
        ("PORT", "65536", "a whole number from 0 to 65535"),
        ("PORT", "80.5", "a whole number from 0 to 65535"),
        ("EVENTS_PER_MESSAGE", "0", "a whole number from 1 to 1000"),
        ("EVENTS_PER_MESSAGE", "1001", "a whole number from 1 to 1000"),
        ("QUEUE_TYPE", "stream", "classic or quorum"),
        ("MIGRATE", "maybe", "true or false"),
        ("LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("SHUTDOWN_GRACE_SECONDS", "-1", "a number above 0 to 86400"),
        ("SHUTDOWN_GRACE_SECONDS", "nan", "a number above 0 to 86400"),
        ("SUCCESS_RATE", "1.1", "a number from 0 to 1"),
        ("SUCCESS_RATE", "nan", "a number from 0 to 1"),
        ("SERVICE_NAME", "two words", "letters, digits and . _ - only"),
        ("EXCHANGE", "x" * 101, "letters, digits and . _ - only"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(name: str, text: str, allowed: str) -> None:
    [fault] = faults(**{f"APP__{name}": text})

    assert fault == f"APP__{name}={text[:80]!r} is not valid; allowed: {allowed}"


def test_all_bad_values_are_told_at_once() -> None:
    assert [
        fault.partition("=")[0] for fault in faults(APP__PORT="x", APP__MIGRATE="x", APP__QUEUE_TYPE="x")
    ] == [
        "APP__PORT",
        "APP__QUEUE_TYPE",
        "APP__MIGRATE",
    ]


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://localhost/orders",
        "postgres://localhost",
        "postgresql+asyncpg://u:p@h:5432/d",
        "postgresql://u:p%40ss@[::1]:5432,h2:5433/d?target_session_attrs=read-write",
        "postgresql:///d?host=/var/run/postgresql",
        "postgresql://u:p@ss@h/d",
    ],
)
def test_addresses_of_databases_are_taken_as_they_are(dsn: str) -> None:
    assert read(APP__DB_DSN=dsn).db_dsn == dsn


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DB_DSN", "mysql://u:hunter2@h/d"),
        ("DB_DSN", "postgresql+psycopg://u:hunter2@h/d"),
        ("DB_DSN", "postgresql:/u:hunter2@h/d"),
        ("DB_DSN", "postgresql://u:hunter2/h@h/d"),
        ("DB_DSN", "postgresql://u:hunter2@h:port/d"),
        ("DB_DSN", "host=h password=hunter2"),
        ("RABBITMQ_URL", "http://u:hunter2@h"),
        ("RABBITMQ_URL", "amqp://u:hunter2@h:x/"),
    ],
)
def test_a_bad_address_is_refused_without_showing_its_password(name: str, url: str) -> None:
    [fault] = faults(**{f"APP__{name}": url})

    assert fault.startswith(f"APP__{name} is not valid; allowed: ")
    assert "hunter2" not in fault


@pytest.mark.parametrize("key", ["hunter2", "fifteen letters", "hunter2 hunter2 hunter2", "hunter2" * 30])
def test_a_bad_key_is_refused_without_showing_it(key: str) -> None:
    [fault] = faults(APP__ADMIN_KEY=key)

    assert fault == (
        "APP__ADMIN_KEY is not valid; allowed: 16 to 200 printable ASCII characters without spaces"
    )


def test_a_key_is_masked_whole() -> None:
    key = "https://user:hunter2@a/b"

    assert read(APP__ADMIN_KEY=key).admin_key == key
    assert masked(read(APP__ADMIN_KEY=key))["admin_key"] == "***"
    assert masked(read())["admin_key"] is None


def test_an_unknown_setting_is_a_warning_with_the_closest_name() -> None:
    variables = DSN | {
        "APP__RABITMQ_URL": "x",
        "APP__WHATEVER": "x",
        "APP__AUTH": "off",
        "OTEL_SERVICE_NAME": "x",
    }

    warnings = read_settings(ProbeSettings, variables, also_known=["AUTH"]).warnings

    assert sorted(warnings) == [
        "APP__RABITMQ_URL is set, but there is no such setting; is APP__RABBITMQ_URL meant?",
        "APP__WHATEVER is set, but there is no such setting",
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hunter2@h1:5432,h2:5433/d", "postgresql://u:***@h1:5432,h2:5433/d"),
        ("postgresql://u:hun@ter2@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://h:5432/d?user=u&password=hunter2&x=y",
            "postgresql://h:5432/d?user=u&password=***&x=y",
        ),
        ("postgresql://h:5432/d?sslpassword=hunter2", "postgresql://h:5432/d?sslpassword=***"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(read(APP__DB_DSN=url))["db_dsn"] == shown


def test_masked_settings_hold_everything_else_as_it_is() -> None:
    shown: dict[str, Any] = masked(read())

    assert shown["rabbitmq_url"] == "amqp://guest:***@localhost/"
    assert (shown["port"], shown["rules_file"], shown["migrate"]) == (8000, None, True)


def test_help_has_a_line_for_each_setting() -> None:
    lines = settings_help(ProbeSettings).splitlines()

    assert len(lines) == len(ProbeSettings.__struct_fields__)
    assert "  APP__PORT                      a whole number from 0 to 65535 [8000]" in lines


# tokens

JWT = {
    "APP__JWT_ISSUER": "https://login.example/",
    "APP__JWT_AUDIENCE": "orders",
    "APP__JWT_JWKS_URL": "https://login.example/keys?v=1",
}


@pytest.mark.parametrize("missing", JWT)
def test_tokens_need_all_of_their_settings(missing: str) -> None:
    [fault] = faults(**JWT | {missing: ""})

    assert fault.startswith("tokens need all of APP__JWT_ISSUER, ")
    assert fault.endswith(f"; not set: {missing}")


def test_tokens_that_nobody_would_be_asked_for_are_refused() -> None:
    [fault] = faults(**JWT, APP__AUTH="off")

    assert fault.startswith("APP__AUTH=off asks nobody for a token")


@pytest.mark.parametrize(
    "algorithms", ["none", "HS256", "RS256,HS256", "RS256,none", "RS256, ES256", "rs256", ","]
)
def test_an_algorithm_without_a_public_key_is_refused(algorithms: str) -> None:
    [fault] = faults(**JWT, APP__JWT_ALGORITHMS=algorithms)

    assert fault.startswith(f"APP__JWT_ALGORITHMS={algorithms!r} is not valid; allowed: RS256, RS384")


def test_algorithms_are_those_of_most_issuers_unless_told_otherwise() -> None:
    assert read(**JWT).jwt_algorithms == "RS256,ES256"
    assert read(**JWT, APP__JWT_ALGORITHMS="PS512,ES384").jwt_algorithms == "PS512,ES384"


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("https://login.example", True),
        ("http://127.0.0.1:8080/keys", True),
        ("http://localhost/keys", True),
        ("http://login.example/keys", False),
        ("http://localhost.evil.example/keys", False),
        ("http://127.0.0.1@evil.example/keys", False),
        ("file:///keys", False),
    ],
)
def test_keys_that_others_could_change_on_their_way_are_refused(url: str, is_taken: bool) -> None:
    given = JWT | {"APP__JWT_JWKS_URL": url}

    if is_taken:
        assert read(**given).jwt_jwks_url == url
    else:
        assert len(faults(**given)) == 1
