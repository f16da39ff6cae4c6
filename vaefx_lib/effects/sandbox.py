"""Foreign code in a process of its own: one that crashes, hangs or ends costs its own clip and nothing else.

`call` runs a function of a module of `vaefx_lib.effects` in a helper process, which is started at the first call, kept
for the next ones, and replaced after it failed. Requests and answers are a line of JSON each; the samples lie in memory
that both processes share. Nothing is pickled. What a plug-in prints is kept to be told if it fails.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import math
import mmap
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from vaefx_lib.effects.effect import EffectFailed

TIME_LIMIT_S = 30.0  # of one call; $VAEFX_PLUGIN_TIME_LIMIT_S overrides it
OUTPUT_BYTES = 2**20  # of what plug-ins print, then it is forgotten: some print at every clip
START_LIMIT_S = 120.0  # of the start of a helper process, which may have to import from a cold disk
# glibc: allocated memory is all 0 (the complement of 255), for plug-ins that read what they have not written
ZEROED_MEMORY = "glibc.malloc.tcache_count=0:glibc.malloc.perturb=255"
_local = threading.local()  # one helper process per thread, so that no thread waits for another's


def call(function: str, arguments: dict, audio: np.ndarray | None = None, *, name: str):
    """Run ``function(**arguments)``, or ``function(audio, **arguments)``, in the helper process of this thread.

    Parameters
    ----------
    function : str
        ``"module:function"``, the module inside `vaefx_lib.effects`. It returns float32 audio of shape (channels,
        samples), or something that JSON can hold.
    arguments : dict
        What JSON can hold.
    audio : array, float32, shape (channels, samples), optional
    name : str
        What an error calls the effect.

    Returns
    -------
    What the function returned.

    Raises
    ------
    EffectFailed
        If the helper process dies, ends or does not answer in time, or the function raises; the next call gets a new
        helper process.
    """
    helper = getattr(_local, "helper", None)
    if helper is None or helper.owner != os.getpid() or helper.process.poll() is not None:
        helper = _local.helper = _Helper()
    try:
        answer = helper.ask(function, arguments, audio)
    except (_NoAnswer, BrokenPipeError) as error:
        _local.helper = None
        raise EffectFailed(f"{name} {helper.end(hung=isinstance(error, _TooLate))}") from error
    except BaseException:  # interrupted: an answer that comes later must not be taken for that to the next question
        _local.helper = None
        helper.end(hung=True)
        raise
    if "error" in answer:
        raise EffectFailed(f"{name} failed: {answer['error']}")
    return helper.memory.read(answer["shape"], answer["offset"]) if "shape" in answer else answer["value"]


class _NoAnswer(Exception):
    """The helper process has closed its end."""


class _TooLate(_NoAnswer):
    """The helper process has not answered in time."""


class _Memory:
    """A file in memory that two processes have open, and that grows as needed."""

    def __init__(self, file: int):
        self.file = file
        self.map: mmap.mmap | None = None

    def view(self, shape: Sequence[int], offset: int = 0) -> np.ndarray:
        """Its float32 numbers from a byte `offset` on, as an array of this shape."""
        end = offset + 4 * math.prod(shape)
        if end > os.fstat(self.file).st_size:
            os.ftruncate(self.file, end)
        if self.map is None or len(self.map) < end:
            self.map = mmap.mmap(self.file, 0)  # the old one goes with its last array
        return np.frombuffer(self.map, np.float32, math.prod(shape), offset).reshape(shape)

    def read(self, shape: list[int], offset: int) -> np.ndarray:
        """A copy of them."""
        return self.view(shape, offset).copy()


class _Helper:
    """A helper process, the pipes to it, and the memory shared with it."""

    def __init__(self):
        self.owner, self.unread = os.getpid(), b""
        self.limit_s = float(os.environ.get("VAEFX_PLUGIN_TIME_LIMIT_S", TIME_LIMIT_S))
        memory = os.memfd_create("vaefx") if hasattr(os, "memfd_create") else os.dup(tempfile.TemporaryFile().fileno())
        self.memory, self.output = _Memory(memory), tempfile.TemporaryFile()
        fcntl.fcntl(self.output, fcntl.F_SETFL, os.O_APPEND | os.O_RDWR)  # so that it can be cut down
        self.process: Any = subprocess.Popen(  # all its pipes are there
            [sys.executable, "-m", "vaefx_lib.effects.sandbox", str(memory), str(self.limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.output,
            bufsize=0,
            pass_fds=[memory],
            env={**os.environ, "GLIBC_TUNABLES": ZEROED_MEMORY},
            start_new_session=True,  # Ctrl-C stops the main process, which then closes the pipes
        )
        try:
            self._answer(START_LIMIT_S)  # it says that it is ready
        except _NoAnswer as error:
            raise EffectFailed(f"the process for plug-ins {self.end(hung=isinstance(error, _TooLate))}") from error

    def ask(self, function: str, arguments: dict, audio: np.ndarray | None) -> dict:
        if os.fstat(self.output.fileno()).st_size > OUTPUT_BYTES:
            self.output.truncate(0)
        request = {"function": function, "arguments": arguments}
        if audio is not None:
            request["shape"] = audio.shape
            self.memory.view(audio.shape)[:] = audio
        line = json.dumps(request).encode() + b"\n"
        while line:
            line = line[os.write(self.process.stdin.fileno(), line) :]
        return self._answer(self.limit_s)

    def end(self, *, hung: bool) -> str:
        """Stop the process and say how it ended."""
        if hung:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        os.close(self.memory.file)
        code = self.process.wait()
        self.output.seek(0)
        printed = self.output.read().decode(errors="replace").split("\n")
        self.output.close()
        last_words = next((f' ("{line.strip()[:200]}")' for line in reversed(printed) if line.strip()), "")
        if hung:
            return f"took longer than {self.limit_s:g} s and was stopped{last_words}"
        if code < 0:
            return f"crashed: its process was ended by {signal.Signals(-code).name}{last_words}"
        return f"ended its process with exit code {code}{last_words}"

    def _answer(self, limit_s: float) -> dict:
        pipe, deadline = self.process.stdout.fileno(), time.monotonic() + limit_s
        while b"\n" not in self.unread:
            if not select.select([pipe], [], [], max(0, deadline - time.monotonic()))[0]:
                raise _TooLate
            part = os.read(pipe, 2**16)
            if not part:
                raise _NoAnswer
            self.unread += part
        line, _, self.unread = self.unread.partition(b"\n")
        return json.loads(line)


def _serve(memory: _Memory, limit_s: float) -> None:
    """Answer requests until the other end closes."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a plug-in prints is no answer
    answers.write(b"{}\n")
    for line in requests:
        request = json.loads(line)
        signal.alarm(math.ceil(limit_s) + 10)  # ends a hung helper whose main process was killed and cannot end it
        try:
            module, function = request["function"].split(":")
            call = getattr(importlib.import_module(f"vaefx_lib.effects.{module}"), function)
            audio = [memory.view(request["shape"])] if "shape" in request else []
            value = call(*audio, **request["arguments"])
            answer = {"value": value}
            if isinstance(value, np.ndarray):
                answer = {"shape": value.shape, "offset": sum(array.nbytes for array in audio)}
                memory.view(**answer)[:] = value
        except Exception as error:  # whatever went wrong is the answer
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        signal.alarm(0)
        answers.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    _serve(_Memory(int(sys.argv[1])), float(sys.argv[2]))
