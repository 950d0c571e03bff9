from order_console.session import SESSION_SECONDS, Sessions

KEY = "a-key-of-the-tests"


def test_a_session_is_good_wherever_the_key_is_the_same() -> None:
    session = Sessions(KEY).new("Анна")

    assert Sessions(KEY).of_cookie(Sessions(KEY).cookie(session)) == session


def test_another_key_ends_all_sessions() -> None:
    cookie = Sessions(KEY).cookie(Sessions(KEY).new("Anna"))

    assert Sessions("another-key-of-tests").of_cookie(cookie) is None


def test_without_a_key_each_process_has_its_own() -> None:
    first = Sessions(None)
    cookie = first.cookie(first.new("Anna"))

    assert first.of_cookie(cookie) and Sessions(None).of_cookie(cookie) is None


def test_the_key_is_not_in_the_cookie() -> None:
    assert KEY not in Sessions(KEY).cookie(Sessions(KEY).new("Anna"))


def test_a_session_ends() -> None:
    now = 1_000_000.0
    sessions = Sessions(KEY, now=lambda: now)
    cookie = sessions.cookie(sessions.new("Anna"))
    now += SESSION_SECONDS - 1
    assert sessions.of_cookie(cookie)

    now += 1
    assert sessions.of_cookie(cookie) is None


def test_a_changed_cookie_is_none() -> None:
    sessions = Sessions(KEY)
    content, _, signature = sessions.cookie(sessions.new("Anna")).partition(".")
    other, _, _ = sessions.cookie(sessions.new("Eve")).partition(".")

    for cookie in (
        "",
        ".",
        "x.y",
        content,
        f"{content}.",
        f"{other}.{signature}",
        f"{content}.ü\ud800",
        f"{content}.{signature}.",
    ):
        assert sessions.of_cookie(cookie) is None


def test_a_form_token_is_of_one_session_alone() -> None:
    sessions = Sessions(KEY)
    one, other = sessions.new("Anna"), sessions.new("Anna")

    assert sessions.is_form_token(one, sessions.form_token(one))
    assert not sessions.is_form_token(other, sessions.form_token(one))
    assert not sessions.is_form_token(one, "") and not sessions.is_form_token(one, "ü")


def test_a_form_token_is_no_cookie() -> None:
    sessions = Sessions(KEY)
    session = sessions.new("Anna")

    assert sessions.of_cookie(f"{session.nonce}.{sessions.form_token(session)}") is None
