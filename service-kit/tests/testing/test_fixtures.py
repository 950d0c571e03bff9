import pytest

pytest_plugins = ["pytester"]

NEEDS_RABBITMQ = """
    def test_one(rabbitmq_url): pass
    def test_another(rabbitmq_url): pass
    def test_on_its_own(unique_name): pass
"""
NO_RABBITMQ = """
    from service_kit.testing import fixtures, rabbitmq_server

    rabbitmq_server.LOCAL_URL = "amqp://127.0.0.1:1/"
    rabbitmq_server.docker_answers = fixtures.docker_answers = lambda: False
"""


@pytest.fixture
def without_rabbitmq(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder of tests that need RabbitMQ, on a machine without."""
    monkeypatch.delenv("TEST_RABBITMQ_URL", raising=False)
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest(NO_RABBITMQ)
    pytester.makepyfile(NEEDS_RABBITMQ)
    return pytester


def run(folder: pytest.Pytester) -> pytest.RunResult:
    return folder.runpytest_subprocess("-p", "service_kit.testing.fixtures", "-p", "no:cacheprovider")


def test_without_rabbitmq_tests_are_skipped_and_the_closing_lines_say_how_many_and_why(
    without_rabbitmq: pytest.Pytester,
) -> None:
    result = run(without_rabbitmq)

    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(
        [
            "RabbitMQ: none, so tests that need it are skipped",
            "tests skipped: 2",
            "  2 because: No RabbitMQ: TEST_RABBITMQ_URL is not set*",
        ]
    )


def test_without_rabbitmq_a_run_in_ci_fails(
    without_rabbitmq: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")

    run(without_rabbitmq).assert_outcomes(passed=1, errors=2)


def test_a_wrong_server_address_ends_the_run_with_one_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POSTGRES_DSN", "postgresql://nobody@127.0.0.1:1/postgres")

    result = run(pytester)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: TEST_POSTGRES_DSN: *"])


def test_no_address_with_its_password_is_shown(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, rabbitmq_url: str
) -> None:
    monkeypatch.setenv("TEST_RABBITMQ_URL", rabbitmq_url)
    pytester.makepyfile(NEEDS_RABBITMQ)

    result = run(pytester)

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["RabbitMQ: TEST_RABBITMQ_URL", "tests skipped: 0"])
    result.stdout.no_fnmatch_line("*guest*")


def test_unique_names_differ(pytester: pytest.Pytester, unique_name: str) -> None:
    pytester.makepyfile(f"def test_it(unique_name): assert unique_name != '{unique_name}'")

    run(pytester).assert_outcomes(passed=1)
