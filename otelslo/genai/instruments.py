"""The metrics that are counted, with the names, units and bounds that OpenTelemetry's conventions give them.

Pinned here: the conventions of `gen_ai` moved out of the main repository in v1.42.0, the package that has their names
calls them deprecated since, and sets no bounds. The text is that of the last commit before (c9e48b1d1).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

SECONDS, TOKENS = "s", "{token}"
SUM, BEYOND = "sum", "+Inf"
SERVER, CLIENT = "server", "client"
SIDES = (SERVER, CLIENT)
_NS_PER_S = 1_000_000_000

_OPERATION = "0.01 0.02 0.04 0.08 0.16 0.32 0.64 1.28 2.56 5.12 10.24 20.48 40.96 81.92"
_FIRST_TOKEN = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0"
_OUTPUT_TOKEN = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1.0 2.5"
_USAGE = "1 4 16 64 256 1024 4096 16384 65536 262144 1048576 4194304 16777216 67108864"


@dataclass(frozen=True, eq=False)
class Instrument:
    """One histogram. Its values are whole numbers: ns where the unit is seconds, tokens else.

    Args:
        bounds: the inclusive upper bounds of its buckets but the last, in its unit, apart by spaces.
    """

    name: str
    unit: str
    bounds: str
    description: str

    @cached_property
    def explicit_bounds(self) -> tuple[float, ...]:
        """As the conventions write them."""
        return tuple(map(float, self.bounds.split()))

    @cached_property
    def scale(self) -> int:
        """How many of a value's units are one of the metric's."""
        return _NS_PER_S if self.unit == SECONDS else 1

    @cached_property
    def _upper(self) -> tuple[int, ...]:
        return tuple(int(Fraction(bound) * self.scale) for bound in self.bounds.split())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What its counters are called: each bucket by its bound, and the sum of all values."""
        return (*self.bounds.split(), BEYOND, SUM)

    def bucket_of(self, value: int) -> int:
        """The bucket of a value: the first whose bound is not below it."""
        return bisect_left(self._upper, value)


REQUEST_DURATION = Instrument(
    "gen_ai.server.request.duration", SECONDS, _OPERATION, "Generative AI server request duration."
)
TIME_TO_FIRST_TOKEN = Instrument(
    "gen_ai.server.time_to_first_token",
    SECONDS,
    _FIRST_TOKEN,
    "Time to generate the first token of successful responses.",
)
TIME_PER_OUTPUT_TOKEN = Instrument(
    "gen_ai.server.time_per_output_token",
    SECONDS,
    _OUTPUT_TOKEN,
    "Time per output token after the first one of successful responses.",
)
OPERATION_DURATION = Instrument(
    "gen_ai.client.operation.duration", SECONDS, _OPERATION, "Generative AI operation duration."
)
TIME_TO_FIRST_CHUNK = Instrument(
    "gen_ai.client.operation.time_to_first_chunk",
    SECONDS,
    _OPERATION,
    "Time to the first chunk of a streamed response.",
)
TIME_PER_OUTPUT_CHUNK = Instrument(
    "gen_ai.client.operation.time_per_output_chunk",
    SECONDS,
    _OPERATION,
    "Time from one chunk of a streamed response to the next.",
)
TOKEN_USAGE = Instrument("gen_ai.client.token.usage", TOKENS, _USAGE, "Input and output tokens used.")

INSTRUMENTS = (
    *(REQUEST_DURATION, TIME_TO_FIRST_TOKEN, TIME_PER_OUTPUT_TOKEN),
    *(OPERATION_DURATION, TIME_TO_FIRST_CHUNK, TIME_PER_OUTPUT_CHUNK, TOKEN_USAGE),
)
BY_NAME = {instrument.name: instrument for instrument in INSTRUMENTS}
