"""Answers `GET /?name=bob` with `Hello bob!`, and sends back what is posted, a piece at a time."""

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    IncomingBody,
    IncomingRequest,
    Method_Post,
    OutgoingBody,
    OutgoingResponse,
    ResponseOutparam,
)

# `blocking_write_and_flush` takes no more than this a call.
MOST_IN_ONE_WRITE = 4096


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
        body = response.body()
        # From here on the client receives the written bytes.
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as output:
            for piece in answer(request):
                for start in range(0, len(piece), MOST_IN_ONE_WRITE):
                    output.blocking_write_and_flush(piece[start : start + MOST_IN_ONE_WRITE])
        OutgoingBody.finish(body, None)


def answer(request: IncomingRequest):
    if isinstance(request.method(), Method_Post):
        yield from pieces(request.consume())
        return
    query = parse_qs(urlsplit(request.path_with_query() or "").query)
    yield f"Hello {query.get('name', ['world'])[0]}!\n".encode()


def pieces(body: IncomingBody):
    with body.stream() as input:
        while True:
            try:
                yield input.blocking_read(MOST_IN_ONE_WRITE)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise
