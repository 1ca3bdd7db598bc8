"""`otelslo doctor`: what it finds, that it harms nobody, and that it starts and writes nothing."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from otelslo import SLO, Engine, ManualClock
from otelslo.cli.doctor_host import _needs_imports, without_secrets
from otelslo.cli.findings import size
from otelslo.exporters.sqlite_schema import SCHEMA_VERSION
from otelslo.kernels import layout as at
from otelslo.ring.check import check
from otelslo.ring.liveness import is_held
from otelslo.ring.locks import FileLock

from .invoke import invoke

SLOS = [
    SLO("answers", target="90%", match={"kind": "call"}, group_by="route", max_groups=2),
    SLO("fast", indicator="latency", threshold="200ms", target="50%", window="1d", match={"kind": "call"}),
]


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration and no exporter of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("OTEL_", "OTELSLO_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    clock = ManualClock()
    with Engine(SLOS, state_dir=tmp_path / "state", clock=clock, runner=False) as made:
        clock.advance(s=1000)  # ahead of the system's: whatever was done now stays recent while a test runs
        made.ring.blocks.advance_manual_clock()
        made.runner.tick()
        yield made


def doctor(engine: Engine | Path, *arguments: object) -> Result:
    path = engine.state_dir if isinstance(engine, Engine) else engine
    return invoke("doctor", "--state-dir", path, *arguments)


def found(engine: Engine | Path, *arguments: object) -> list[dict[str, Any]]:
    return json.loads(doctor(engine, "--json", *arguments).stdout)["findings"]


def of(findings: list[dict[str, Any]], area: str, words: str) -> dict[str, Any]:
    return next(one for one in findings if one["area"] == area and words in one["text"])


def problems(engine: Engine | Path, *arguments: object) -> list[tuple[str, str]]:
    return [(one["area"], one["text"]) for one in found(engine, *arguments) if one["state"] == "problem"]


def record(engine: Engine, name: str, good: int = 0, bad: int = 0) -> None:
    track = engine.track(name)
    for outcome, count in (("good", good), ("bad", bad)):
        for _ in range(count):
            engine.record(track, outcome, 1_000_000)


# ── health ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_healthy_host(engine: Engine) -> None:
    record(engine, "rank", good=9, bad=1)
    engine.runner.tick()
    result = doctor(engine, "--deep", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert (answer["verdict"], answer["state_dir"]) == ("healthy", str(engine.state_dir))
    findings = answer["findings"]
    assert all(set(one) == {"area", "state", "text", "remedy", "facts"} for one in findings)
    assert {one["state"] for one in findings} == {"ok"}
    assert of(findings, "versions", "otelslo")["facts"]["sqlite"] == sqlite3.sqlite_version
    assert of(findings, "ring", "layout 1")["facts"]["id"] == engine.ring.header.ring_id.hex()
    assert of(findings, "ring", "rows")["facts"]["rows"] == [engine.ring.reader.rows, 1024]
    workers = of(findings, "workers", "alive")["facts"]["blocks"]
    assert [(one["block"], one["pid"], one["alive"], one["in_flight"]) for one in workers] == [
        (0, os.getpid(), True, 0)
    ]
    assert of(findings, "leader", "the worker of block 0")
    assert of(findings, "leader", "last commit")["facts"]["sequence"] == engine.ring.reader.committed_seq
    assert of(findings, "dropped", "losses")["facts"] == {"written": 2, "kept": 2}
    assert of(findings, "history", "quick_check ok")
    assert of(findings, "history", "rollback journal")["facts"]["schema"] == SCHEMA_VERSION


@pytest.mark.parametrize("columns", [80, 120])
def test_the_picture_fits_and_what_came_from_elsewhere_cannot_draw(engine: Engine, columns: int) -> None:
    engine.runner.store.append_journal("export", "evil\x1b[31m\nanswer [red]" + "x" * 700, engine.clock.wall_ns())
    drawn = invoke("doctor", "--state-dir", engine.state_dir, columns=columns).stdout
    assert max(map(len, drawn.splitlines())) <= columns
    assert "evil?[31m?answer [red]" in " ".join(drawn.split())
    assert "\x1b" not in drawn
    assert drawn.splitlines()[-1] == "healthy"


def test_no_state_is_exit_code_3_with_a_remedy(tmp_path: Path) -> None:
    result = doctor(tmp_path / "nothing", "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["verdict"] == "no state"
    assert "--state-dir" in of(answer["findings"], "directory", "is not there")["remedy"]
    assert {"versions", "platform", "time zones", "configuration", "exporters", "channels"} <= {
        one["area"] for one in answer["findings"]
    }
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").touch()
    assert doctor(tmp_path / "file").exit_code == 1
    assert invoke("doctor", "--nonsense").exit_code == 2


def test_an_empty_directory_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    assert problems(tmp_path / "state") == []


# ── who is there ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_stopped_workers_are_no_problem(engine: Engine) -> None:
    engine.close()
    findings = found(engine)
    assert of(findings, "leader", "nobody leads")["state"] == "note"
    assert of(findings, "workers", "0 alive")["facts"]["free"] == 1
    assert doctor(engine).exit_code == 0


def test_workers_without_a_leader(engine: Engine) -> None:
    engine.ring.put(at.M_HEARTBEAT_NS, engine.clock.ring_ns() - 10**13)
    engine.ring.put(at.M_COMMITTED_NS, engine.clock.ring_ns() - 10**13)
    assert [area for area, _ in problems(engine)] == ["leader", "leader"]
    assert doctor(engine).exit_code == 1


def test_in_flight_of_the_living_and_the_dead(engine: Engine) -> None:
    track = engine.track("rank")
    assert engine.kernels.begin(engine.page, track.index)
    blocks = of(found(engine), "workers", "alive")["facts"]["blocks"]
    assert [(one["alive"], one["in_flight"]) for one in blocks] == [(True, 1)]
    engine.ring.blocks.detach()
    assert of(found(engine), "workers", "1 requests of dead workers")["state"] == "note"


def test_an_agent_leads(engine: Engine) -> None:
    lock = FileLock(engine.state_dir / "locks" / "agent")
    assert lock.acquire(wait=False)
    try:
        assert of(found(engine), "leader", "an agent")["facts"]["agent"] is True
    finally:
        lock.release()


HOLDER = """
import sys
from pathlib import Path
from otelslo.ring.locks import FileLock
lock = FileLock(Path(sys.argv[1]))
print(lock.acquire(wait=False), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_liveness_is_right_and_turns_nobody_away(tmp_path: Path) -> None:
    path = tmp_path / "block-000"
    assert is_held(path) is False
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "True\n"
        assert is_held(path) is True
        assert not FileLock(path).acquire(wait=False)
        holder.kill()
    assert is_held(path) is False
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            is_held(path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(3000):  # each would fail if somebody held even a shared lock
            lock = FileLock(path)
            assert lock.acquire(wait=False)
            lock.release()
    finally:
        over.set()
        asking.join()


def test_liveness_without_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("fcntl.F_SETLEASE", raising=False)
    lock = FileLock(tmp_path / "block-000")
    assert lock.acquire(wait=False)
    assert is_held(tmp_path / "block-000") is (True if os.path.exists("/proc/locks") else None)
    lock.release()
    assert is_held(tmp_path / "block-000") is None  # it may be held where this process cannot see


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_workers_of_another_pid_namespace_are_alive(engine: Engine) -> None:
    apart = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    if subprocess.run([*apart, "true"], capture_output=True).returncode != 0:
        pytest.skip("no pid namespace can be made here")
    argv = [*apart, sys.executable, "-m", "otelslo", "doctor", "--state-dir", str(engine.state_dir), "--json"]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert of(json.loads(ended.stdout)["findings"], "workers", "1 alive")


# ── what was dropped ───────────────────────────────────────────────────────────────────────────────────────────────
def test_what_was_dropped(engine: Engine) -> None:
    for name in ("a", "b", "c", "d"):
        record(engine, name, good=3, bad=1)
    engine.fault("user_code", "a test")
    engine.fault("internal", "another")
    engine.runner.tick()
    findings = found(engine)
    assert of(findings, "dropped", "faults")["facts"] == {"internal": 1, "user_code": 1}
    overflow = of(findings, "dropped", "overflow")
    assert (overflow["facts"], "max_groups" in overflow["remedy"]) == ({"slo": "answers", "events": 8}, True)
    assert doctor(engine).exit_code == 0  # all of it is known and counted


def test_losses_that_were_overwritten_before_a_commit(engine: Engine) -> None:
    kept = engine.ring.geometry.log_records
    record(engine, "rank", bad=kept)
    engine.runner.tick()
    losses = of(found(engine), "dropped", "losses were logged")
    assert losses["facts"]["written"] == 2 * kept  # of two objectives
    assert losses["facts"]["kept"] <= kept


# ── files that are not as they should be ───────────────────────────────────────────────────────────────────────────
def test_files_that_are_not_as_they_should_be(engine: Engine) -> None:
    engine.close()
    ring, database = engine.state_dir / "live.ring", engine.state_dir / "otelslo.db"
    whole = ring.read_bytes()
    ring.write_bytes(b"nonsense" + whole[8:])
    assert [area for area, _ in problems(engine)] == ["ring"]
    ring.write_bytes(replace(check_of(whole, ring), boot_id=b"another boot id!").encode() + whole[4096:])
    assert of(found(engine), "ring", "an earlier boot")["state"] == "note"
    ring.unlink()
    (engine.state_dir / "live.ring.bad-20260101T000000Z").write_bytes(b"x" * 2048)
    assert of(found(engine), "directory", "set aside")["facts"]["files"] == ["live.ring.bad-20260101T000000Z"]
    database.write_bytes(database.read_bytes()[:5000])
    assert [area for area, _ in problems(engine)] == ["history"]
    database.write_bytes(b"x" * 10_000)
    assert [area for area, _ in problems(engine)] == ["history"]


def check_of(whole: bytes, path: Path):
    path.write_bytes(whole)
    return check(path)


def test_a_history_of_which_a_part_is_damaged(engine: Engine) -> None:
    record(engine, "rank", good=9)
    engine.close()
    with sqlite3.connect(engine.state_dir / "otelslo.db") as connection:
        connection.execute("UPDATE latest SET cells = zeroblob(length(cells))")
    connection.close()
    assert problems(engine) == []
    ((area, text),) = problems(engine, "--deep")
    assert (area, "checksum" in text) == ("history", True)


def test_wal_mode_and_a_newer_schema(engine: Engine) -> None:
    engine.close()
    connection = sqlite3.connect(engine.state_dir / "otelslo.db")
    connection.execute("PRAGMA journal_mode=WAL")
    assert "WAL" in problems(engine)[0][1]
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("PRAGMA user_version=99")
    connection.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    connection.commit()
    connection.close()
    assert "newer otelslo" in problems(engine)[0][1]


KILLED_WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.executescript("PRAGMA cache_size=1; BEGIN IMMEDIATE")
connection.executemany("INSERT INTO journal (wall_ns, kind, text) VALUES (1, 'test', ?)", [("x" * 3000,)] * 200)
os.kill(os.getpid(), 9)
"""


def test_a_commit_that_was_cut_off_is_left_to_the_next_writer(engine: Engine) -> None:
    engine.close()
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(engine.state_dir / "otelslo.db")])
    journal = engine.state_dir / "otelslo.db-journal"
    before = journal.read_bytes()
    assert before
    assert of(found(engine), "history", "killed in the middle")["state"] == "note"
    assert journal.read_bytes() == before


def test_a_directory_that_others_can_write(engine: Engine) -> None:
    engine.state_dir.chmod(0o777)
    assert [area for area, _ in problems(engine)] == ["directory"]
    engine.state_dir.chmod(0o700)


# ── configuration and exporters ────────────────────────────────────────────────────────────────────────────────────
OBJECTIVES = """slos:
  - {name: answers, target: 90%, match: {kind: call}, group_by: route, max_groups: 2}
  - {name: fast, indicator: latency, threshold: 200ms, target: 50%, window: 1d, match: {kind: call}}
"""


def test_the_configuration(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "slo.yaml"
    file.write_text(OBJECTIVES)
    assert of(found(engine), "configuration", "slo.yaml: 2 objectives")["state"] == "ok"
    file.write_text("slos: [{name: answers, target: 95%}]\n")
    assert of(found(engine), "configuration", "the workers run others")["state"] == "note"
    file.write_text("slos: [{name: answers, target: 195%}]\n")
    assert problems(engine)[0][1].startswith("slo.yaml:1:")
    file.write_text("slos: [{name: answers, good: 'never_to_be_imported:good'}]\n")
    assert of(found(engine), "configuration", "not run here")["state"] == "note"
    monkeypatch.setenv("OTELSLO_CONFIG", "never_to_be_imported:slos")
    assert of(found(engine), "configuration", "not run here")["remedy"] == "otelslo check never_to_be_imported:slos"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("good: app.rules:good", True),
        ("  - when: \"app:rule\"", True),
        ("where: {app: 1}", False),
        ("state_dir: http://x", False),
        ("name: a # see app:x", False),
        ("slos: [{good: 'a.b:c'}]", True),
        ('ops: {webhook: {url: "env:OPS_HOOK", secret: "file:/run/secrets/hook"}}', False),
        ("good: env:good", True),
    ],
)  # fmt: skip
def test_user_code_is_noticed(line: str, wanted: bool, tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(f"{line}\n")
    assert _needs_imports(str(tmp_path / "slo.yaml")) is wanted


def test_endpoints_are_told_without_secrets(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://me:secret@collector:4318/v1?key=secret")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=secret")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    result = doctor(engine, "--json")
    assert "secret" not in result.stdout
    findings = json.loads(result.stdout)["findings"]
    assert of(findings, "exporters", "https://collector:4318/v1")
    assert of(findings, "exporters", "OTEL_SDK_DISABLED")["state"] == "note"
    for url in ("localhost:4317", "http://[bad", "http://h:x/"):
        assert without_secrets(url) == "(not a URL)"
    assert without_secrets("http://[::1]:4318") == "http://[::1]:4318"


def test_the_last_error_of_an_exporter_is_told(engine: Engine) -> None:
    engine.runner.store.append_journal("export", "otlp: 503", engine.clock.wall_ns())
    assert "otlp: 503" in of(found(engine), "exporters", "journal")["text"]


# ── harmless ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_nothing_is_written(engine: Engine) -> None:
    def everything() -> dict[str, tuple[bytes, int]]:
        files = [path for path in engine.state_dir.rglob("*") if path.is_file()]
        return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    record(engine, "rank", good=9, bad=1)
    before = everything()
    doctor(engine, "--deep")
    assert everything() == before
    assert engine.ring.blocks.attached


def test_nothing_heavy_is_imported(engine: Engine) -> None:
    code = (
        "import sys\nfrom otelslo.cli import main\ntry:\n    main(['doctor', '--state-dir', sys.argv[1], '--deep'])\n"
        "except SystemExit:\n    heavy = ('numba', 'llvmlite', 'numpy', 'opentelemetry', 'sqlite_utils', 'starlette',"
        " 'uvicorn')\n    print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    argv = [sys.executable, "-c", code, str(engine.state_dir)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=True, encoding="utf-8")
    assert ended.stderr.strip() == "[]"
    assert "healthy" in ended.stdout


def test_sizes() -> None:
    assert [size(n) for n in (0, 1023, 1024, 487_424, 15 << 20, 3 << 40)] == [
        "0 bytes", "1023 bytes", "1.0 KiB", "476 KiB", "15 MiB", "3.0 TiB",
    ]  # fmt: skip
