"""What kind of failure an exception is: real exceptions where the library is here, else classes of the same names."""

from __future__ import annotations

import concurrent.futures
import errno
import socket
import subprocess
from concurrent.futures.process import BrokenProcessPool

import pytest

from otelslo import failure
from otelslo.failure import Cascade, Failure, classify_failures, failure_class, failure_of


def named(module, *names):
    """An exception class of that name and package, the last of `names` its oldest ancestor, a RuntimeError or so."""
    *own, root = names
    made = {"RuntimeError": RuntimeError, "Exception": Exception, "ValueError": ValueError}[root]
    for name in reversed(own):
        made = type(name, (made,), {"__module__": module})
    return made


TORCH_OOM = named("torch", "OutOfMemoryError", "RuntimeError")
ACCELERATOR = named("torch", "AcceleratorError", "RuntimeError")
ENGINE_DEAD = named("vllm.v1.engine.exceptions", "EngineDeadError", "Exception")
XLA = named("jaxlib.xla_extension", "XlaRuntimeError", "RuntimeError")
ONNX = named("onnxruntime.capi.onnxruntime_pybind11_state", "RuntimeException", "Exception")
RAY = named("ray.exceptions", "RayTaskError", "RayError", "Exception")
CUDA_OOM = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB"
ASSERTED = "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously reported"


def with_code(code):
    error = ACCELERATOR("CUDA error: something")
    error.error_code = code
    return error


KINDS = [
    (MemoryError(), "oom"),
    (TORCH_OOM(CUDA_OOM), "oom"),
    (RuntimeError(CUDA_OOM), "oom"),
    (RuntimeError("CUDA error: out of memory"), "oom"),
    (RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"), "oom"),
    (RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB)"), "oom"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear"), "oom"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "oom"),
    (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "oom"),
    (XLA("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7406166528 bytes."), "oom"),
    (ONNX("bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 458549"), "oom"),
    (named("tensorflow.python.framework.errors_impl", "ResourceExhaustedError", "Exception")("OOM"), "oom"),
    (named("cloud", "ResourceExhaustedError", "Exception")("quota"), None),
    (named("cuda.core", "CUDAOutOfMemoryError", "Exception")(), "oom"),
    (RAY("ray::f()\ntorch.OutOfMemoryError: CUDA out of memory."), "oom"),
    (Exception(f"worker failed: {CUDA_OOM}"), "oom"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "oom"),
    (with_code(2), "oom"),
    (with_code(710), "framework_crash"),
    (ACCELERATOR(ASSERTED), "framework_crash"),
    (RuntimeError(ASSERTED), "framework_crash"),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), "framework_crash"),
    (ENGINE_DEAD("EngineCore encountered an issue."), "framework_crash"),
    (named("vllm.engine.async_llm_engine", "AsyncEngineDeadError", "RuntimeError")(), "framework_crash"),
    (TimeoutError(), "timeout"),
    (subprocess.TimeoutExpired("x", 1), "timeout"),
    (named("openai", "APITimeoutError", "APIConnectionError", "Exception")(), "timeout"),
    (ConnectionResetError(), "infrastructure"),
    (BrokenPipeError(), "infrastructure"),
    (socket.gaierror(-2, "Name or service not known"), "infrastructure"),
    (OSError(errno.ENOSPC, "No space left on device"), "infrastructure"),
    (OSError(errno.EHOSTUNREACH, "No route to host"), "infrastructure"),
    (BrokenProcessPool("A process in the process pool was terminated abruptly"), "infrastructure"),
    (concurrent.futures.CancelledError(), "cancelled"),
    (FileNotFoundError(errno.ENOENT, "no such file"), None),
    (ValueError(CUDA_OOM), None),
    (KeyError("CUDA error"), None),
    (RuntimeError("out of memory of what was said"), None),
    (RuntimeError(7), None),
    (RuntimeError(), None),
]


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=lambda one: repr(one)[:60])
def test_by_type_number_and_message(error, kind):
    assert failure_class(error) == kind


def of(module, name):
    """The real class, where its library is installed."""
    return getattr(pytest.importorskip(module, reason=f"{module} is not installed"), name)


@pytest.mark.parametrize(
    ("module", "name", "arguments", "kind"),
    [
        ("requests", "ConnectTimeout", (), "timeout"),
        ("requests", "ReadTimeout", (), "timeout"),
        ("requests", "ConnectionError", (), "infrastructure"),
        ("httpx", "ReadTimeout", ("x",), "timeout"),
        ("httpx", "ConnectError", ("x",), "infrastructure"),
        ("urllib3.exceptions", "ProtocolError", (), "infrastructure"),
        ("celery.exceptions", "SoftTimeLimitExceeded", (), "timeout"),
        ("billiard.exceptions", "WorkerLostError", (), "infrastructure"),
        ("fastapi.exceptions", "RequestValidationError", ([],), "client_error"),
        ("starlette.exceptions", "HTTPException", (404,), "client_error"),
        ("starlette.exceptions", "HTTPException", (500,), None),
        ("starlette.exceptions", "HTTPException", (504,), "timeout"),
        ("starlette.requests", "ClientDisconnect", (), "cancelled"),
        ("werkzeug.exceptions", "NotFound", (), "client_error"),
        ("django.core.exceptions", "SuspiciousOperation", (), "client_error"),
    ],
)
def test_real_exceptions(module, name, arguments, kind):
    assert failure_class(of(module, name)(*arguments)) == kind


def test_a_validation_error_may_be_the_models_output():
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")
    with pytest.raises(pydantic.ValidationError) as raised:
        pydantic.TypeAdapter(int).validate_python("CUDA out of memory")
    assert failure_class(raised.value) is None


def test_numpy_tells_of_the_host():
    numpy = pytest.importorskip("numpy", reason="numpy is not installed")
    with pytest.raises(MemoryError) as raised:
        numpy.empty(1 << 58, dtype=numpy.int64)
    assert failure_class(raised.value) == "oom"


def caused(outer, cause):
    outer.__cause__ = cause
    return outer


def met(outer, context, *, suppressed=False):
    outer.__context__, outer.__suppress_context__ = context, suppressed
    return outer


def ring():
    one, two = RuntimeError("one"), MemoryError()
    one.__cause__, two.__cause__ = two, one
    return one


def long_chain():
    error = MemoryError()
    for _ in range(5000):
        error = caused(ValueError(), error)
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (caused(ValueError("bad"), TORCH_OOM(CUDA_OOM)), "oom"),
        (caused(ENGINE_DEAD(), TORCH_OOM(CUDA_OOM)), "oom"),
        (met(KeyError(), ConnectionResetError()), "infrastructure"),
        (met(KeyError(), ConnectionResetError(), suppressed=True), None),
        (met(TimeoutError(), concurrent.futures.CancelledError()), "timeout"),
        (met(KeyError(), concurrent.futures.CancelledError()), None),
        (caused(RuntimeError("bug"), named("fastapi", "RequestValidationError", "ValueError")()), None),
        (ExceptionGroup("", [ValueError(), MemoryError(), TimeoutError()]), "oom"),
        (ExceptionGroup("", [ValueError(), concurrent.futures.CancelledError()]), None),
        (ExceptionGroup("", [ExceptionGroup("", [concurrent.futures.CancelledError()])]), "cancelled"),
        (ring(), "oom"),
        (long_chain(), None),
    ],
    ids=range(12),
)
def test_along_the_chain(error, kind):
    """The worst counts; what excuses, such as a client's error, excuses only what it is itself."""
    assert failure_class(error) == kind


def test_an_exception_of_hostile_code_is_not_told_apart():
    class Hostile(RuntimeError):
        @property
        def args(self):
            raise KeyError("args")

    assert failure_class(Hostile()) is None


@pytest.fixture
def predicates(monkeypatch):
    monkeypatch.setattr(failure, "_predicates", [])


@pytest.mark.usefixtures("predicates")
def test_predicates_come_first_and_the_last_added_first_of_all():
    @classify_failures
    def ours(error):
        return "infrastructure" if isinstance(error, MemoryError) else None

    assert failure_class(MemoryError()) == "infrastructure"
    assert failure_class(TimeoutError()) == "timeout"
    classify_failures(lambda error: "framework_crash")
    assert failure_of(MemoryError()) == Failure("framework_crash", True)


@pytest.mark.usefixtures("predicates")
@pytest.mark.parametrize("answer", ["nonsense", 7, [], KeyError("k")])
def test_a_wrong_predicate_is_a_fault_of_the_users(answer):
    @classify_failures
    def wrong(error):
        if isinstance(answer, Exception):
            raise answer
        return answer

    faults = []
    assert failure_of(MemoryError(), lambda *fault: faults.append(fault)).kind == "oom"
    assert [reason for reason, _ in faults] == ["user_code"]
    assert "wrong" in faults[0][1]


OOM, CRASH, DOWN, OTHER = Failure("oom"), Failure("framework_crash", True), Failure("oom", True), Failure(None)


@pytest.mark.parametrize(
    ("failures", "taken"),
    [
        ([(0, OOM), (1, OTHER)], [False, False]),
        ([(0, CRASH), (1, CRASH)], [False, False]),
        ([(0, OOM), (1, CRASH), (2, OTHER), (60, OTHER), (61, OTHER)], [False, True, True, True, False]),
        ([(0, OOM), (61, CRASH), (62, OTHER)], [False, False, False]),
        ([(0, DOWN), (1, DOWN), (2, OTHER)], [False, True, True]),
        ([(0, OOM), (1, CRASH), (2, Failure("client_error")), (3, OTHER)], [False, True, False, True]),
        ([(0, DOWN), (30, OOM), (31, OTHER), (32, CRASH)], [False, False, False, True]),
    ],
    ids=range(7),
)
def test_what_follows_from_an_oom(failures, taken):
    """In steps of a nanosecond, of sixty: the bound belongs to it."""
    cascade = Cascade(60)
    assert [cascade.takes(one, at_ns) for at_ns, one in failures] == taken
