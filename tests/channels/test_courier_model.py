"""Any sequence of failures, of the receivers, of the outbox and of couriers themselves: every notice is told at least
once, in order, and never after that was recorded."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from channels.boxes import LOST, REFUSED, Box, Clock, Scene, alert
from otelslo.channels import SendFailed
from otelslo.courier import GIVEN_UP_NS, LONGEST_WAIT_NS, Parcel

CHANNELS = ("ops", "am")
NAMES = ("page-fast", "page-slow")
BUSY = SendFailed("busy", retry_after_s=40.0)
BUG = RuntimeError("a bug")


class Courier(RuleBasedStateMachine):
    @initialize(leaves_out=st.booleans())
    def begin(self, leaves_out: bool) -> None:
        self.box, self.clock = Box(leaves_out), Clock()
        self.posted: list[Parcel] = []
        self.told: dict[int, int] = {}  # how often each arrived, by the parcel's id
        self.dropped: set[int] = set()
        self.doubts: set[int] = set()  # may come twice: its courier died before it was recorded
        self.unrecorded: set[int] = set()
        self.start()

    def start(self) -> None:
        self.scene = Scene(*CHANNELS, box=self.box, clock=self.clock)
        for name, play in self.scene.plays.items():
            play.during = lambda name=name, play=play: self.watch(name, play.tried[-1], play.endings, play.ending)

    def watch(self, name: str, key: str, endings: list, ending: BaseException | None) -> None:
        """What must hold at each attempt."""
        assert self.scene.leads
        waiting = [parcel for parcel in self.box.parcels if parcel.channel == name]
        parcel = next((found for found in waiting if found.key == key), None)
        assert parcel is not None, "it was recorded as needing no further try"
        assert next(found for found in waiting if found.line == parcel.line) is parcel, "it overtook another"
        told = [other.id for other in self.posted if other.id in self.told and other.line == parcel.line]
        assert max(told, default=0) <= parcel.id, "it comes again after a later one"
        ends = endings[0] if endings else ending
        if ends is None:
            assert parcel.id not in self.told or parcel.id in self.doubts, "it came twice for no reason"
            self.told[parcel.id] = self.told.get(parcel.id, 0) + 1
            self.unrecorded.add(parcel.id)
        elif ends is REFUSED or self.clock.wall_ns - parcel.notice.at_wall_ns >= GIVEN_UP_NS:
            self.dropped.add(parcel.id)

    @rule(channel=st.sampled_from(CHANNELS), name=st.sampled_from(NAMES), count=st.integers(1, 3))
    def post(self, channel: str, name: str, count: int) -> None:
        for _ in range(count):
            told = alert(len(self.posted), name, at_wall_ns=self.clock.wall_ns)
            self.posted.append(self.box.post(channel, told))

    @rule(channel=st.sampled_from(CHANNELS), endings=st.lists(st.sampled_from([None, LOST, REFUSED, BUSY, BUG])))
    def play(self, channel: str, endings: list) -> None:
        self.scene.plays[channel].endings = endings

    @rule(channel=st.sampled_from(CHANNELS), ending=st.sampled_from([None, LOST, BUG]))
    def outage(self, channel: str, ending: BaseException | None) -> None:
        self.scene.plays[channel].ending = ending

    @rule(broken=st.sets(st.sampled_from(["due", "sent", "failed"])))
    def break_the_outbox(self, broken: set[str]) -> None:
        self.box.broken = broken

    @rule(leads=st.booleans())
    def lead(self, leads: bool) -> None:
        self.scene.leads = leads

    @rule()
    def turn(self) -> None:
        self.scene.turn()

    @rule(seconds=st.sampled_from([0.1, 1, 5, 60, 400]))
    def go_on(self, seconds: float) -> None:
        self.scene.turns(seconds)

    @rule(seconds=st.sampled_from([-90_000, -100, 50, 90_000]))
    def step_the_wall(self, seconds: int) -> None:
        self.clock.wall_ns += seconds * 10**9

    @rule()
    def kill(self) -> None:
        """Whoever leads next knows only the outbox."""
        self.doubts |= self.unrecorded
        self.start()

    @invariant()
    def nothing_is_lost(self) -> None:
        waiting = {parcel.id for parcel in self.box.parcels}
        self.unrecorded &= waiting
        for parcel in self.posted:
            assert parcel.id in waiting or parcel.id in self.told or parcel.id in self.dropped

    def teardown(self) -> None:
        """All heals; then everything has been told, but what was refused or given up, and the outbox is empty."""
        if not hasattr(self, "box"):
            return
        self.box.broken, self.scene.leads = set(), True
        for play in self.scene.plays.values():
            play.endings, play.ending = [], None
        self.scene.turns(2 * LONGEST_WAIT_NS / 10**9)
        assert self.box.parcels == []
        assert {parcel.id for parcel in self.posted} <= set(self.told) | self.dropped


TestCourier = Courier.TestCase
TestCourier.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
