#!/usr/bin/env python3
"""Reads the interval that a truebound agent publishes: earliest <= true time <= latest.

An example of reading through the C ABI (client/c/truebound.h), with nothing but the standard library:

    reader = truebound.Reader()
    now = reader.now()
    print(now.earliest_ns, now.latest_ns)

The library is the argument `library`, or $TRUEBOUND_LIBRARY, or libtruebound.so beside this file, or the system's.
As a program it prints one interval:

    truebound.py [PAGE]
"""

import ctypes
import os
import sys

ABI_VERSION = 1


class Interval(ctypes.Structure):
    """struct truebound_interval. Instants are ns since 1970, of Unix time and of TAI; both ends are included."""

    _fields_ = [
        ("earliest_ns", ctypes.c_int64),
        ("latest_ns", ctypes.c_int64),
        ("tai_earliest_ns", ctypes.c_int64),
        ("tai_latest_ns", ctypes.c_int64),
        ("epoch", ctypes.c_uint64),
        ("tai_offset_s", ctypes.c_int32),
        ("status", ctypes.c_uint32),
        ("reason", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    ]


class Unavailable(Exception):
    """Why there is no page or no interval; `code` is one of TRUEBOUND_ERR_..., or minus an errno."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def load(library=None):
    """The C library, with the types of the functions used here."""
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libtruebound.so")
    name = library or os.environ.get("TRUEBOUND_LIBRARY") or (beside if os.path.exists(beside) else "libtruebound.so.1")
    c = ctypes.CDLL(name)
    c.truebound_abi_version.restype = ctypes.c_uint32
    if c.truebound_abi_version() != ABI_VERSION:
        raise ImportError(f"{name} has ABI {c.truebound_abi_version()}, this module speaks {ABI_VERSION}")
    reader, interval = ctypes.c_void_p, ctypes.POINTER(Interval)
    c.truebound_open.argtypes = [ctypes.POINTER(reader)]
    c.truebound_open_at.argtypes = [ctypes.c_char_p, ctypes.POINTER(reader)]
    c.truebound_close.argtypes = [reader]
    c.truebound_close.restype = None
    c.truebound_now.argtypes = c.truebound_now_strict.argtypes = [reader, interval]
    c.truebound_error_text.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]
    c.truebound_error_text.restype = ctypes.c_size_t
    c.truebound_status_name.argtypes = [ctypes.c_uint32]
    c.truebound_status_name.restype = ctypes.c_char_p
    return c


class Reader:
    """An open page. One serves all threads; closed when it is dropped, or by `with`."""

    def __init__(self, page=None, library=None):
        self._reader = ctypes.c_void_p()
        self._c = load(library)
        opened = ctypes.byref(self._reader)
        if page is None:
            self._check(self._c.truebound_open(opened))
        else:
            self._check(self._c.truebound_open_at(os.fsencode(page), opened))

    def now(self):
        """The Interval now. Raises Unavailable."""
        return self._read(self._c.truebound_now)

    def now_strict(self):
        """The same, and nothing that this process can see speaks against the page: what a lease stands on."""
        return self._read(self._c.truebound_now_strict)

    def status_name(self, status):
        """"locked" and so on."""
        return self._c.truebound_status_name(status).decode()

    def close(self):
        """Closes; reading afterwards raises Unavailable. No other thread may be reading meanwhile."""
        reader, self._reader = self._reader, ctypes.c_void_p()
        self._c.truebound_close(reader)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_c", None):
            self.close()

    def _read(self, function):
        interval = Interval()
        self._check(function(self._reader, ctypes.byref(interval)))
        return interval

    def _check(self, code):
        if code != 0:
            text = ctypes.create_string_buffer(512)
            self._c.truebound_error_text(code, text, len(text))
            raise Unavailable(code, text.value.decode())


def main():
    """Prints one interval; exit code 1 without one."""
    try:
        with Reader(sys.argv[1] if len(sys.argv) > 1 else None) as reader:
            now = reader.now()
            print(now.earliest_ns, now.latest_ns, reader.status_name(now.status))
    except Unavailable as error:
        sys.exit(f"truebound: {error}")


if __name__ == "__main__":
    main()
