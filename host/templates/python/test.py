"""Calls the handler without WebAssembly, with streams that stand in for the host's: python3 test.py"""

import sys
import unittest
from types import ModuleType


class Err(Exception):
    def __init__(self, value):
        self.value = value


class Closed:
    pass


def stand_in(name, **contents):
    sys.modules[name] = module = ModuleType(name)
    module.__dict__.update(contents)
    return module


# The part of the modules which componentize-py generates from wit/ that the handler needs here.
stand_in("componentize_py_types", Err=Err)
exports = stand_in("wit_world.exports", Handler=object)
stand_in("wit_world", exports=exports)
stand_in("wit_world.imports")
stand_in("wit_world.imports.types", Connection=object)
stand_in(
    "wit_world.imports.streams", InputStream=object, OutputStream=object, StreamError=object, StreamError_Closed=Closed
)

import app  # noqa: E402


class Stream:
    def __init__(self, *pieces):
        self.pieces, self.written = list(pieces), b""

    def blocking_read(self, most):
        if not self.pieces:
            raise Err(Closed())
        piece = self.pieces.pop(0)
        if piece[most:]:
            self.pieces.insert(0, piece[most:])
        return piece[:most]

    def blocking_write_and_flush(self, data):
        assert len(data) <= 4096
        self.written += data


def answer(*pieces):
    stream = Stream(*pieces)
    app.Handler().handle_request(None, stream, stream)
    return stream.written


class Test(unittest.TestCase):
    def test_a_name_is_greeted(self):
        self.assertEqual(answer(b"bo", b"b\n"), b"Hello bob!\n")
        self.assertEqual(answer(b"bob"), b"Hello bob!\n")

    def test_nobody_is_the_world(self):
        self.assertEqual(answer(), b"Hello world!\n")

    def test_an_endless_name_is_cut(self):
        self.assertEqual(len(answer(b"x" * 100000)), 4096 + len(b"Hello !\n"))


if __name__ == "__main__":
    unittest.main()
