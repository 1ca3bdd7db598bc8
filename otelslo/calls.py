"""Call sites: what is counted by name, call by call, with a plan at hand for each usual ending.

A `Track` is the site, a `Call` one event of it, in flight from `open` to `close`:

    call = engine.track("rerank").open()
    try: ...
    except BaseException as error: call.close(error); raise
    call.close()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Token
from typing import TYPE_CHECKING, Any, NamedTuple

from otelslo.chunks import usage_of
from otelslo.clock import duration_ns
from otelslo.coldstart import ColdEnd
from otelslo.errors import DefinitionError, nearest, shown
from otelslo.event import EVENT_KINDS, Ending, Event
from otelslo.failure import Cascade, Failure, failure_of
from otelslo.items import plan_for
from otelslo.sizes import LARGEST_PAYLOAD, MOST_ITEMS, is_told, of_each_class, told_sizes
from otelslo.stream import Pace
from otelslo.words import Words, here, leave

if TYPE_CHECKING:
    from otelslo.engine import Engine
    from otelslo.genai.measures import Measure

Header = Callable[[str], str | None]
# begin, end, page and the track's number: one tuple, so that a call ends in the ring in which it was begun.
Place = tuple[Callable[..., int], Callable[..., int], int, int]

_MOST_PLANS = 1000
_MOST_SITES = 4096
_MOST_NEW_ROWS = 20
# How asyncio, trio, gevent and the language itself tell a call that its caller no longer waits.
_CALLER_LEFT = frozenset({"CancelledError", "Cancelled", "GeneratorExit", "GreenletExit", "Timeout"})


class Call(Words):
    """One event of a track, in flight until it is closed. Nothing here raises."""

    token = 0  # what `begin` answered; 0 when not begun, and once closed
    track: Track | None = None
    _place: Place
    _entered: Token[Words] | None = None

    def enter(self) -> Call:
        """Have `otelslo.current()` give this call, in this thread or task, until it is closed."""
        self._entered = here.set(self)
        return self

    def stream(self, is_token: Callable[[Any], bool]) -> Callable[[Any], None] | None:
        """Take it for a stream: what is to be told each item; None if nobody asks for its pace. Never raises."""
        track = self.track
        if track is None or not self.token or not track.paced:
            return None
        if self.pace is None:
            self.spoken, self.pace = True, Pace(self.clock_ns)
        told = self.pace.per_item(is_token)
        return told if track.measure is None else self._with_usage(told)

    def _with_usage(self, told: Callable[[Any], None]) -> Callable[[Any], None]:
        """`told`, and whoever is told hears what a model's last chunk says of its tokens."""

        def handed_over(item: Any) -> None:
            told(item)
            if (found := usage_of(item)) is not None:
                self.usage(input_tokens=found[0], output_tokens=found[1])

        return handed_over

    def close(
        self,
        error: BaseException | None = None,
        *,
        ending: Ending | None = None,
        status: int | None = None,
        header: Header | None = None,
    ) -> None:
        """Count it; again is harmless, from another thread too.

        Args:
            error: what was raised, see `ending_by`.
            ending: how it ended, where the caller knows better.
            status: the HTTP status of a call of kind "http".
            header: gives a request header by its name in lower case, for rules on headers.
        """
        track = self.track
        try:
            entered, self._entered = self._entered, None
            if entered is not None:
                leave(entered)
            token = vars(self).pop("token", 0)  # one step: two threads may close the same call
            if token != 0 and track is not None:
                track.end(self, self._place, token, error, ending, status, header)
        except Exception as e:
            if track is not None:
                track.fault("internal", f"a call could not be closed: {type(e).__name__}: {e}")


class Stream(Call):
    """The call of an async generator. One that its event loop forgets unfinished is closed when it is collected."""

    def __del__(self) -> None:
        self.close(ending=Ending.CLIENT_CANCEL)


class _How(NamedTuple):
    """How a call ended, by the names of an event's facts: what its plan is remembered by."""

    ending: Ending
    status: int | None
    exception: str | None = None
    failure: str | None = None
    cascaded: bool = False
    cold: bool = False


class Track:
    """A call site, made by `Engine.track` or `Engine.call_site`."""

    __slots__ = (
        *(
            "attributes",
            "engine",
            "judged_each",
            "kind",
            "measure",
            "method",
            "nothing",
            "paced",
            "place",
            "plans",
            "route",
        ),
        *("_cascade", "_excuses_cold", "_is_cold", "_loads", "_warm_place"),
    )

    place: Place
    judged_each: bool  # every event is looked at: no plan is remembered
    nothing: int  # the plan of no objective and no histogram
    paced: bool  # an objective or a metric asks for the pace of its streams
    measure: Measure | None  # counts its calls in the gen_ai metrics

    def __init__(
        self, engine: Engine, kind: str, route: str | None, method: str, attributes: Mapping[str, str]
    ) -> None:
        self.engine = engine
        self.kind = kind
        self.route = route
        self.method = method
        self.attributes = attributes
        self.plans: dict[Any, int] = _Plans(self)
        self._cascade: Cascade | None = None
        self._is_cold = True
        self._loads = 0
        self.bind()

    @property
    def index(self) -> int:
        """The track's number in the ring."""
        return self.place[3]

    def bind(self) -> None:
        """Belong to the engine's ring and objectives as they are now."""
        engine = self.engine
        index = engine.track_for(self.kind, self.route, self.method, "")
        self.measure = engine.judge.measures.of(self.kind, self.route, self.method)
        self.look_each()
        self.paced = engine.judge.paces(self.kind, self.route, self.method)
        self.nothing = engine.plan_for(Event(""))
        self.plans.clear()
        mine = [one.slo for one in engine.objectives if one.slo.matches(self.kind, self.route, self.method, "")]
        # Where objectives of one site state different times, the longest holds.
        length_ns = max((slo.option("cascade") or 0 for slo in mine), default=0)
        self._cascade = Cascade(length_ns) if length_ns else None
        self._excuses_cold = any(slo.option("cold_start") == "exclude" for slo in mine)
        self._warm_place = (engine.kernels.begin, engine.kernels.end, engine.page, index)
        self._settle()

    def look_each(self) -> None:
        """Whether every event is looked at, as things are now."""
        self.judged_each = self.engine.dynamic or self.measure is not None

    def _settle(self) -> None:
        begin, end, page, index = self._warm_place
        cold = self._is_cold and self._excuses_cold
        self.place = (
            (begin, ColdEnd(self._plan, self.fault, end, self._loads), page, index) if cold else self._warm_place
        )

    def chill(self) -> None:
        """The model is loaded anew: calls are cold again, until one that begins from now on has returned."""
        self._is_cold = True
        self._loads += 1
        self._settle()

    def warm(self, cold: ColdEnd) -> None:
        """A cold call has returned: those that begin from now on are warm, unless there was another load since."""
        if cold.load == self._loads:
            self._is_cold = False
            while self.place is not self._warm_place:  # another thread may be binding us anew
                self.place = self._warm_place

    def open(self, call: Call | None = None) -> Call:
        """A call that begins now: a new one, or `call`. Never raises: one that cannot be begun is a fault of ours."""
        if call is None:
            call = Call()
        try:
            call.track = self
            call._place = begin, _, page, index = self.place
            if self.engine.clock.manual:
                call.clock_ns = self.engine.clock.ring_ns
            call.token = begin(page, index) or self.begin_again()
        except Exception as e:
            self.fault("internal", f"a call could not be begun: {type(e).__name__}: {e}")
        return call

    def begin_again(self) -> int:
        """The token of a call after a fork, or when our block was taken away: attach. 0: this call is not counted."""
        begin, _, page, index = self.place
        token = begin(page, index) if self.engine.attach() else 0
        if token == 0:
            self.fault("not_attached", "a call was not counted")
        return token

    def end(
        self,
        words: Words,
        place: Place,
        token: int,
        error: BaseException | None = None,
        ending: Ending | None = None,
        status: int | None = None,
        header: Header | None = None,
    ) -> None:
        """Commit the call that `place` and `token` began. Never raises; see `Call.close`."""
        end = place[1]
        try:
            if error is None and ending is None and status is None and not words.spoken and not self.judged_each:
                plan = self.plans[None]
            else:
                cold = end if isinstance(end, ColdEnd) else None
                end = end if cold is None else cold.end
                plan = self._plan(words, token, error, ending, status, header, cold)
        except Exception as e:
            plan = self.nothing
            self.fault("internal", f"a call could not be judged: {type(e).__name__}: {e}")
        try:
            if code := end(place[2], place[3], token, plan):
                self.after(code, header)
        except Exception as e:
            self.fault("internal", f"a call could not be ended: {type(e).__name__}: {e}")

    # ── how it ended ───────────────────────────────────────────────────────────────────────────────────────────────
    def event(self, outcome: str | None, latency_ns: int = 0) -> Event:
        """A complete call with this outcome: "good", "bad", "excluded", a bad reason, or None: nothing was said."""
        verdict = None
        if outcome == "bad":
            verdict = ("bad", "other")
        elif outcome in ("good", "excluded"):
            verdict = (outcome, "good" if outcome == "good" else "other")
        elif outcome is not None:
            verdict = ("bad", outcome)
        return Event(
            self.kind,
            route=self.route,
            method=self.method,
            latency_ns=max(0, latency_ns),
            attributes=self.attributes,
            verdict=verdict,
        )

    def _plan(
        self,
        words: Words,
        token: int,
        error: BaseException | None = None,
        ending: Ending | None = None,
        status: int | None = None,
        header: Header | None = None,
        cold: ColdEnd | None = None,
    ) -> int:
        """The plan of an ending; remembered where nothing but the ending decides."""
        ending = ending_by(error) if ending is None else ending
        if words.is_shed and (
            status in (429, 503) or (status is None and ending in (Ending.COMPLETE, Ending.EXCEPTION))
        ):
            ending = Ending.SHED
        how = _How(ending, status, cold=cold is not None)
        if error is not None and ending is Ending.EXCEPTION:
            how = self._failed(how, error)
        elif cold is not None and ending is Ending.COMPLETE:
            self.warm(cold)
        key = None if self.judged_each else self._key(words, how, header)
        found = None if key is None else self.plans.get(key)
        if found is None:
            event = self._ended(words, token, how, header)
            if self.measure is not None:
                self.measure.count(event, words.used)
            found = plan_for(self.engine, event, token)
            if key is not None and len(self.plans) < _MOST_PLANS:
                self.plans[key] = found
        return found

    def _key(self, words: Words, how: _How, header: Header | None) -> Any:
        """What the plan is remembered by; None: what was said is of this call alone.

        Sizes are told apart by class, as far as objectives do.
        """
        if not words.spoken:
            return how
        items, payload_bytes, judge = words.items, words.payload_bytes, self.engine.judge
        if words.verdict is not None or words.attributes is not None or words.pace is not None or words.is_shed:
            return None
        if header is not None or (items is not None and judge.by_item):
            return None
        if not is_told(items, MOST_ITEMS) or not is_told(payload_bytes, LARGEST_PAYLOAD):
            return None
        return how, judge.slots.of(items, payload_bytes)  # type: ignore[arg-type]  # ints or None

    def _failed(self, how: _How, error: BaseException) -> _How:
        failure: Failure = failure_of(error, self.fault)
        cascaded = self._cascade is not None and self._cascade.takes(failure, self._now_ns())
        return how._replace(exception=type(error).__name__, failure=failure.kind, cascaded=cascaded)

    def _now_ns(self) -> int:
        clock = self.engine.clock
        return clock.ring_ns() if clock.manual else duration_ns()

    def _ended(self, words: Words, token: int, how: _How, header: Header | None) -> Event:
        told: dict[str, Any] = {} if header is None else {"header": header}
        now_ns = self._now_ns()
        if words.pace is not None:
            told["stream"] = words.pace.facts(token, now_ns)
        length = None if header is None or not self.engine.judge.asks_payload else header("content-length")
        if length is not None or words.items is not None or words.payload_bytes is not None:
            told |= told_sizes(words.items, words.payload_bytes, length, self.fault)
        return Event(
            self.kind,
            route=self.route,
            method=self.method,
            latency_ns=max(0, now_ns - token),
            attributes={**self.attributes, **words.attributes} if words.attributes else self.attributes,
            verdict=words.verdict,
            **how._asdict(),
            **told,
        )

    def after(self, code: int, header: Header | None = None) -> None:
        """Off the usual path: a refused end is a fault of ours, a bad event gets its trace id."""
        if code < 0:
            # The block was taken away or the process forked in between: the call is booked as crashed there.
            self.fault("not_attached", "a call's end was not counted; it will be booked as crashed")
        elif header is not None:
            from otelslo.exchange import trace_of  # loads asyncio, which a call without headers does not need

            if trace := trace_of(header("traceparent") or ""):
                self.engine.trace_loss(code, trace)

    def fault(self, reason: str, detail: str) -> None:
        """Count a fault of our own. Never raises."""
        try:
            self.engine.fault(reason, detail)
        except Exception:
            return  # there is nobody left to tell


class _Plans(dict[Any, int]):
    """Plans of one call site by outcome, or by ending; that of an outcome is made when it is missing."""

    def __init__(self, track: Track) -> None:
        super().__init__()
        self._track = track

    def __missing__(self, outcome: str | None) -> int:
        plan = self._track.engine.plan_for(self._track.event(outcome))
        if len(self) < _MOST_PLANS:
            self[outcome] = plan
        return plan


class CallSites:
    """The tracks of one engine by what they are called, bound anew whenever its ring or objectives are others."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tracks: dict[Any, Track] = {}

    def find(self, kind: str, route: str | None, method: str, attributes: Mapping[str, str]) -> Track:
        """See `Engine.call_site`."""
        key = (kind, route, method, *sorted(attributes.items()))
        found = self._tracks.get(key)
        if found is None:
            if kind not in EVENT_KINDS:
                raise DefinitionError("call_site", f"unknown kind {shown(kind)}", nearest(kind, EVENT_KINDS))
            made = found = Track(self._engine, kind, route, method, attributes)
            if len(self._tracks) < _MOST_SITES:  # past that, attributes are the words of some client
                self._prepare(made)
                found = self._tracks.setdefault(key, made)
                if found is made:
                    self._engine.memo(made.plans)
            else:
                made.judged_each = True  # nobody would tell it when to forget its plans
        return found

    def bind(self) -> None:
        """Have every track belong to the ring and the objectives as they are now."""
        for track in list(self._tracks.values()):
            track.bind()
            self._prepare(track)

    def loaded(self, name: str) -> None:
        """See `Engine.loaded`."""
        for track in list(self._tracks.values()):
            if track.kind == "call" and track.route == name:
                track.chill()

    def turn(self) -> bool:
        """See `Judge.turn`; forgets plans, and has tracks remember new ones, or not, as is right from now on."""
        turned = self._engine.judge.turn()
        if turned:
            for track in list(self._tracks.values()):
                track.look_each()
            self._engine.forget_plans()
        return turned

    def _prepare(self, track: Track) -> None:
        """Make what its events need, where waiting is allowed."""
        engine = self._engine
        for objective in engine.objectives:
            if objective.slo.matches(track.kind, track.route, track.method, ""):
                for event in of_each_class(track.event(None), objective.slo.size_classes):
                    objective.row_of(event)
                objective.make_groups(_MOST_NEW_ROWS)
        engine.names.string(track.attributes.get("version", ""))
        if track.route is not None:
            engine.names.make_now(track.kind, track.route, engine.clock.ring_ns())


def ending_by(error: BaseException | None) -> Ending:
    """How a call ended that raised `error`.

    To a function its caller is the client. Cancelled (by a time-out around it, say) or closed early, it was the caller
    who left: excluded before `cancel_after`, or before a latency objective's threshold, bad `abandoned` from then on.
    """
    if error is None:
        return Ending.COMPLETE
    if isinstance(error, Exception):
        return Ending.EXCEPTION
    if isinstance(error, BaseExceptionGroup):
        endings = {ending_by(one) for one in error.exceptions}
        worst = (Ending.EXCEPTION, Ending.SERVER_CANCEL, Ending.CLIENT_CANCEL)
        return next(ending for ending in worst if ending in endings)
    names = {kind.__name__ for kind in type(error).__mro__}
    return Ending.SERVER_CANCEL if names.isdisjoint(_CALLER_LEFT) else Ending.CLIENT_CANCEL
