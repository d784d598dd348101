"""What the shop writes down: enough to investigate, nothing that lets anybody in, no whole mobile number."""

import logging
import re

from django.views.debug import ExceptionReporter
from pythonjsonlogger.json import JsonFormatter

MAX_VALUE = 200  # characters of one field of an audit event
MAX_MESSAGE = 2000

QUERY = re.compile(r"\?\S*")  # codes and states travel in them
JWT = re.compile(r"eyJ[\w-]{0,500}\.[\w.-]*", re.ASCII)
WORD = re.compile(r"[\w.:-]{43,}", re.ASCII)
RUN = re.compile(r"[\w-]{43,}", re.ASCII)  # 256 bits in base64, as every signature, state and key of the shop
QQ_VALUE = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[A-F])[0-9A-F]{32}(?![0-9A-Za-z])")  # QQ's codes, tokens and openids
# With two hyphens or none; with them it must not be in the middle of a longer word, as of a UUID.
MOBILE = re.compile(
    r"(?<![0-9])((?:(?:00)?86-?)?1[3-9][0-9])(-)?[0-9]{4}(?(2)-)([0-9]{4})(?(2)(?![\w-])|(?![0-9]))", re.ASCII
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def clean(text: str) -> str:
    """Return the text without queries, whole mobile numbers and whatever looks like a token."""
    text = QUERY.sub("", text)
    text = JWT.sub("***", text)
    text = WORD.sub(lambda word: "***" if is_random(word[0]) else word[0], text)
    text = QQ_VALUE.sub("***", text)
    return MOBILE.sub(r"\1****\3", text)


def is_random(word: str) -> bool:
    # By the letters' case: long names of functions and settings have one.
    return any(run not in (run.lower(), run.upper()) for run in RUN.findall(word))


def escape(text: str) -> str:
    """Return the text with its control characters in words: a line of a log ends where we end it."""
    return CONTROL.sub(lambda char: char[0].encode("unicode_escape").decode(), text)


class WithoutSecrets(logging.Filter):
    """Clean a record, its message and its traceback, for whatever handler it goes to."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as exc:  # of whoever logs, at whose call logging itself would only complain
            said = record.msg if isinstance(record.msg, str) else type(record.msg)
            message = f"{said} (cannot be written out: {type(exc).__name__})"
        record.msg, record.args = escape(clean(message)[:MAX_MESSAGE]), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text and not record.exc_text.startswith(" "):
            # Set in, so that no line of an exception's text looks like a record of its own.
            record.exc_text = "\n".join(f"    {escape(line)}" for line in clean(record.exc_text).split("\n"))
        return True


class WithoutTraceback(logging.Filter):
    """For what anybody can make us log, and what no bug of ours is behind."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


class AuditFormatter(JsonFormatter):
    """A record as one line of JSON: UTC time, level, event, and the fields it was logged with."""

    def __init__(self) -> None:
        renamed = {"levelname": "level", "message": "event"}
        super().__init__(["levelname", "message"], rename_fields=renamed, timestamp="time")

    def process_log_record(self, log_data):
        return {
            # An id goes through whole: by chance its digits may look like a mobile number's.
            name: escape(clean(value)[:MAX_VALUE]) if isinstance(value, str) and name != "request_id" else value
            for name, value in log_data.items()
        }


class ErrorReport(ExceptionReporter):
    """
    Django's report of an error, mailed to ADMINS where a shop asks for it: which exception, and the way to it.

    Without the request and the variables on the way: passwords, codes and tokens are among them, under any name.
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
                data[name] = clean(data[name])
        return data
