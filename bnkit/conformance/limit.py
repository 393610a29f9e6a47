"""Calls that may be given up: what an unknown implementation does must not stop the examination."""

import queue
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np


class TooSlow(Exception):
    """A call that did not come back in its time."""


class Worker:
    """Makes all calls in one thread, one after the other.

    One thread, because some libraries tie their state to the thread that made it; another one only
    after a call that hung, since Python cannot end a thread. What hung runs on and is not heard.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue | None = None

    def call(self, function: Callable[[], Any], seconds: float) -> Any:
        """What `function()` returns or raises; TooSlow after so many seconds."""
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_work, args=(self._jobs,), daemon=True).start()
        answer: queue.SimpleQueue = queue.SimpleQueue()
        self._jobs.put((function, answer))
        try:
            value, error = answer.get(timeout=seconds)
        except queue.Empty:
            self._jobs.put(None)  # should the call come back after all, its thread ends
            self._jobs = None
            raise TooSlow(f"no answer within {seconds:g} s") from None
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the thread end."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


def _work(jobs: queue.SimpleQueue) -> None:
    while (job := jobs.get()) is not None:
        function, answer = job
        try:
            # Overflow, NaN and division by zero are what some probes are about.
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer.put((function(), None))
        except BaseException as error:  # whatever ends this thread would be taken for a hang
            answer.put((None, error))
