"""The Python runtime: loads the handler and speaks Lambda's Runtime API. Runs in the sandbox, with the standard library only."""

import importlib
import importlib.machinery
import json
import logging
import os
import signal
import socket
import sys
import time
import traceback

HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
PREFIX = "/2018-06-01/runtime"


class Api:
    """A connection that is kept; requests and answers are small, so that this is a few system calls."""

    def __init__(self):
        self.socket = socket.create_connection((HOST, int(PORT)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def ask(self, method, path, body=b"", headers=""):
        head = "%s %s%s HTTP/1.1\r\nhost: %s\r\ncontent-length: %d\r\n%s\r\n" % (
            method,
            PREFIX,
            path,
            HOST,
            len(body),
            headers,
        )
        self.socket.sendall(head.encode() + body)
        return self.read()

    def read(self):
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        headers = {}
        for line in head.decode("latin-1").split("\r\n")[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        size = int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            self.more()
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return headers, body

    def more(self):
        data = self.socket.recv(262144)
        if not data:
            # The cloud is gone, and this sandbox with it.
            os._exit(0)
        self.buffer += data


class Plain(socket.socket):
    """A connection to Cloudlet, which answers without TLS, where one with TLS was asked for."""

    def __init__(self, given, name):
        seconds = given.gettimeout()
        super().__init__(fileno=given.detach())
        self.settimeout(seconds)
        self.name = name

    def getpeercert(self, binary_form=False):
        return {"subjectAltName": (("DNS", self.name), ("IP Address", self.name))}


class Plainly:
    """Lets a function reach Cloudlet at https, and its APIs by AWS's names: watches for the import of ssl."""

    def __init__(self, endpoint):
        self.host, _, port = endpoint.removeprefix("http://").partition(":")
        self.port = int(port.strip("/") or 80)
        resolve = socket.getaddrinfo

        def getaddrinfo(host, port, *args, **kwargs):
            if isinstance(host, str) and host.endswith((".amazonaws.com", ".on.aws")):
                if host.split(".")[1:2] in (["execute-api"], ["lambda-url"]):
                    host, port = self.host, self.port
            return resolve(host, port, *args, **kwargs)

        socket.getaddrinfo = getaddrinfo
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        if name != "ssl":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            wrap = module.SSLContext.wrap_socket

            def wrap_socket(context, sock, *args, **kwargs):
                if sock.type == socket.SOCK_STREAM and self.is_there(sock):
                    return Plain(sock, kwargs.get("server_hostname"))
                return wrap(context, sock, *args, **kwargs)

            module.SSLContext.wrap_socket = wrap_socket

        spec.loader.exec_module = exec_module
        return spec

    def is_there(self, sock):
        try:
            host, port = sock.getpeername()[:2]
        except OSError:
            return False
        return port == self.port and (host == self.host or host.startswith("127.") or host == "::1")


class Identity:
    """Who invoked through Cognito; nobody here."""

    cognito_identity_id = None
    cognito_identity_pool_id = None


class Context:
    """What a handler is told of its invocation."""

    def __init__(self, headers):
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self._deadline = int(headers.get("lambda-runtime-deadline-ms", 0))
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = Identity()
        self.client_context = None
        if headers.get("lambda-runtime-client-context"):
            given = json.loads(headers["lambda-runtime-client-context"])
            self.client_context = type("ClientContext", (), {"client": None, **given})()

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))


class Logs(logging.Handler):
    """The root logger's handler, as Lambda's Python runtime sets it up: a line of text, or of JSON."""

    request_id = ""
    json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"

    def emit(self, record):
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        try:
            if not self.json:
                text = "[%s]\t%s.%03dZ\t%s\t%s" % (
                    *(record.levelname, when, record.msecs, self.request_id, record.getMessage()),
                )
                if record.exc_info:
                    text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
            else:
                told = {
                    "timestamp": when + "Z",
                    "level": record.levelname,
                    "message": record.getMessage(),
                    "logger": record.name,
                    **({"requestId": self.request_id} if self.request_id else {}),
                }
                told.update((key, value) for key, value in vars(record).items() if key not in PLAIN)
                if record.exc_info:
                    told["errorType"] = record.exc_info[0].__name__
                    told["errorMessage"] = str(record.exc_info[1])
                    told["stackTrace"] = traceback.format_list(traceback.extract_tb(record.exc_info[2]))
                text = json.dumps(told, default=str, ensure_ascii=False)
        except Exception:
            self.handleError(record)
            return
        sys.stdout.write(text + "\n")


TYPE_HEADER = "lambda-runtime-function-error-type: %s\r\n"
CANNOT_LOAD = (  # what has gone wrong with a function's code, as Lambda calls it; all else by its own name
    (ImportError, "Runtime.ImportModuleError"),
    (AttributeError, "Runtime.HandlerNotFound"),
    (SyntaxError, "Runtime.UserCodeSyntaxError"),
)
PLAIN = {*vars(logging.makeLogRecord({})), "message", "asctime"}


def failure(error):
    """An exception as Lambda shows it."""
    kind = type(error)
    frames = traceback.extract_tb(error.__traceback__)
    shown = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return {
        "errorMessage": str(error),
        "errorType": kind.__name__,
        "requestId": "",
        "stackTrace": traceback.format_list(shown),
    }


def load():
    """The handler that _HANDLER names: module.function, the module's path with slashes or dots."""
    name, _, function = os.environ["_HANDLER"].rpartition(".")
    if not name:
        raise RuntimeError("Bad handler '%s': not enough values to unpack (expected 2, got 1)" % os.environ["_HANDLER"])
    try:
        module = importlib.import_module(name.replace("/", "."))
    except ModuleNotFoundError as error:
        if error.name and (name.replace("/", ".") + ".").startswith(error.name + "."):
            raise ImportError("Unable to import module '%s': %s" % (name, error)) from error
        raise
    if not hasattr(module, function):
        raise AttributeError("Handler '%s' missing on module '%s'" % (function, name))
    return getattr(module, function)


def default(value):
    import decimal

    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def give_up(api, error):
    """Tell why the function's code cannot be loaded, and end."""
    told = failure(error)
    for kind, name in CANNOT_LOAD:
        if isinstance(error, kind):
            told["errorType"] = name
            break
    print("[ERROR] %s: %s" % (told["errorType"], told["errorMessage"]), flush=True)
    api.ask("POST", "/init/error", json.dumps(told).encode(), TYPE_HEADER % told["errorType"])
    sys.exit(1)


def answer(handler, event, headers):
    """Call the handler: where its result, or its error, goes; that; and further headers."""
    try:
        result = handler(json.loads(event), Context(headers))
        if not isinstance(result, bytes):  # which Lambda gives on as they are
            result = json.dumps(result, default=default, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return "response", result, ""
    except MemoryError:
        # There is no more memory than the function was given, and Lambda kills what wants more.
        os.kill(os.getpid(), signal.SIGKILL)
    except Exception as error:
        told = {**failure(error), "requestId": headers["lambda-runtime-aws-request-id"]}
        if isinstance(error, TypeError) and "JSON serializable" in str(error):
            told["errorType"] = "Runtime.MarshalError"
            told["errorMessage"] = "Unable to marshal response: " + str(error)
        print(
            "[ERROR] %s: %s\nTraceback (most recent call last):\n%s"
            % (told["errorType"], told["errorMessage"], "".join(told["stackTrace"])),
            end="",
            flush=True,
        )
        return "error", json.dumps(told).encode(), TYPE_HEADER % told["errorType"]


def main():
    task = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
    sys.path[0] = task
    if packages := os.environ.pop("CLOUDLET_PACKAGES", ""):
        sys.path.append(packages)
    if (endpoint := os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://"):
        Plainly(endpoint)
    sys.stdout.reconfigure(line_buffering=True)
    logs = Logs()
    logging.root.addHandler(logs)
    if logs.json:
        logging.root.setLevel(os.environ.get("AWS_LAMBDA_LOG_LEVEL", "INFO").replace("TRACE", "DEBUG"))
    api = Api()
    try:
        handler = load()
    except BaseException as error:
        give_up(api, error)
    while True:
        headers, event = api.ask("GET", "/invocation/next")
        request = logs.request_id = headers["lambda-runtime-aws-request-id"]
        trace = headers.get("lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace
        path, body, extra = answer(handler, event, headers)
        sys.stdout.flush()
        sys.stderr.flush()
        api.ask("POST", "/invocation/%s/%s" % (request, path), body, "content-type: application/json\r\n" + extra)


main()
