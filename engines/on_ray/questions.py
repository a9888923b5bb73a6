"""Questions to a loop: asked from other threads, answered between two of its steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Questions:
    """Answers never overlap with a step; before and after the loop, those who ask answer."""

    def __init__(self) -> None:
        """There is no loop yet."""
        self._questions: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = (
            queue.SimpleQueue()
        )
        self._answering = threading.Lock()
        self._is_looping = False

    def ask(self, question: Callable[[], Result], *, timeout_s: float) -> Result:
        """What `question` returns; ended by the loop's next `answer`, or its end.

        Raises:
            TimeoutError: the loop has been busy with one step for `timeout_s`.
            Exception: what `question` raises.
        """
        future: Future[Result] = Future()
        self._questions.put((question, future))
        with self._answering:
            if not self._is_looping:
                self.answer()
        return future.result(timeout=timeout_s)

    @contextmanager
    def answered_by_loop(self) -> Iterator[None]:
        """Inside the `with` block nobody answers but the loop, which calls `answer`."""
        with self._answering:
            self._is_looping = True
        try:
            yield
        finally:
            # Also after an error: from now on nobody waits for a loop that has ended.
            with self._answering:
                self._is_looping = False
                self.answer()

    def answer(self) -> None:
        """Answer all questions that have come so far."""
        with suppress(queue.Empty):
            while True:
                question, future = self._questions.get_nowait()
                try:
                    future.set_result(question())
                except Exception as error:
                    future.set_exception(error)
