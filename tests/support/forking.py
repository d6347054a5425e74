"""Children forked from a process that has imported everything: how they begin, speak and end."""

import contextlib
import os
import sys
import warnings

import torch


def fork():
    """`os.fork`, without the warning that a process with threads gets: those of torch wait, and hold no lock."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # else the child says it again
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def speak_into(out, err):
    """In a child: add what it prints to these files, and compute with one thread as all tests do."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
    torch.set_num_threads(1)


def leave(code):
    """In a child: end it, without what its parent would do at its own end."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def ended(pid):
    """The exit code of a child, negative after a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
