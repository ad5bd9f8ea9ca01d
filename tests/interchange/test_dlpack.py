"""DLPack both ways, both protocols, with a producer and a consumer in plain ctypes and with NumPy."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import corten as ct
from corten import _core
from dlpack_fake import Consumer, Legacy, Producer, Versioned, is_named
from harness import bits

DTYPES = [name for name in ct.__array_namespace_info__().dtypes() if name != "bfloat16"]  # which NumPy lacks
READ_ONLY, IS_COPIED = 1, 2
NEW = (1, 0)


def array_of(name: str) -> np.ndarray:
    return np.array([[0, 1, 1], [1, 0, 2]]).astype(name)


VIEWS = {
    "dense": lambda t: t,
    "transposed": lambda t: t.T,
    "stepped": lambda t: t[:, ::2],
    "one row": lambda t: t[1],
    "broadcast": lambda t: ct.broadcast_to(t[0], (4, 3)) if isinstance(t, ct.Tensor) else np.broadcast_to(t[0], (4, 3)),
    "no axes": lambda t: t[0, 1, ...],
    "no elements": lambda t: t[:0],
    "backwards": lambda t: t[::-1],
    "backwards and stepped": lambda t: t[:, ::-2],
}


# -- out


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("version", [None, NEW])
def test_every_dtype_goes_out(name: str, version: tuple[int, int] | None) -> None:
    consumer = Consumer(ct.tensor(array_of(name)).__dlpack__(max_version=version))
    np.testing.assert_array_equal(consumer.array(), array_of(name), strict=True)
    consumer.give_back()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("version", [None, NEW])
def test_views_go_out(view: str, version: tuple[int, int] | None) -> None:
    t = VIEWS[view](ct.tensor(array_of("float32")))
    consumer = Consumer(t.__dlpack__(max_version=version))
    np.testing.assert_array_equal(consumer.array(), VIEWS[view](array_of("float32")))
    consumer.give_back()


def test_new_consumers_share_and_are_told_not_to_write() -> None:
    t = ct.tensor(array_of("float32"))
    first, second = (Consumer(x.__dlpack__(max_version=(1, 3))) for x in (t, t.T))
    assert first.kind is Versioned
    assert (first.managed.major, first.managed.minor) == NEW
    assert first.managed.flags == second.managed.flags == READ_ONLY
    assert first.address == second.address == t.numpy().ctypes.data
    assert second.strides == (1, 3)
    for c in (first, second):
        c.give_back()


def test_old_consumers_get_a_copy_that_they_may_write() -> None:
    """The old struct cannot say that memory is read-only."""
    t = ct.tensor([1.0, 2.0])
    for capsule in (t.__dlpack__(), t.__dlpack__(max_version=(0, 8)), t.__dlpack__(copy=True)):
        consumer = Consumer(capsule)
        assert consumer.kind is Legacy
        consumer.array()[:] = 7
        assert t.tolist() == [1, 2]
        consumer.give_back()
    with pytest.raises(BufferError, match="max_version"):
        t.__dlpack__(copy=False)


def test_copies_are_made_on_request_and_marked() -> None:
    t = ct.tensor([1.0, 2.0])
    consumer = Consumer(t.__dlpack__(max_version=NEW, copy=True))
    assert consumer.managed.flags == IS_COPIED
    consumer.array()[:] = 7
    assert t.tolist() == [1, 2]
    consumer.give_back()


def test_negative_strides_are_copied_unless_sharing_is_asked_for() -> None:
    t = ct.tensor([1.0, 2.0, 3.0])[::-1]
    copied, shared = (Consumer(t.__dlpack__(max_version=NEW, copy=c)) for c in (None, False))
    assert copied.strides == (1,)
    assert copied.managed.flags == IS_COPIED
    assert shared.strides == (-1,)
    assert shared.managed.flags == READ_ONLY
    for c in (copied, shared):
        assert c.array().tolist() == [3, 2, 1]
        c.give_back()


def test_what_is_lent_keeps_its_values() -> None:
    """Copy-on-write: neither a write to the tensor nor its end changes what the consumer sees."""
    t = ct.zeros(1000)
    consumer = Consumer(t.__dlpack__(max_version=NEW))
    t[3] = 5.0
    assert t[3].item() == 5
    del t
    gc.collect()
    churn = [ct.ones(1000) for _ in range(20)]
    assert not consumer.array().any()
    assert len(churn) == 20
    consumer.give_back()


def test_unconsumed_capsules_and_given_back_ones_free_the_memory() -> None:
    owner = np.zeros(1000)
    gone = weakref.ref(owner)
    t = ct.from_numpy(owner)  # the array lives as long as someone holds the tensor's memory
    del owner
    unconsumed = t.__dlpack__(max_version=NEW)
    consumer = Consumer(t.__dlpack__(max_version=NEW))
    del t
    assert gone() is not None
    del unconsumed
    assert gone() is not None
    consumer.give_back()  # without the interpreter lock, so that the array waits for the next call that holds it
    ct.ones(1)
    assert gone() is None


def test_giving_back_needs_no_lock_and_no_particular_thread() -> None:
    consumers = [Consumer(ct.ones(100).__dlpack__(max_version=NEW)) for _ in range(50)]
    threads = [threading.Thread(target=c.give_back) for c in consumers]  # ctypes lets go of the lock for the call
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ct.ones(100).sum().item() == 100


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stream": 0}, "streams"),
        ({"stream": "x"}, "streams"),
        ({"dl_device": (2, 0)}, "device type 2"),
    ],
)
def test_requests_that_cannot_be_met(options: dict, words: str) -> None:
    with pytest.raises(BufferError, match=words):
        ct.ones(2).__dlpack__(**options)


def test_requests_that_change_nothing() -> None:
    t = ct.ones(2)
    assert t.__dlpack_device__() == (1, 0)
    assert ct.ones(2).to("reference").__dlpack_device__() == (1, 0)
    for options in ({"stream": None}, {"stream": -1}, {"dl_device": (1, 0)}, {"dl_device": t.__dlpack_device__()}):
        assert is_named(t.__dlpack__(max_version=NEW, **options), b"dltensor_versioned")
    with pytest.raises(TypeError):
        t.__dlpack__(None)  # type: ignore[misc]  # keywords only


def test_gradients_do_not_leave_silently() -> None:
    w = ct.ones(2, requires_grad=True)
    for t in (w, w * 2):
        with pytest.raises(BufferError, match=r"x\.detach\(\)"):
            t.__dlpack__(max_version=NEW)
        assert np.from_dlpack(t.detach()).shape == (2,)


# -- in


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_in(name: str, legacy: bool) -> None:
    producer = Producer(array_of(name), legacy=legacy)
    t = ct.from_dlpack(producer)
    assert t.dtype.name == name
    assert bits(t) == bits(array_of(name))
    producer.array[0, 0] = 1
    shares = name != "bool"  # a bool's byte may hold anything, so it is checked while it is copied
    assert t[0, 0].item() == (1 if shares else 0)
    assert producer.given_back == (0 if shares else 1)
    del t
    assert producer.given_back == 1


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("copy", [None, True, False])
@pytest.mark.parametrize("view", VIEWS)
def test_views_come_in(view: str, copy: bool | None, legacy: bool) -> None:
    whole = np.arange(6.0).reshape(2, 3)
    producer = Producer(np.asarray(VIEWS[view](whole)), legacy=legacy)
    t = ct.from_dlpack(producer, copy=copy)
    want = np.array(VIEWS[view](whole))
    np.testing.assert_array_equal(t.numpy(), want, strict=True)
    np.testing.assert_array_equal((t + 1).numpy(), want + 1)
    np.testing.assert_array_equal(t.sum().numpy(), want.sum())
    whole[:] = 9
    if want.size:
        assert (t == 9).all().item() is (copy is not True)
    assert producer.given_back == (1 if copy else 0)
    del t
    gc.collect()
    assert producer.given_back == 1


@pytest.mark.parametrize("legacy", [False, True])
def test_no_strides_mean_c_order_and_an_offset_counts(legacy: bool) -> None:
    a = np.arange(24.0)
    producer = Producer(a, legacy=legacy, shape=(2, 3, 2), strides=None, byte_offset=8 * 5)
    np.testing.assert_array_equal(ct.from_dlpack(producer).numpy(), np.arange(5.0, 17.0).reshape(2, 3, 2))


def test_the_strides_of_single_elements_mean_nothing() -> None:
    producer = Producer(np.arange(3.0), shape=(1, 3, 1), strides=(2**62, 1, -(2**63)))
    assert ct.from_dlpack(producer).tolist() == [[[0], [1], [2]]]
    producer = Producer(np.arange(3.0), shape=(2**40, 0, 2**40), strides=(2**62, 2**62, 2**62), data=None)
    assert ct.from_dlpack(producer).shape == (2**40, 0, 2**40)


def test_misaligned_memory_is_copied() -> None:
    raw = np.zeros(8 * 3 + 1, np.uint8)
    raw[1:].view(np.float64)[:] = [1, 2, 3]
    producer = Producer(raw[1:].view(np.float64))
    assert ct.from_dlpack(producer).tolist() == [1, 2, 3]
    assert producer.given_back == 1
    with pytest.raises(BufferError, match="copy=False"):
        ct.from_dlpack(producer, copy=False)
    assert producer.given_back == 2


def test_bytes_of_bools_become_zero_and_one() -> None:
    producer = Producer(np.array([0, 1, 2, 255], np.uint8), code=6)
    t = ct.from_dlpack(producer)
    assert t.dtype.name == "bool"
    assert t.numpy().view(np.uint8).tolist() == [0, 1, 1, 1]
    with pytest.raises(BufferError, match="bool"):
        ct.from_dlpack(producer, copy=False)


def test_shared_memory_is_never_written() -> None:
    producer = Producer(np.zeros(3))
    t = ct.from_dlpack(producer)
    t[1] = 5.0
    assert t.tolist() == [0, 5, 0]
    assert producer.array.tolist() == [0, 0, 0]
    assert producer.given_back == 1  # the tensor has memory of its own now


def test_producers_are_asked_for_what_they_understand() -> None:
    producer = Producer(np.zeros(3))
    ct.from_dlpack(producer)
    ct.from_dlpack(producer, copy=True)
    ct.from_dlpack(producer, copy=False)
    assert producer.requests == [
        {"max_version": (1, 0)},
        {"max_version": (1, 0)},
        {"max_version": (1, 0), "copy": False},
    ]
    old = Producer(np.zeros(3), legacy=True)
    ct.from_dlpack(old)
    assert old.requests == [{"max_version": (1, 0)}, {}]


def test_other_devices() -> None:
    pinned = Producer(np.arange(3.0), device_type=3)
    assert ct.from_dlpack(pinned).tolist() == [0, 1, 2]
    cuda = Producer(np.arange(3.0), device_type=2)
    with pytest.raises(BufferError, match="device='cpu'"):
        ct.from_dlpack(cuda)
    assert not cuda.requests
    # Asked to, the producer moves it.
    cuda.__dict__["_fields"] = {}
    cuda.__class__ = type("Moved", (Producer,), {"__dlpack_device__": lambda self: (2, 0)})
    assert ct.from_dlpack(cuda, device="cpu").tolist() == [0, 1, 2]
    assert cuda.requests[-1]["dl_device"] == (1, 0)
    assert ct.from_dlpack(np.arange(3.0), device="reference").device == "reference"
    with pytest.raises(BufferError, match="reference"):
        ct.from_dlpack(np.arange(3.0), device="reference", copy=False)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"code": 1, "bits": 16}, TypeError, r"uint16 .*int32"),
        ({"code": 1, "bits": 64}, TypeError, r"uint64 .*int64"),
        ({"code": 5, "bits": 64}, TypeError, "complex64"),
        ({"code": 2, "bits": 8}, TypeError, "float8"),
        ({"code": 99}, TypeError, "opaque"),
        ({"lanes": 4}, TypeError, "vectors of 4"),
        ({"ndim": -1}, BufferError, "-1 axes"),
        ({"ndim": 10_000}, BufferError, "10000 axes"),
        ({"shape": (-2,)}, BufferError, "damaged"),
        ({"shape": (2**63 - 1,)}, BufferError, "damaged"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, BufferError, "damaged"),
        ({"shape": (3,), "strides": (2**62,)}, BufferError, "damaged"),
        ({"shape": (2, 2), "strides": (2**60, 2**60)}, BufferError, "damaged"),
        ({"byte_offset": 2**64 - 8}, BufferError, "damaged"),
        ({"data": None}, BufferError, "no memory"),
        ({"device_type": 2}, BufferError, "device"),
    ],
)
def test_what_cannot_come_in_is_refused_and_given_back(fields: dict, error: type, words: str, legacy: bool) -> None:
    producer = Producer(np.arange(4, dtype=np.float32), legacy=legacy, **fields)
    capsule = producer.__dlpack__()
    with pytest.raises(error, match=words):
        ct.from_dlpack(capsule)
    assert producer.given_back == 0  # still the capsule's, which may be offered elsewhere
    assert is_named(capsule, producer.kind.name)
    del capsule
    assert producer.given_back == 1


def test_a_future_version_is_refused() -> None:
    producer = Producer(np.zeros(3), version=(2, 0))
    with pytest.raises(BufferError, match=r"2\.0"):
        ct.from_dlpack(producer)
    assert producer.given_back == 1
    assert ct.from_dlpack(Producer(np.zeros(3), version=(1, 9))).shape == (3,)


def test_a_broadcast_array_beyond_memory_is_a_memory_error() -> None:
    producer = Producer(np.zeros(1), shape=(2**56,), strides=(0,))
    assert ct.from_dlpack(producer).shape == (2**56,)
    with pytest.raises(MemoryError):
        ct.from_dlpack(producer, copy=True)


def test_a_capsule_is_consumed_once() -> None:
    capsule = ct.ones(2).__dlpack__()
    assert ct.from_dlpack(capsule).tolist() == [1, 1]
    assert is_named(capsule, b"used_dltensor")
    with pytest.raises(BufferError, match="once"):
        ct.from_dlpack(capsule)


@pytest.mark.parametrize("obj", [3, "text", [1, 2], None, object()])
def test_what_speaks_no_dlpack(obj: object) -> None:
    with pytest.raises(TypeError, match="__dlpack__"):
        ct.from_dlpack(obj)


def test_a_producers_own_error_passes() -> None:
    class Refusing(Producer):
        def __dlpack__(self, **options: object) -> object:
            raise BufferError("not today")

    with pytest.raises(BufferError, match="not today"):
        ct.from_dlpack(Refusing(np.zeros(2)))

    class Lying(Producer):
        def __dlpack__(self, **options: object) -> object:
            return 5

    with pytest.raises(TypeError, match="no capsule but int"):
        ct.from_dlpack(Lying(np.zeros(2)))


def test_asarray_and_tensor_take_producers() -> None:
    producer = Producer(np.arange(3.0))
    shared, copied = ct.asarray(producer), ct.tensor(producer, dtype="float32")
    producer.array[0] = 7
    assert shared.tolist() == [7, 1, 2]
    assert copied.tolist() == [0, 1, 2]
    assert ct.asarray(producer, copy=False).tolist() == [7, 1, 2]


def test_dropped_by_a_backward_pass_without_the_lock() -> None:
    """The last owner is a graph that backward frees with the interpreter lock released."""
    producer = Producer(np.ones(100_000, np.float32))
    w = ct.ones(100_000, requires_grad=True)
    loss = (w * ct.from_dlpack(producer)).sum()
    assert producer.given_back == 0
    loss.backward()
    del loss
    assert w.grad is not None
    assert ct.ones(1).item() == 1
    assert producer.given_back == 1


def test_threads_borrow_and_give_back_at_once() -> None:
    producers = [Producer(np.full(20_000, i, np.float32)) for i in range(40)]
    sums: dict[int, float] = {}

    def work(i: int) -> None:
        sums[i] = float((ct.from_dlpack(producers[i]) * 2).sum())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == {i: 40_000.0 * i for i in range(40)}
    assert ct.ones(1).item() == 1
    assert [p.given_back for p in producers] == [1] * 40


@pytest.mark.skipif(not hasattr(ct, "bfloat16"), reason="no bfloat16 yet")
@pytest.mark.parametrize("legacy", [False, True])
def test_bfloat16_both_ways(legacy: bool) -> None:
    """NumPy cannot show it, DLPack can: code 4, 16 bits."""
    patterns = np.array([0x3F80, 0xC010, 0x7F80], np.uint16).view(np.int16)  # 1, -2.25, inf
    t = ct.from_dlpack(Producer(patterns, legacy=legacy, code=4))
    assert t.dtype.name == "bfloat16"
    assert t.tolist() == [1, -2.25, float("inf")]
    consumer = Consumer(t.__dlpack__(max_version=None if legacy else NEW))
    fields = consumer.managed.tensor
    assert (fields.code, fields.bits, fields.lanes) == (4, 16, 1)
    fields.code = 0  # look at the bits as int16
    assert consumer.array().tolist() == patterns.tolist()
    consumer.give_back()


# -- our own tensors, and NumPy


def test_our_own_tensors_there_and_back() -> None:
    t = ct.tensor(array_of("float32"))
    back = ct.from_dlpack(t.T)
    assert back.tolist() == t.T.tolist()
    assert back.strides == (1, 3)
    assert np.shares_memory(back.numpy(), t.numpy())
    back[0, 0] = 9.0
    assert t[0, 0].item() == 0
    w = back.requires_grad_()
    (w * w).sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_there_and_back(name: str) -> None:
    a = array_of(name)
    t = ct.from_dlpack(a)
    back = np.from_dlpack(t)
    assert bits(back) == bits(a)
    assert back.dtype == a.dtype
    assert not back.flags.writeable


@pytest.mark.parametrize("view", VIEWS)
def test_views_to_numpy_and_back(view: str) -> None:
    a = np.arange(6.0).reshape(2, 3)
    want = VIEWS[view](a)
    np.testing.assert_array_equal(np.from_dlpack(VIEWS[view](ct.tensor(a))), want)
    np.testing.assert_array_equal(ct.from_dlpack(np.asarray(want)).numpy(), want)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) < 2, reason="NumPy 1 knows only the old protocol")
def test_numpy_2_shares() -> None:
    t = ct.ones((2, 3))
    assert np.shares_memory(np.from_dlpack(t), t.numpy())
    copy = np.from_dlpack(t, copy=True)
    copy[0] = 5
    assert t.sum().item() == 6


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("version", [None, NEW])
def test_many_exports_leak_nothing(version: tuple[int, int] | None) -> None:
    def cycle() -> None:
        t = ct.ones(64 * 1024)  # 256 KiB
        t.__dlpack__(max_version=version)
        Consumer(t.__dlpack__(max_version=version)).give_back()

    for _ in range(50):
        cycle()
    gc.collect()
    before = resident()
    for _ in range(1000):
        cycle()
    gc.collect()
    assert resident() - before < 16 << 20  # a leak of every capsule would be 250 MiB


@pytest.mark.parametrize("legacy", [False, True])
def test_many_imports_leak_nothing(legacy: bool) -> None:
    producer = Producer(np.ones(1000), legacy=legacy)
    for _ in range(300):
        ct.from_dlpack(producer)
        _core.from_dlpack(producer, copy=True)
        producer.__dlpack__()
    assert producer.given_back == 900
