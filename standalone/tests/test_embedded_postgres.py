import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from order_processor.embedded_postgres import DataFolderInUse, EmbeddedPostgres, programs
from service_kit.errors import StartupError
from service_kit.testing.eventually import eventually

IS_ROOT = os.geteuid() == 0
OWNER = """
import sys
from pathlib import Path
from order_processor.embedded_postgres import EmbeddedPostgres

postgres = EmbeddedPostgres(Path(sys.argv[1]))
postgres.start()
print(postgres.ensure_database("orders"), flush=True)
sys.stdin.read()
postgres.stop()
"""

INITDB_ON_A_FULL_DISK = """\
running bootstrap script ... [7] FATAL:  could not write to file "pg_wal/1": No space left on device
child process exited with exit code 1
initdb: removing contents of data directory
"""

Embedded = Callable[[Path], EmbeddedPostgres]


@pytest.fixture
def embedded() -> Iterator[Embedded]:
    """Makes servers on data folders, and stops them after the test."""
    made: list[EmbeddedPostgres] = []

    def make(data_dir: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(data_dir))
        return made[-1]

    yield make
    for postgres in made:
        postgres.stop()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs a server on `tmp_path`."""
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may pass, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="open folder ") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def execute(dsn: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def fetch_value(dsn: str, query: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(dsn)
        value = await connection.fetchval(query)
        await connection.close()
        return value

    return asyncio.run(run())


def write_note(dsn: str) -> None:
    execute(dsn, "CREATE TABLE notes (text text); INSERT INTO notes VALUES ('kept')")


def note(dsn: str) -> object:
    return fetch_value(dsn, "SELECT text FROM notes")


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def started(owner: subprocess.Popen[str], data_dir: Path) -> tuple[int, Path]:
    """The server of `owner`, with a note written, and the folder of its socket."""
    assert owner.stdout
    dsn = owner.stdout.readline().strip()
    write_note(dsn)
    return server_pid(data_dir), Path(str(fetch_value(dsn, "SHOW unix_socket_directories")))


def kill_with_watcher(owner: subprocess.Popen[str]) -> None:
    """Kill `owner`, and first the watcher that would stop its server then."""
    for child in psutil.Process(owner.pid).children():
        if child.name() == "sh":
            child.kill()
    owner.kill()
    owner.wait()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_data_are_there_again_after_a_stop_and_a_start(embedded: Embedded, tmp_path: Path) -> None:
    first = embedded(tmp_path)
    first.start()
    write_note(first.ensure_database("orders"))
    first.stop()

    second = embedded(tmp_path)
    second.start()

    assert note(second.ensure_database("orders")) == "kept"


def test_every_commit_is_on_disk_before_it_is_acknowledged(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    dsn = postgres.dsn("postgres")

    settings = ("fsync", "synchronous_commit", "full_page_writes")
    assert [fetch_value(dsn, f"SHOW {name}") for name in settings] == ["on"] * 3


def test_no_port_of_the_machine_is_opened(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()

    assert fetch_value(postgres.dsn("postgres"), "SHOW listen_addresses") == ""


async def test_its_dsn_is_understood_by_sqlalchemy_too(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    engine = create_async_engine(postgres.dsn("postgres").replace("postgresql", "postgresql+asyncpg", 1))

    async with engine.connect() as connection:
        assert await connection.scalar(sqlalchemy.text("SELECT current_database()")) == "postgres"
    await engine.dispose()


async def test_after_a_kill_of_the_owner_its_server_stops_by_itself_and_leaves_nothing(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    pid, sockets = await asyncio.to_thread(started, owner, tmp_path)

    owner.kill()

    await eventually(lambda: not is_alive(pid))
    await eventually(lambda: not sockets.exists())
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


def test_a_server_that_outlived_its_owner_is_replaced_at_the_next_start(
    embedded: Embedded, tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    pid, sockets = started(owner, tmp_path)
    kill_with_watcher(owner)
    assert is_alive(pid)

    postgres = embedded(tmp_path)
    postgres.start()

    assert note(postgres.ensure_database("orders")) == "kept"
    assert not is_alive(pid)
    assert not sockets.exists()


def test_after_a_kill_of_owner_and_server_the_next_start_recovers(
    embedded: Embedded, tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    pid, _ = started(owner, tmp_path)
    os.kill(pid, signal.SIGKILL)
    kill_with_watcher(owner)

    postgres = embedded(tmp_path)
    postgres.start()

    assert note(postgres.ensure_database("orders")) == "kept"
    assert "was not properly shut down" in (tmp_path / "postgres.log").read_text()


async def test_a_server_that_was_killed_is_started_again_under_the_same_dsn(
    embedded: Embedded, tmp_path: Path
) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    dsn = postgres.ensure_database("orders")
    await asyncio.to_thread(write_note, dsn)
    os.kill(server_pid(tmp_path), signal.SIGKILL)
    await eventually(lambda: not postgres.running)

    postgres.start()

    assert postgres.dsn("orders") == dsn
    assert await asyncio.to_thread(note, dsn) == "kept"


async def test_the_start_waits_for_children_of_a_killed_server(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'"
    child = await asyncio.to_thread(fetch_value, postgres.dsn("postgres"), query)
    assert isinstance(child, int)
    os.kill(child, signal.SIGSTOP)
    os.kill(server_pid(tmp_path), signal.SIGKILL)
    await eventually(lambda: not postgres.running)

    start = asyncio.create_task(asyncio.to_thread(postgres.start))
    try:
        await eventually(lambda: "is still in use" in (tmp_path / "postgres.log").read_text())
        assert not start.done()
    finally:
        os.kill(child, signal.SIGKILL)
    await start

    assert postgres.running


def test_the_number_of_a_zombie_in_the_pid_file_does_not_keep_it_from_starting(
    embedded: Embedded, tmp_path: Path
) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    text = pid_file.read_text()
    postgres.stop()
    with subprocess.Popen(["/bin/true"], user="nobody" if IS_ROOT else None) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        pid_file.write_text("\n".join([str(zombie.pid), *text.splitlines()[1:]]) + "\n")

        postgres.start()

    assert postgres.running


def test_a_stale_pid_file_whose_number_another_program_got_does_not_keep_it_from_starting(
    embedded: Embedded, tmp_path: Path
) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    postgres.stop()
    user = "nobody" if IS_ROOT else None
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE, user=user) as other:
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")

        postgres.start()

        assert postgres.running
        assert other.poll() is None


def test_starting_twice_is_starting_once(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    pid = server_pid(tmp_path)

    postgres.start()

    assert server_pid(tmp_path) == pid


def test_stopping_is_safe_before_the_start_and_twice(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.stop()
    postgres.start()
    pid = server_pid(tmp_path)

    postgres.stop()
    postgres.stop()

    assert not is_alive(pid)
    assert not (tmp_path / "postgres" / "postmaster.pid").exists()


def test_a_stop_leaves_no_temporary_files(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_folder: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    postgres = embedded(tmp_path)
    postgres.start()
    assert list(open_folder.iterdir())

    postgres.stop()

    assert not list(open_folder.iterdir())


def test_an_interrupt_at_the_terminal_is_not_for_the_server(embedded: Embedded, tmp_path: Path) -> None:
    embedded(tmp_path).start()

    assert os.getsid(server_pid(tmp_path)) != os.getsid(0)


def test_a_path_may_be_longer_than_a_socket_path_and_hold_anything(
    embedded: Embedded, tmp_path: Path
) -> None:
    postgres = embedded(tmp_path / "with, 'quotes' and spaces" / ("long" * 30) / ("ü" * 60))

    postgres.start()

    assert fetch_value(postgres.ensure_database("orders"), "SELECT 1") == 1


def test_a_temporary_folder_with_a_path_too_long_for_a_socket_is_not_used(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_folder = tmp_path / ("long" * 25)
    long_folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long_folder))
    postgres = embedded(tmp_path / "data")

    postgres.start()

    assert fetch_value(postgres.dsn("postgres"), "SELECT 1") == 1


def test_a_folder_half_made_by_a_killed_first_start_is_made_again(embedded: Embedded, tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")

    postgres = embedded(tmp_path)
    postgres.start()

    assert postgres.running
    assert not unfinished.exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user run PostgreSQL")
def test_as_root_a_folder_closed_to_others_stays_closed(embedded: Embedded, open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    postgres = embedded(home / "data")

    postgres.start()

    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "data" / "postgres").stat().st_uid == pwd.getpwnam("nobody").pw_uid


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user run PostgreSQL")
def test_as_root_the_programs_may_be_installed_below_a_folder_closed_to_others(
    embedded: Embedded, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = programs.folder()
    package = installed.parents[1]
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    for part in (f"{package.name}/pginstall{programs.MAJOR_VERSION}", f"{package.name}.libs"):
        shutil.copytree(package.parent / part, home / part, symlinks=True)
    monkeypatch.setattr(programs, "folder", lambda: home / installed.relative_to(package.parent))
    postgres = embedded(open_folder / "data")

    postgres.start()

    assert fetch_value(postgres.ensure_database("orders"), "SELECT 1") == 1
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


@pytest.mark.skipif(not IS_ROOT, reason="only root has another user run PostgreSQL")
def test_as_root_the_server_has_no_right_of_root_in_folders_that_are_open(
    embedded: Embedded, open_folder: Path
) -> None:
    if any(not folder.stat().st_mode & 0o001 for folder in programs.folder().parents):
        pytest.skip("the programs are installed below a folder that is closed to others")
    embedded(open_folder).start()

    status = Path(f"/proc/{server_pid(open_folder)}/status").read_text()

    assert "CapEff:\t0000000000000000" in status


def test_an_ordinary_user_needs_no_rights(open_folder: Path) -> None:
    give_to_ordinary_user(open_folder)

    def start_twice() -> None:
        for _ in range(2):
            postgres = EmbeddedPostgres(open_folder / "data")
            postgres.start()
            postgres.ensure_database("orders")
            postgres.stop()

    assert startup_error_of_ordinary_user(start_twice) == ""


def test_root_runs_what_an_ordinary_user_made(embedded: Embedded, open_folder: Path) -> None:
    give_to_ordinary_user(open_folder)

    def make() -> None:
        postgres = EmbeddedPostgres(open_folder)
        postgres.start()
        postgres.stop()

    assert startup_error_of_ordinary_user(make) == ""

    postgres = embedded(open_folder)
    postgres.start()
    assert postgres.running


def test_a_second_process_on_the_same_folder_is_told_so(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    assert owner.stdout
    owner.stdout.readline()

    with pytest.raises(DataFolderInUse, match=f"{tmp_path} is in use by process {owner.pid}: stop it first"):
        EmbeddedPostgres(tmp_path).start()


def test_a_path_that_is_a_file_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()

    assert startup_error(file) == f"{file} is not a folder: choose another data folder"
    assert startup_error(file / "below") == f"{file / 'below'} is not a folder: choose another data folder"


def test_a_path_that_is_not_writable_is_told_in_one_line(open_folder: Path) -> None:
    open_folder.chmod(0o555)
    postgres = EmbeddedPostgres(open_folder / "data")

    assert (
        startup_error_of_ordinary_user(postgres.start)
        == f"cannot write to {open_folder / 'data'}: Permission denied"
    )


def test_data_of_another_major_version_are_not_touched(tmp_path: Path) -> None:
    version_file = tmp_path / "postgres" / "PG_VERSION"
    version_file.parent.mkdir()
    version_file.write_text("16\n")

    assert "holds data of PostgreSQL 16, and this is 18" in startup_error(tmp_path)
    assert version_file.read_text() == "16\n"


def test_a_full_disk_at_the_first_start_is_told_with_what_postgresql_said(
    tmp_path: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    initdb = open_folder / "initdb"
    initdb.write_text(f"#!/bin/sh\ncat <<'END'\n{INITDB_ON_A_FULL_DISK}END\nexit 1\n")
    initdb.chmod(0o755)
    monkeypatch.setattr(programs, "folder", lambda: open_folder)

    text = startup_error(tmp_path / "data")

    said = 'could not write to file "pg_wal/1": No space left on device'
    assert text == f"no database could be made in {tmp_path / 'data'}: {said}"
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["lock"]


def test_data_that_are_damaged_are_told_with_what_postgresql_said(embedded: Embedded, tmp_path: Path) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    postgres.stop()
    (tmp_path / "postgres" / "global" / "pg_control").unlink()

    text = startup_error(tmp_path)

    assert "PostgreSQL does not start: " in text
    assert "pg_control" in text


async def test_a_restart_that_failed_can_be_tried_again_under_the_same_dsn(
    embedded: Embedded, tmp_path: Path
) -> None:
    postgres = embedded(tmp_path)
    postgres.start()
    dsn = postgres.dsn("postgres")
    control = tmp_path / "postgres" / "global" / "pg_control"
    os.kill(server_pid(tmp_path), signal.SIGKILL)
    await eventually(lambda: not postgres.running)
    control.rename(tmp_path / "moved away")
    with pytest.raises(StartupError):
        postgres.start()
    (tmp_path / "moved away").rename(control)

    postgres.start()

    assert postgres.dsn("postgres") == dsn
    assert await asyncio.to_thread(fetch_value, dsn, "SELECT 1") == 1


def test_a_start_that_failed_leaves_the_folder_free(embedded: Embedded, tmp_path: Path) -> None:
    version_file = tmp_path / "postgres" / "PG_VERSION"
    version_file.parent.mkdir()
    version_file.write_text("16\n")
    failed = embedded(tmp_path)
    with pytest.raises(StartupError):
        failed.start()
    version_file.unlink()

    postgres = embedded(tmp_path)
    postgres.start()

    assert postgres.running


def startup_error(data_dir: Path) -> str:
    with pytest.raises(StartupError) as caught:
        EmbeddedPostgres(data_dir).start()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def give_to_ordinary_user(folder: Path) -> None:
    if IS_ROOT:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)


def startup_error_of_ordinary_user(action: Callable[[], None]) -> str:
    """Run `action` in a child without rights; the text of its StartupError, or an empty one."""
    if IS_ROOT and any(not folder.stat().st_mode & 0o001 for folder in programs.folder().parents):
        pytest.skip("the programs are installed below a folder that is closed to ordinary users")
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        _run_as_ordinary_user(action, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, text
    return text


def _run_as_ordinary_user(action: Callable[[], None], writer: int) -> None:
    exit_code = 1
    try:
        if IS_ROOT:
            nobody = pwd.getpwnam("nobody")
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
        action()
        exit_code = 0
    except StartupError as error:
        os.write(writer, str(error).encode())
        exit_code = 0
    except BaseException as error:
        os.write(writer, repr(error).encode())
    finally:
        os._exit(exit_code)
