"""A program in any language as a step: one JSON line in, one JSON line out, until the input ends.

A request has its keys always in this order, so that C's ``scanf`` can read it::

    {"call": "step", "dtype": "float32", "examples": 4, "channels": 3, "places": 1,
     "gamma": [...], "beta": [...], "mean": [...], "var": [...], "x": [...], "dy": [...]}

on one line. ``call`` is "step" or "infer". x and dy are examples times channels times places
numbers, the last axis running fastest. mean and var are the running values of the call before, and
empty when a training begins; gamma and beta are empty where they are absent. NaN and Infinity are
written so. The answer has y, and what else there is of dx, dgamma, dbeta, mean and var, in any
order; "nan" and "inf", as C prints them, are understood.
"""

import contextlib
import json
import re
import shlex
import subprocess
import threading

import numpy as np

from bnkit.conformance.step import Step

_C_NUMBER = re.compile(r"(?<=[\s:,\[])(-?)(nan|inf)(?:inity)?\b", re.IGNORECASE)


class Program:
    """A running program. A context manager: leaving it ends the program.

    Raises OSError where there is no such command or it cannot be run; a call raises RuntimeError
    when the program ends or answers something else than JSON.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise FileNotFoundError(f"{command!r} is no command: {error}") from None
        if not self._words:
            raise FileNotFoundError("the command is empty; name a program and its arguments")
        self._process: subprocess.Popen | None = None
        self._turn = threading.Lock()
        self._start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._end()

    def step(self, x, gamma, beta, dy, state) -> Step:
        return self._call("step", x, gamma, beta, dy, state)

    def infer(self, x, gamma, beta, dy, state) -> Step:
        return self._call("infer", x, gamma, beta, dy, state)

    def _call(self, call, x, gamma, beta, dy, state) -> Step:
        mean, var = ([], []) if state is None else state
        shape = {
            "examples": x.shape[0],
            "channels": x.shape[1],
            "places": int(np.prod(x.shape[2:])),
        }
        request = {"call": call, "dtype": str(x.dtype), **shape}
        vectors = {"gamma": gamma, "beta": beta, "mean": mean, "var": var, "x": x, "dy": dy}
        request |= {k: [] if v is None else np.ravel(v).tolist() for k, v in vectors.items()}
        answer = self._exchange(json.dumps(request))
        if "y" not in answer:
            raise RuntimeError(f"the answer has no y, but {', '.join(answer) or 'nothing'}")
        arrays = {k: np.array(v, x.dtype) for k, v in answer.items() if k in Step._fields}
        for name in {"y", "dx"} & arrays.keys():
            arrays[name] = arrays[name].reshape(x.shape)
        return Step(**arrays, state=(arrays.get("mean", []), arrays.get("var", [])))

    # ---- The process ----

    def _exchange(self, line: str) -> dict:
        if not self._turn.acquire(blocking=False):  # the call before hangs
            self._end()
            self._turn = threading.Lock()
            self._turn.acquire()
        turn = self._turn
        try:
            return self._ask(line)
        finally:
            turn.release()

    def _ask(self, line: str) -> dict:
        if self._process is None or self._process.poll() is not None:
            self._start()
        process = self._process
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.command} ended with status {process.wait()}")
        try:
            return json.loads(_C_NUMBER.sub(_as_json, answer))
        except json.JSONDecodeError as error:
            raise RuntimeError(f"no JSON: {error}; it begins {answer[:40]!r}") from None

    def _start(self) -> None:
        self._end()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        try:
            self._process = subprocess.Popen(self._words, **pipes)
        except OSError as error:
            what = f"{self._words[0]!r} cannot be run: {error.strerror}"
            raise type(error)(f"{what}; name a program that can be") from None

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(BrokenPipeError):  # what was never read
                    pipe.close()
            self._process = None


def _as_json(match: re.Match) -> str:
    return match[1] + "Infinity" if match[2].lower() == "inf" else "NaN"
