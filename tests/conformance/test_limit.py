"""Calls that may be given up."""

import threading

import pytest

from bnkit.conformance.limit import TooSlow, Worker


def test_it_returns_raises_and_stays_in_one_thread():
    worker = Worker()
    threads = {worker.call(threading.get_ident, 5) for _ in range(3)}
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0, 5)
    worker.close()


def test_what_hangs_is_left_behind_and_the_next_call_is_heard():
    worker, released = Worker(), threading.Event()
    with pytest.raises(TooSlow, match=r"no answer within 0\.05 s"):
        worker.call(released.wait, 0.05)
    assert worker.call(lambda: 7, 5) == 7
    released.set()  # the late answer goes nowhere
    assert worker.call(lambda: 8, 5) == 8
    worker.close()


def test_a_closed_worker_may_be_called_again():
    worker = Worker()
    worker.close()
    assert worker.call(lambda: 7, 5) == 7
    worker.close()
