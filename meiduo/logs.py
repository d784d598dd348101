"""The shop's logs and error reports: enough to investigate, without secrets and without whole mobile numbers."""

import logging
import re

from django.views.debug import ExceptionReporter
from pythonjsonlogger.json import JsonFormatter

MAX_VALUE = 200  # characters of one field of an audit event
MAX_MESSAGE = 2000
MADE_HERE = ("request_id", "time")  # fields left as they are: an id's digits may look like a mobile number by chance

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


class WithoutSecrets(logging.Filter):
    """Remove secrets from the message and the traceback of a record, whichever handler it goes to."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as exc:  # any class: it comes from the caller's format string or from an argument's __str__
            template = record.msg if isinstance(record.msg, str) else type(record.msg)
            message = f"{template} (cannot be written out: {type(exc).__name__})"
        record.msg, record.args = escape(clean(message)[:MAX_MESSAGE]), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text and not record.exc_text.startswith(" "):
            # Indented, so that no line of an exception's text looks like a record.
            record.exc_text = "\n".join(f"    {escape(line)}" for line in clean(record.exc_text).split("\n"))
        return True


class WithoutTraceback(logging.Filter):
    """Drop the traceback of records that any client can cause and that point to no bug."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        return True


class AuditFormatter(JsonFormatter):
    """Format a record as one line of JSON: UTC time, level, event, and the fields it was logged with."""

    def __init__(self) -> None:
        renamed = {"levelname": "level", "message": "event"}
        super().__init__(["levelname", "message"], rename_fields=renamed, timestamp="time")

    def process_log_record(self, log_data):
        return {
            name: value if name in MADE_HERE or not isinstance(value, str) else escape(clean(value)[:MAX_VALUE])
            for name, value in log_data.items()
        }


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
