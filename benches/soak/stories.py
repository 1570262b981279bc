"""What clients of the soak ask for, and what must come of it.

A story is a generator: it yields one Ask after the other and is sent the Answer to each. Who
drives it, over HTTP/1.1 or HTTP/2, sends and compares; a story knows what stands under its names,
which are its own, and so what each answer has to be.
"""

import gzip
import json
import random
from dataclasses import dataclass, field

KIB, MIB = 1 << 10, 1 << 20
# No frame and no part is a multiple of it: bytes that come from another place are other bytes.
BLOCK = MIB + 4099
LARGEST = 64 * MIB
SMALL_ANSWER = b"x" * 1024
LARGE_ANSWER = 16 * MIB
UNKNOWN = object()  # what stands under a name after a request that failed


class Unexpected(Exception):
    """An answer that isn't what it must be."""


@dataclass
class Ask:
    """One request, and what of its answer can be told beforehand."""

    kind: str
    method: str
    path: str
    statuses: tuple
    body: memoryview = None
    # Without saying how long it is.
    chunked: bool = False
    headers: dict = field(default_factory=dict)
    # The bytes that must come.
    wants: memoryview = None
    token: bool = True
    # After so many bytes, of the body or else of the answer's, the client leaves.
    leaves: int = None


@dataclass
class Answer:
    """What came; `same` is whether it was what is wanted. Without a status the client has left."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""
    length: int = 0
    same: bool = True


@dataclass
class Known:
    """What stands under a name."""

    begin: int
    size: int
    etag: str


class Matter:
    """Bytes that look like chance and are the same in every process."""

    def __init__(self, most):
        block = random.Random(1).randbytes(BLOCK)
        self.bytes = memoryview(block * (most // BLOCK + 2))

    def piece(self, begin, size):
        return self.bytes[begin : begin + size]


def judge(ask, answer):
    """What every answer is held to."""
    if ask.leaves is not None and not answer.status:
        return
    if answer.status not in ask.statuses:
        raise Unexpected(f"status {answer.status} in place of {ask.statuses}; {answer.body[:300]!r}")
    if ask.wants is not None and (answer.length != len(ask.wants) or not answer.same):
        wrong = "other bytes" if answer.length == len(ask.wants) else f"{answer.length} bytes"
        raise Unexpected(f"{wrong} came in place of the {len(ask.wants)} that were put")


class Story:
    """A client with names of its own below `route`."""

    kinds = ()
    most = 2 * MIB

    def __init__(self, own, route="/files/"):
        self.own, self.route = own, route
        self.chance = random.Random(own)
        self.matter = Matter(self.most)
        self.known = {}
        self.passes = 0

    def work(self):
        """One pass, after which there is another."""
        raise NotImplementedError

    def name(self, of):
        return f"{self.route}{self.own}-{of}"

    def held(self, path):
        """What stands there, as bytes."""
        return self.matter.piece(self.known[path].begin, self.known[path].size)

    def doubts(self, ask):
        """Of a request that failed nobody knows what it has left."""
        if ask.method in ("PUT", "DELETE") and ask.leaves is None:
            self.known[ask.path] = UNKNOWN

    def put(self, kind, path, size, **how):
        begin = self.chance.randrange(MIB)
        before = self.known.get(path)
        statuses = (200, 201) if before is UNKNOWN else (200,) if before else (201,)
        answer = yield Ask(kind, "PUT", path, statuses, self.matter.piece(begin, size), **how)
        receipt = json.loads(answer.body)
        if receipt["size"] != size:
            raise Unexpected(f"a receipt of {receipt['size']} bytes for {size}")
        self.known[path] = Known(begin, size, receipt["etag"])

    def get(self, path, kind="get", at=None, **how):
        """What was put under `path` comes, asked for there or by a link `at` another address."""
        answer = yield Ask(kind, "GET", at or path, (200,), wants=self.held(path), **how)
        self.agrees(answer, self.known[path])

    def agrees(self, answer, known, size=None):
        tag, size = f'"{known.etag}"', known.size if size is None else size
        told = answer.headers.get("etag"), answer.headers.get("content-length")
        if told != (tag, str(size)):
            raise Unexpected(f"a head of (tag, length) {told} in place of {(tag, str(size))}")

    def range(self, path, begin, size, kind="range"):
        known = self.known[path]
        headers = {"range": f"bytes={begin}-{begin + size - 1}"}
        wants = self.held(path)[begin : begin + size]
        answer = yield Ask(kind, "GET", path, (206,), headers=headers, wants=wants)
        self.agrees(answer, known, size)
        if answer.headers.get("content-range") != f"bytes {begin}-{begin + size - 1}/{known.size}":
            raise Unexpected(f"it says that the range is {answer.headers.get('content-range')}")

    def delete(self, path):
        # Of what failed it isn't known whether it stands there.
        yield Ask("delete", "DELETE", path, (404, 204) if self.known[path] is UNKNOWN else (204,))
        self.known[path] = None
        yield Ask("deleted", "GET", path, (404,))


class Small(Story):
    """Small objects and all that can be asked of them; and an app."""

    kinds = ("put-0", "put-4k", "put-1m", "put-chunked", "get", "head", "range", "not-modified", "precondition",
             "beyond", "missing", "unauthorized", "list", "share", "link", "delete", "deleted", "app-get", "app-gzip",
             "app-missing", "app-post")  # fmt: skip
    NAMES = 8

    def work(self):
        number, self.passes = self.passes, self.passes + 1
        path = self.name(number % self.NAMES)
        kind, size = [("put-4k", 4 * KIB), ("put-4k", 4 * KIB), ("put-0", 0), ("put-1m", MIB)][number // 3 % 4]
        yield from self.put(kind, path, size)
        yield from self.get(path)
        answer = yield Ask("head", "HEAD", path, (200,))
        self.agrees(answer, self.known[path])
        tag = f'"{self.known[path].etag}"'
        yield Ask("not-modified", "GET", path, (304,), headers={"if-none-match": tag})
        if size:
            begin = self.chance.randrange(size)
            yield from self.range(path, begin, self.chance.randint(1, size - begin))
        yield from (self.refusals, self.lists, self.shares, self.app)[number % 4](path)
        if number % 5 == 4:
            path = self.name("unsaid")
            yield from self.put("put-chunked", path, self.chance.randrange(64 * KIB), chunked=True)
            yield from self.get(path)
        if number % 7 == 6:
            yield from self.delete(path)

    def refusals(self, path):
        known = self.known[path]
        yield Ask("unauthorized", "GET", path, (401,), token=False)
        yield Ask("missing", "GET", self.name("nobody-put-it"), (404,))
        yield Ask("precondition", "PUT", path, (412,), self.matter.piece(0, 10), headers={"if-none-match": "*"})
        beyond = {"range": f"bytes={known.size}-"}
        yield Ask("beyond", "GET", path, (416,), headers=beyond)

    def lists(self, path):
        prefix = self.name("").removeprefix(self.route)
        answer = yield Ask("list", "GET", f"{self.route}?list&prefix={prefix}", (200,))
        listed = {one["key"]: (one["size"], one["etag"]) for one in json.loads(answer.body)["objects"]}
        known = {name.removeprefix(self.route): one for name, one in self.known.items() if one}
        for name, one in known.items():
            if one is not UNKNOWN and listed.get(name) != (one.size, one.etag):
                raise Unexpected(f"{name}, {one.size} bytes, is listed as {listed.get(name)}")
        if more := set(listed) - set(known):
            raise Unexpected(f"listed, and not there: {sorted(more)}")

    def shares(self, path):
        answer = yield Ask("share", "POST", f"{path}?share&expires=60", (200,))
        link = "/" + json.loads(answer.body)["url"].split("/", 3)[3]
        yield from self.get(path, "link", at=link, token=False)

    def app(self, _):
        yield Ask("app-get", "GET", "/app/small", (200,), wants=memoryview(SMALL_ANSWER))
        answer = yield Ask("app-gzip", "GET", "/app/text", (200,), headers={"accept-encoding": "gzip"})
        coded = answer.headers.get("content-encoding")
        if coded != "gzip" or gzip.decompress(answer.body) != bytes(self.matter.piece(0, 64 * KIB)).hex().encode():
            raise Unexpected(f"coded as {coded}, {answer.length} bytes")
        yield Ask("app-missing", "GET", "/app/nothing", (404,))
        size = self.chance.randrange(64 * KIB)
        wants = memoryview(str(size).encode())
        yield Ask("app-post", "POST", "/up/sent", (200,), self.matter.piece(0, size), wants=wants)


class Large(Story):
    """Objects in parts, with their length told and untold; and large bodies to and from an app."""

    kinds = ("put-64m", "put-chunked-20m", "get-64m", "get-20m", "range", "app-get-16m", "app-post-16m", "delete",
             "deleted")  # fmt: skip
    most = LARGEST + 2 * MIB

    def work(self):
        number, self.passes = self.passes, self.passes + 1
        path = self.name(number % 2)
        # Waits for leave every other time.
        headers = {"expect": "100-continue"} if number % 2 else {}
        yield from self.put("put-64m", path, LARGEST, headers=headers)
        yield from self.get(path, "get-64m")
        for _ in range(8):
            yield from self.range(path, self.chance.randrange(LARGEST - 512 * KIB), 512 * KIB)
        unsaid = self.name("unsaid")
        yield from self.put("put-chunked-20m", unsaid, 20 * MIB + number % 1000, chunked=True)
        yield from self.get(unsaid, "get-20m")
        yield Ask("app-get-16m", "GET", "/app/large", (200,), wants=self.matter.piece(0, LARGE_ANSWER))
        wants = memoryview(str(LARGE_ANSWER).encode())
        yield Ask("app-post-16m", "POST", "/up/sent", (200,), self.matter.piece(0, LARGE_ANSWER), wants=wants)
        if number % 3 == 2:
            yield from self.delete(path)
            yield from self.delete(unsaid)


class Leaver(Story):
    """Leaves in the middle: of uploads small and in parts, of downloads, of what goes to an app.

    What stood under a name stands there still.
    """

    kinds = ("left-put", "left-put-parts", "left-put-chunked", "left-get", "left-range", "left-app-post",
             "left-app-get", "get")  # fmt: skip
    most = 24 * MIB

    def work(self):
        self.passes += 1
        path, large, never = self.name("stays"), self.name("large"), self.name("never")
        if not isinstance(self.known.get(path), Known):
            yield from self.put("put-300k", path, 300 * KIB)
        if not isinstance(self.known.get(large), Known):
            yield from self.put("put-12m", large, 12 * MIB)
        self.known[never] = None
        yield self.left("left-put", "PUT", path, 64 * KIB)
        yield from self.get(path)
        yield self.left("left-put-parts", "PUT", path, 20 * MIB)
        yield from self.get(path)
        yield self.left("left-put-chunked", "PUT", never, 20 * MIB, chunked=True)
        yield Ask("never", "GET", never, (404,))
        yield Ask("left-get", "GET", large, (200,), leaves=self.chance.randrange(12 * MIB))
        headers = {"range": f"bytes={MIB}-"}
        yield Ask("left-range", "GET", large, (206,), headers=headers, leaves=self.chance.randrange(MIB))
        yield self.left("left-app-post", "POST", "/up/sent", 8 * MIB)
        yield Ask("left-app-get", "GET", "/app/large", (200,), leaves=self.chance.randrange(LARGE_ANSWER))

    def left(self, kind, method, path, size, **how):
        """An upload of which some bytes come and never all, and to which no answer is awaited."""
        return Ask(kind, method, path, (), self.matter.piece(0, size), leaves=self.chance.randrange(size), **how)


class Visitor(Story):
    """Asks for one thing, on a connection of its own each time."""

    kinds = ("get", "app-get", "missing", "unauthorized")

    def work(self):
        self.passes += 1
        path = self.name("seen")
        if not isinstance(self.known.get(path), Known):
            yield from self.put("put-4k", path, 4 * KIB)
        yield from self.get(path)
        yield Ask("app-get", "GET", "/app/small", (200,), wants=memoryview(SMALL_ANSWER))
        yield Ask("missing", "GET", self.name("nobody-put-it"), (404,))
        yield Ask("unauthorized", "GET", path, (401,), token=False)


class Idler(Story):
    """Asks once, and leaves the end of the connection to the server."""

    kinds = ("app-get",)

    def work(self):
        self.passes += 1
        yield Ask("app-get", "GET", "/app/small", (200,), wants=memoryview(SMALL_ANSWER))
