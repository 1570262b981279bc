#!/usr/bin/env python3
"""A gRPC app by the official library, and a client of one; messages are plain bytes.

    grpc_app.py serve           prints its port, ends with its stdin
    grpc_app.py talk PORT CA    does each of the four kinds of call, and one that fails; prints `good`
"""

import pathlib
import sys
from concurrent import futures

import grpc

LARGE = 3 << 20


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        kind = details.method.rsplit("/", 1)[-1]
        return {
            "One": grpc.unary_unary_rpc_method_handler(self.one),
            "Down": grpc.unary_stream_rpc_method_handler(self.down),
            "Up": grpc.stream_unary_rpc_method_handler(self.up),
            "Both": grpc.stream_stream_rpc_method_handler(self.both),
            "Fails": grpc.unary_unary_rpc_method_handler(self.fails),
        }.get(kind)

    def one(self, message, context):
        context.set_trailing_metadata((("x-trailing", "seen"),))
        return message

    def down(self, message, context):
        for at in range(100):
            yield message + str(at).encode()

    def up(self, messages, context):
        return str(sum(len(message) for message in messages)).encode()

    def both(self, messages, context):
        yield from messages

    def fails(self, message, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 2 * LARGE)])
    server.add_generic_rpc_handlers((Echo(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def talk(port, ca):
    credentials = grpc.ssl_channel_credentials(pathlib.Path(ca).read_bytes())
    options = [("grpc.max_receive_message_length", 2 * LARGE), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
        for size in (0, 1, 100_000, LARGE):
            answer, call = channel.unary_unary("/echo/One").with_call(bytes(size), timeout=30)
            assert answer == bytes(size), size
            assert ("x-trailing", "seen") in call.trailing_metadata(), call.trailing_metadata()
        down = list(channel.unary_stream("/echo/Down")(b"x", timeout=30))
        assert down == [b"x%d" % at for at in range(100)], down
        assert channel.stream_unary("/echo/Up")((b"x" * 1000 for _ in range(500)), timeout=30) == b"500000"
        # Each message waits for the answer to the last: nothing is held back on the way.
        call, sent = None, []

        def messages():
            for at in range(50):
                sent.append(at)
                yield b"%d" % at
                while len(heard) <= at:
                    done.acquire(timeout=30)

        import threading

        heard, done = [], threading.Semaphore(0)
        for message in channel.stream_stream("/echo/Both")(messages(), timeout=30):
            heard.append(int(message))
            done.release()
        assert heard == list(range(50)), heard
        try:
            channel.unary_unary("/echo/Fails")(b"", timeout=30)
            raise AssertionError("it must fail")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND and error.details() == "no such thing", error
    print("good", flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else talk(sys.argv[2], sys.argv[3])
