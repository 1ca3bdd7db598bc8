"""What kind of failure an exception is: out of memory, a framework's crash, a time-out, infrastructure, the client's.

Told by the names of types (with those they inherit from), by errno, by the message of what frameworks raise, and along
`__cause__` and `__context__`; so no framework is imported, and only text that a framework wrote is read.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from otelslo.errors import shown
from otelslo.event import FAILURES

Predicate = Callable[[BaseException], str | None]
Fault = Callable[[str, str], None]
P = TypeVar("P", bound=Predicate)

_MOST_LINKS = 64  # of a chain or group of exceptions, which may also be a ring
_LONGEST_MESSAGE = 4000
# They excuse only the exception that is one itself: a bug met while a client's error is handled is a bug.
_EXCUSES = ("client_error", "cancelled")

_NAMES = {
    name: kind
    for kind, names in {
        "oom": "MemoryError OutOfMemoryError CUDAOutOfMemoryError CudaOutOfMemoryError",
        "framework_crash": "AcceleratorError EngineDeadError AsyncEngineDeadError MQEngineDeadError CUDARuntimeError "
        "CUDADriverError CudaAPIError CUDAError",
        "timeout": "TimeoutError Timeout TimeoutException TimeoutExpired ConnectTimeout ReadTimeout GetTimeoutError "
        "ConnectTimeoutError ReadTimeoutError ServerTimeoutError APITimeoutError SoftTimeLimitExceeded "
        "TimeLimitExceeded DeadlineExceeded",
        "infrastructure": "ConnectionError ConnectError NetworkError RemoteProtocolError APIConnectionError "
        "ClientConnectionError NewConnectionError EndpointConnectionError gaierror herror SSLError IncompleteReadError "
        "BrokenExecutor WorkerLostError ActorDiedError RayActorError WorkerCrashedError NodeDiedError "
        "ServiceUnavailable",
        "client_error": "RequestValidationError WebSocketRequestValidationError VLLMValidationError",
        "cancelled": "CancelledError Cancelled ClientDisconnect ClientDisconnected TaskCancelledError",
    }.items()
    for name in names.split()
}
# Names that other libraries use for something else, by the package that means this.
_NAMES_OF = {
    ("tensorflow", "ResourceExhaustedError"): "oom",
    ("tensorflow", "DeadlineExceededError"): "timeout",
    ("urllib3", "ProtocolError"): "infrastructure",
    ("django", "BadRequest"): "client_error",
    ("django", "SuspiciousOperation"): "client_error",
}
_FRAMEWORKS = frozenset(
    (
        *("torch", "torch_npu", "torch_xla", "jax", "jaxlib", "tensorflow", "onnxruntime", "openvino", "ctranslate2"),
        *("vllm", "sglang", "ray", "tensorrt", "tensorrt_llm", "tritonclient", "triton", "llama_cpp", "mlx", "paddle"),
        *("cupy", "cupy_backends", "cuda", "numba"),
    )
)
_OOM_TEXTS = (
    *("defaultcpuallocator: can't allocate memory", "defaultcpuallocator: not enough memory", "oom when allocating"),
    *("cudnn_status_not_supported", "cublas_status_alloc_failed", "cuda_error_out_of_memory", "outofmemoryerror"),
    *("cudaerrormemoryallocation", "failed to allocate memory for requested buffer", "std::bad_alloc"),
    *("resource_exhausted: out of memory", "resource exhausted: out of memory", "resource_exhausted: failed to alloc"),
)
_DEVICES = ("cuda", "hip", "mps", "xpu", "npu", "gpu", "hbm", "vmem", "tpu", "device")
_CRASH_TEXTS = (
    *("cuda error", "cuda failure", "cuda driver error", "cudnn error", "cudnn_status_", "cublas_status_", "hip error"),
    *("device-side assert", "illegal memory access", "illegal instruction", "unspecified launch failure"),
    *("misaligned address", "nccl error", "enginecore encountered an issue", "enginedeaderror"),
)
_CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
_ERRNOS = {errno.ENOMEM: "oom"} | dict.fromkeys(
    (
        *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.ENOBUFS),
    ),
    "infrastructure",
)
_HTTP_ERRORS = frozenset({"HTTPException", "APIException"})  # Starlette, Werkzeug, aiohttp, Django REST framework
_GRPC = {"DEADLINE_EXCEEDED": "timeout", "UNAVAILABLE": "infrastructure", "CANCELLED": "cancelled"}

_predicates: list[Predicate] = []


class Failure(NamedTuple):
    """`kind` is one of FAILURES, None if it is not told apart; `crashed`: a framework's crash is in the chain."""

    kind: str | None
    crashed: bool = False


def classify_failures(predicate: P) -> P:
    """Have `predicate(error)` say what kind of failure an exception is, in this process; also as a decorator.

    It answers "oom", "framework_crash", "timeout", "infrastructure", "client_error", "cancelled", or None for what it
    does not know. The last one added is asked first, all of them before otelslo's own table. One that raises, or
    answers with anything else, is counted as a fault `user_code` and hurts no call.
    """
    _predicates.append(predicate)
    return predicate


def failure_class(error: BaseException) -> str | None:
    """The kind of failure that `error` is, one of FAILURES; None if it is not told apart. Never raises."""
    return failure_of(error).kind


def failure_of(error: BaseException, fault: Fault | None = None) -> Failure:
    """`failure_class`, and whether a framework crashed in it. `fault` counts what predicates do wrong. Never raises."""
    for predicate in reversed(_predicates):
        kind = _asked(predicate, error, fault)
        if kind is not None:
            return Failure(kind, kind == "framework_crash")
    try:
        found: set[str] = set()
        kind = _along(error, set(), found)
        return Failure(kind, "framework_crash" in found)
    except Exception:  # an exception's attributes may be any code
        return Failure(None)


def kind_by_name(name: str) -> str | None:
    """The kind of failure that the name of a type alone tells, for a failure that is over."""
    return _NAMES.get(name)


def _asked(predicate: Predicate, error: BaseException, fault: Fault | None) -> str | None:
    try:
        kind = predicate(error)
        if kind is None or kind in FAILURES:
            return kind
        wrong = f"answered {shown(kind)}, which is none of {', '.join(FAILURES)}"
    except Exception as e:
        wrong = f"raised {type(e).__name__}: {e}"
    if fault is not None:
        fault("user_code", f"classify_failures: {getattr(predicate, '__qualname__', 'a predicate')} {wrong}")
    return None


def _along(error: BaseException, seen: set[int], found: set[str]) -> str | None:
    """The worst of the exception and what led to it, as a traceback would print them."""
    if id(error) in seen or len(seen) >= _MOST_LINKS:
        return None
    seen.add(id(error))
    if isinstance(error, BaseExceptionGroup):
        own = _of_group([_along(one, seen, found) for one in error.exceptions])
    else:
        own = _own(error)
    if own is not None:
        found.add(own)
    follow = error.__cause__
    if follow is None and not error.__suppress_context__:
        follow = error.__context__
    led = None if follow is None else _along(follow, seen, found)
    return _worst(own, None if led in _EXCUSES else led)


def _of_group(kinds: list[str | None]) -> str | None:
    worst = _worst(*kinds)
    return None if worst in _EXCUSES and None in kinds else worst


def _worst(*kinds: str | None) -> str | None:
    return min((kind for kind in kinds if kind is not None), key=FAILURES.index, default=None)


def _own(error: BaseException) -> str | None:
    """The kind of one exception, without what led to it."""
    ancestry = type(error).__mro__
    kind = None
    for one in ancestry:
        kind = _NAMES.get(one.__name__) or _NAMES_OF.get((_package(one), one.__name__))
        if kind is not None:
            break
    if kind not in (None, "framework_crash", "infrastructure"):
        return kind
    if _speaks_for_a_framework(ancestry):
        kind = _worst(kind, _by_text(error))
    if kind == "framework_crash" and getattr(error, "error_code", None) == _CUDA_OUT_OF_MEMORY:
        return "oom"
    return kind or _by_number(error, ancestry)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _speaks_for_a_framework(ancestry: tuple[type, ...]) -> bool:
    """Whether its message may be a framework's. A ValueError's is not read: it tends to quote what a client sent."""
    plain = ancestry[0] is Exception or any(one.__name__ in ("RuntimeError", "InternalError") for one in ancestry)
    return plain or any(_package(one) in _FRAMEWORKS for one in ancestry)


def _by_text(error: BaseException) -> str | None:
    text = " ".join(part[:_LONGEST_MESSAGE] for part in error.args if isinstance(part, str)).lower()
    if not text:
        return None
    if any(sign in text for sign in _OOM_TEXTS):
        return "oom"
    if "out of memory" in text and any(device in text for device in _DEVICES):
        return "oom"
    return "framework_crash" if any(sign in text for sign in _CRASH_TEXTS) else None


def _by_number(error: BaseException, ancestry: tuple[type, ...]) -> str | None:
    """By errno, by the HTTP status that an exception stands for, or by gRPC's code."""
    if isinstance(error, OSError):
        return _ERRNOS.get(error.errno) if error.errno is not None else None
    names = {one.__name__ for one in ancestry}
    if names & _HTTP_ERRORS:
        told = (getattr(error, name, None) for name in ("status_code", "code", "status"))
        status = next((one for one in told if isinstance(one, int)), 0)
        return "client_error" if 400 <= status <= 499 else "timeout" if status == 504 else None
    if "RpcError" in names and any(_package(one) == "grpc" for one in ancestry):
        code = getattr(error, "code", None)
        return _GRPC.get(getattr(code() if callable(code) else code, "name", ""))
    return None


class Cascade:
    """The failures of one call site that follow from an OOM which took its engine down, for a stated time.

    An engine is down once a framework has crashed within `length_ns` after an OOM, or in the same exception. From then
    until `length_ns` after that OOM every failure is of the cascade, but a client's own and what was cancelled.
    """

    __slots__ = ("_down", "_length_ns", "_oom_ns")

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        self._oom_ns: int | None = None
        self._down = False

    def takes(self, failure: Failure, now_ns: int) -> bool:
        """Whether this failure, ending at `now_ns`, is one that follows; remembers what later ones follow from."""
        is_within = self._oom_ns is not None and now_ns - self._oom_ns <= self._length_ns
        if failure.kind == "oom" and not (failure.crashed and self._down and is_within):
            self._oom_ns, self._down = now_ns, failure.crashed
            return False
        if not is_within:
            return False
        self._down = self._down or failure.crashed
        return self._down and failure.kind not in _EXCUSES
