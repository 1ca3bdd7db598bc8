"""What is read of control groups: made-up folders in the kernel's own formats, and this machine where it has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelslo import cgroup

EVENTS = "low 0\nhigh 0\nmax 812\noom 3\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


@pytest.fixture
def made_up(tmp_path):
    """`made_up(own, {"path/of/file": text})`: what /proc/self/cgroup says, and a folder like /sys/fs/cgroup."""

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            path = tmp_path / "mount" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / "own", tmp_path / "mount"

    return make


V2 = "0::/system.slice/shop.service\n"
V1 = "12:cpuset:/\n4:memory:/docker/0123\n1:name=systemd:/docker/0123\n0::/\n"


def test_version_2_has_the_own_group_and_those_around_it(made_up):
    files = {
        "system.slice/shop.service/memory.max": "2147483648\n",
        "system.slice/shop.service/memory.events": EVENTS.format(4),
        "system.slice/memory.max": "max\n",
        "system.slice/memory.events": EVENTS.format(9),
    }
    where = made_up(V2, files)
    assert (cgroup.memory_limit(*where), cgroup.OomKills(*where)()) == (2 << 30, 4)


def test_the_smallest_limit_holds(made_up):
    files = {"system.slice/shop.service/memory.max": "2147483648\n", "system.slice/memory.max": "1073741824\n"}
    assert cgroup.memory_limit(*made_up(V2, files)) == 1 << 30


def test_in_a_container_the_own_group_is_at_the_top(made_up):
    """The path is the host's, or is told as the root's."""
    files = {"memory.max": "1000000\n", "memory.events": EVENTS.format(2)}
    for own in (V2, "0::/\n", "0::/../other\n"):
        where = made_up(own, files)
        assert (cgroup.memory_limit(*where), cgroup.OomKills(*where)()) == (1_000_000, 2)


def test_version_1(made_up):
    files = {
        "memory/docker/0123/memory.limit_in_bytes": "536870912\n",
        "memory/docker/0123/memory.oom_control": CONTROL.format(1),
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/memory.oom_control": CONTROL.format(7),
    }
    where = made_up(V1, files)
    assert (cgroup.memory_limit(*where), cgroup.OomKills(*where)()) == (512 << 20, 1)


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("", {}),
        (V2, {}),
        (V2, {"memory.max": "max\n", "memory.events": "low 0\n"}),
        (V2, {"memory.max": "much\n", "memory.events": "oom_kill many\n"}),
        ("nonsense\n", {}),
        ("0::/x\n", {"x/memory.max/folder": ""}),
    ],
)
def test_what_cannot_be_read_is_not_known(made_up, own, files):
    where = made_up(own, files)
    assert (cgroup.memory_limit(*where), cgroup.OomKills(*where)()) == (None, None)


def test_where_there_are_none(tmp_path):
    where = (tmp_path / "own", tmp_path / "mount")
    assert (cgroup.memory_limit(*where), cgroup.OomKills(*where)()) == (None, None)


@pytest.mark.skipif(not cgroup.OWN.exists(), reason="this system has no control groups")
def test_this_machine():
    """Whatever it says is a number that can be meant."""
    limit, kills = cgroup.memory_limit(), cgroup.OomKills()()
    assert limit is None or limit > 1 << 20
    assert kills is None or kills >= 0
    assert Path("/proc/self/cgroup").read_text()
