"""Clients that share one connection of HTTP/2: a stream for each, many of them at once.

It waits by poll and never blocks on either way: a client that sends without reading would stand
still together with a server that does the same. Every now and then the connection is another.
"""

import contextlib
import select
import ssl
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from stories import MIB, Answer
from wire import PATIENCE, PIECE, Gone, Taker

REQUESTS = 500  # on one connection
STREAM_WINDOW, CONNECTION_WINDOW = MIB, 16 * MIB


class Stream:
    """A request on its way, and its answer."""

    def __init__(self, lane, ask):
        self.lane, self.ask = lane, ask
        body = ask.body if ask.body is not None else b""
        self.left = memoryview(body) if ask.leaves is None else memoryview(body)[: ask.leaves]
        self.sending = ask.body is not None
        self.taker = None


class Session:
    """A connection, for as many requests as it is to carry."""

    def __init__(self, plug, tally):
        self.plug, self.tally = plug, tally
        self.socket = plug.connect()
        self.socket.setblocking(False)
        if self.socket.selected_alpn_protocol() != "h2":
            raise Gone(f"{self.socket.selected_alpn_protocol()} was agreed on in place of h2")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.h2.update_settings(
            {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW, h2.settings.SettingCodes.ENABLE_PUSH: 0}
        )
        self.h2.increment_flow_control_window(CONNECTION_WINDOW)
        self.streams, self.begun, self.going = {}, 0, memoryview(b"")
        # What lanes ask next, on another connection.
        self.waiting = {}
        self.goodbye = False

    def begin(self, lane, ask):
        number = self.h2.get_next_available_stream_id()
        head = [(":method", ask.method), (":scheme", "https"), (":authority", self.plug.authority())]
        head.append((":path", ask.path))
        if ask.token:
            head.append(("authorization", f"Bearer {self.plug.token}"))
        if ask.body is not None and not ask.chunked:
            head.append(("content-length", str(len(ask.body))))
        # Nobody waits for leave to send here: flow control is there.
        head += [(name, value) for name, value in ask.headers.items() if name != "expect"]
        self.streams[number] = Stream(lane, ask)
        self.h2.send_headers(number, head, end_stream=ask.body is None)
        self.begun += 1

    def serve(self, asks):
        """Until there were enough requests, or it is time to end."""
        for lane, ask in asks.items():
            self.begin(lane, ask)
        poll = select.poll()
        moved = time.monotonic()
        while self.streams:
            self.fill()
            poll.register(self.socket, select.POLLIN | (select.POLLOUT if self.going else 0))
            ready = self.socket.pending() or poll.poll(1000)
            if self.flush() + self.take():
                moved = time.monotonic()
            elif not ready and time.monotonic() - moved > PATIENCE:
                raise Gone(f"nothing happened for {PATIENCE} s on {len(self.streams)} streams")

    def fill(self):
        """A frame of each body in turn, as long as little waits to be sent."""
        moved = True
        while moved:
            sending = [(number, stream) for number, stream in self.streams.items() if stream.sending]
            moved = len(self.going) < PIECE and any([self.frame(number, stream) for number, stream in sending])
            self.going = memoryview(bytes(self.going) + self.h2.data_to_send())

    def frame(self, number, stream):
        """Sends the next of it, if the other side takes any; whether it did."""
        room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, len(stream.left))
        if not room and stream.left:
            return False
        piece, stream.left = stream.left[:room], stream.left[room:]
        ends = not stream.left and stream.ask.leaves is None
        self.h2.send_data(number, bytes(piece), end_stream=ends)
        if not stream.left:
            stream.sending = False
            if stream.ask.leaves is not None:
                self.leave(number)
        return True

    def flush(self):
        sent = 0
        try:
            while self.going:
                count = self.socket.send(self.going[: 64 << 10])
                self.going, sent = self.going[count:], sent + count
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        return sent

    def take(self):
        came = 0
        try:
            while came < PIECE:
                piece = self.socket.recv(64 << 10)
                if not piece:
                    raise Gone(f"the connection was ended under {len(self.streams)} streams")
                came += len(piece)
                for event in self.h2.receive_data(piece):
                    self.hear(event)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        return came

    def hear(self, event):
        if isinstance(event, h2.events.ConnectionTerminated):
            if event.error_code != h2.errors.ErrorCodes.NO_ERROR:
                raise Gone(f"the connection was ended for {event.error_code!r}: {event.additional_data!r}")
            self.goodbye = True
            return
        if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        # What comes for one that is over is thrown away.
        stream = self.streams.get(getattr(event, "stream_id", None))
        if not stream:
            return
        if isinstance(event, h2.events.ResponseReceived):
            headers = dict(event.headers)
            stream.taker = Taker(stream.ask, int(headers[":status"]), headers)
        elif isinstance(event, h2.events.DataReceived):
            if stream.taker.takes(memoryview(event.data)):
                self.leave(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            if stream.sending:
                # Refused before all of it had gone.
                self.reset(event.stream_id, h2.errors.ErrorCodes.NO_ERROR)
            self.answered(event.stream_id, stream.taker.answer)
        elif isinstance(event, h2.events.StreamReset):
            stream.lane.fails(f"the stream was reset for {event.error_code!r}")
            self.answered(event.stream_id, None)

    def reset(self, number, why):
        # What came with it may have ended the stream already.
        with contextlib.suppress(h2.exceptions.StreamClosedError):
            self.h2.reset_stream(number, why)

    def leave(self, number):
        self.reset(number, h2.errors.ErrorCodes.CANCEL)
        self.answered(number, Answer())

    def answered(self, number, answer):
        """The lane's next request, here or on the next connection."""
        lane = self.streams.pop(number).lane
        ask = lane.next(answer)
        if self.goodbye or self.begun >= REQUESTS or self.tally.stop.is_set():
            self.waiting[lane] = ask
        else:
            self.begin(lane, ask)

    def close(self):
        self.h2.close_connection()
        self.going = memoryview(bytes(self.going) + self.h2.data_to_send())
        try:
            self.flush()
        finally:
            self.socket.close()


def run(plug, lanes, tally):
    asks = {lane: lane.next() for lane in lanes}
    while not tally.stop.is_set():
        session = None
        try:
            session = Session(plug, tally)
            session.serve(asks)
            session.close()
            asks = session.waiting
        except (OSError, Gone, h2.exceptions.ProtocolError) as error:
            broken, asks = lanes, {}
            if session:
                session.socket.close()
                broken, asks = [stream.lane for stream in session.streams.values()], session.waiting
            for lane in broken:
                lane.fails(f"{type(error).__name__}: {error}")
                asks[lane] = lane.next()
