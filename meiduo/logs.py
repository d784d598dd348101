"""The shop's logs and error reports: enough to investigate, without secrets and without whole mobile numbers.

All logs of all processes have one shape, which LOG_FORMAT chooses, and one clock, which is UTC.
"""

import json
import logging
import re
import socket
import sys
import threading
import time
from logging.config import dictConfig

from django.http import HttpRequest
from django.views.debug import ExceptionReporter

from meiduo.environment import Env

MAX_VALUE = 200  # characters of one field
MAX_MESSAGE = 2000
MAX_TRACEBACK = 10_000  # Docker splits lines of more than 16 KiB
OUR_IDS = ("request_id", "flow")  # not cleaned: their digits may look like a mobile number by chance
# Attributes of a record that are not fields: Python's own, the names of JSONFormatter, and two that Django adds.
NO_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "time", "level", "logger", "traceback", "host"}
NO_FIELDS |= {"request", "server_time"}

QUERY = re.compile(r"\?\S*")  # may contain codes and states
JWT = re.compile(r"eyJ[\w-]{0,500}\.[\w.-]*", re.ASCII)
WORD = re.compile(r"[\w.:-]{43,}", re.ASCII)
RUN = re.compile(r"[\w-]{43,}", re.ASCII)  # 256 bits in base64: signatures, states and keys of the shop
QQ_VALUE = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[A-F])[0-9A-F]{32}(?![0-9A-Za-z])")  # QQ's codes, tokens and openids
# With two hyphens or none. With hyphens it must not be part of a longer word, such as a UUID.
MOBILE = re.compile(
    r"(?<![0-9])((?:(?:00)?86-?)?1[3-9][0-9])(-)?[0-9]{4}(?(2)-)([0-9]{4})(?(2)(?![\w-])|(?![0-9]))", re.ASCII
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
NEEDS_QUOTES = re.compile(r'[\s"=]|^$')


def clean(text: str) -> str:
    """Return the text without queries, whole mobile numbers and anything that looks like a token."""
    text = QUERY.sub("", text)
    if len(text) < 11:  # shorter than a mobile number and than any token
        return text
    text = JWT.sub("***", text)
    text = WORD.sub(lambda word: "***" if is_random(word[0]) else word[0], text)
    text = QQ_VALUE.sub("***", text)
    return MOBILE.sub(r"\1****\3", text)


def is_random(word: str) -> bool:
    # Random text mixes upper and lower case; long names of functions and settings do not.
    return any(run not in (run.lower(), run.upper()) for run in RUN.findall(word))


def escape(text: str) -> str:
    """Return the text with its control characters escaped, so that it cannot forge a line of the log."""
    return CONTROL.sub(lambda char: char[0].encode("unicode_escape").decode(), text)


def shorten(traceback: str) -> str:
    """Return the ends of a traceback that is too long: its first error, and its last."""
    half = MAX_TRACEBACK // 2
    return traceback if len(traceback) <= MAX_TRACEBACK else f"{traceback[:half]}\n…\n{traceback[-half:]}"


class WithoutSecrets(logging.Filter):
    """Remove secrets from the message and the traceback of a record, whichever handler it goes to."""

    format_exception = logging.Formatter().formatException

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as exc:  # any class: it comes from the caller's format string or from an argument's __str__
            template = record.msg if isinstance(record.msg, str) else type(record.msg)
            message = f"{template} (cannot be written out: {type(exc).__name__})"
        record.msg, record.args = escape(clean(message)[:MAX_MESSAGE]), None
        if not record.exc_text:
            record.exc_text = self.format_exception(record.exc_info) if record.exc_info else record.stack_info
        if record.exc_text:
            record.exc_text = "\n".join(escape(line) for line in shorten(clean(record.exc_text)).split("\n"))
        return True


class WithoutTraceback(logging.Filter):
    """Drop the traceback of records that any client can cause and that point to no bug."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


class LineFormatter(logging.Formatter):
    """Format a record that WithoutSecrets has cleaned. Its fields are cleaned here."""

    host = socket.gethostname()
    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def get_fields(self, record):
        """Return the record's fields, as numbers and clean text, with the id of its request and this machine's name."""
        fields = {}
        for name, value in vars(record).items():
            if name in NO_FIELDS or value is None:
                continue
            if not isinstance(value, (int, float)):
                value = escape(str(value) if name in OUR_IDS else clean(str(value))[:MAX_VALUE])
            fields[name] = value
        request = getattr(record, "request", None)
        if isinstance(request, HttpRequest):  # of runserver it is a socket
            from apps.oauth.audit import get_request_id  # not above: gunicorn's main process has no settings

            fields["request_id"] = get_request_id(request.META)
        return fields | {"host": self.host}


class TextFormatter(LineFormatter):
    """Format a record for people: a line, and the traceback below it.

    The traceback is indented, so that no line of an exception's text looks like a record.
    """

    def format(self, record):
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {record.getMessage()}"
        for name, value in self.get_fields(record).items():
            line += f" {name}={json.dumps(value, ensure_ascii=False) if NEEDS_QUOTES.search(str(value)) else value}"
        return "\n    ".join((line, *(record.exc_text or "").splitlines()))


class JSONFormatter(LineFormatter):
    """Format a record as one JSON object on one line."""

    encode = json.JSONEncoder().encode

    def format(self, record):
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self.get_fields(record),
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return self.encode(line)


def make_formatter():
    """Return the formatter that LOG_FORMAT names. settings.py refuses any value but text and json."""
    return JSONFormatter() if Env().str("LOG_FORMAT", "text") == "json" else TextFormatter()


def configure(config):
    """Configure logging, and log what Python itself would write to stderr: warnings and uncaught errors.

    Django calls it, as the setting LOGGING_CONFIG.
    """
    dictConfig(config)
    # No line shows them, and finding them out for each one costs 0.7 % of a login.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.captureWarnings(True)
    sys.excepthook = log_uncaught_exception
    if threading.excepthook is threading.__excepthook__:  # pytest sets its own
        threading.excepthook = log_exception_of_thread


def log_uncaught_exception(kind, exc, traceback):
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, exc, traceback)
    else:
        logging.getLogger(__name__).critical("Uncaught %s", kind.__name__, exc_info=(kind, exc, traceback))


def log_exception_of_thread(args):
    if not issubclass(args.exc_type, SystemExit):
        log_uncaught_exception(args.exc_type, args.exc_value, args.exc_traceback)


class ErrorReport(ExceptionReporter):
    """Django's error report, which a shop may have mailed to ADMINS: the exception and its stack.

    It has neither the request nor the variables of the stack, as these contain passwords, codes and tokens.
    """

    def __init__(self, request, exc_type, exc_value, tb, is_email=False):
        super().__init__(None if is_email else request, exc_type, exc_value, tb, is_email)

    def get_traceback_data(self):
        data = super().get_traceback_data()
        if self.is_email:
            data["settings"] = {}
            for frame in data["frames"]:
                frame["vars"] = []
            for name in data.keys() & {"exception_value", "exception_notes"}:
                data[name] = clean(str(data[name]))  # since Django 6.0 the value is the exception itself
        return data
