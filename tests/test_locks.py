"""A lock that a forked child has anew."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

from tts_infer.locks import ProcessLock


def test_it_excludes_other_threads() -> None:
    lock, seen = ProcessLock(), list[bool]()
    with lock:
        thread = threading.Thread(target=lambda: seen.append(lock.acquire(blocking=False)))
        thread.start()
        thread.join()
    assert seen == [False]
    assert lock.acquire(blocking=False)
    lock.release()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork")
def test_a_child_does_not_wait_for_a_thread_of_its_parent() -> None:
    lock = ProcessLock()

    def use() -> None:
        assert lock.was_taken
        lock.acquire()

    child = multiprocessing.get_context("fork").Process(target=use)
    with lock:
        assert not lock.was_taken
        child.start()
        child.join(20)
    code = child.exitcode
    child.kill()
    child.join()
    assert code == 0
