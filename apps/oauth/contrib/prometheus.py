"""Figures of the QQ login for Prometheus. Import this module where the shop starts; it needs prometheus-client.

They are in the library's default registry, and in its multiprocess files if PROMETHEUS_MULTIPROC_DIR is set. No label
has a value that a caller chooses, so nobody can create time series.
"""

import os
import threading
import time
from functools import cache
from typing import Any

from django.dispatch import receiver
from prometheus_client import Counter, Gauge, Histogram
from rest_framework.exceptions import APIException

from ..audit import Event
from ..conf import conf
from ..errors import ERRORS
from ..exception_handler import DRF_CODES
from ..qq import CIRCUIT_STATES, QQError, count_slots_in_use, get_circuits
from ..qq.errors import MISCONFIGURED, REJECTED
from ..qq.mini import INVALID_CODE
from ..signals import qq_audited

SAMPLE_INTERVAL = 1  # seconds between two samples of the gauges
OTHER = "other"

EVENTS = Counter(
    "qq_login_events",
    "Steps of logins, by the audit log's event, outcome and reason.",
    ["event", "outcome", "reason"],
)
LIMITS = Counter("qq_login_limits", "Calls that a rate limit or a locked account refused.", ["limit"])
QQ_ERRORS = Counter(
    "qq_login_qq_errors", "Logins for which QQ named no user, by error class and QQ's number.", ["reason", "number"]
)
QQ_SECONDS = Histogram(
    "qq_login_qq_seconds",
    "Time that QQ took to answer a login.",
    buckets=(0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3, 5, 10),
)
# livesum: of the processes that run, not of those that have ended
SLOTS_IN_USE = Gauge("qq_login_slots_in_use", "Slots for calls to QQ in use.", multiprocess_mode="livesum")
SLOTS = Gauge("qq_login_slots", "Slots for calls to QQ: QQ_MAX_CONCURRENCY.", multiprocess_mode="livesum")
CIRCUITS = Gauge(
    "qq_login_circuits",
    "Processes by the state of a circuit breaker.",
    ["service", "state"],
    multiprocess_mode="livesum",
)

ASKING = (Event.LOGIN, Event.BIND_TOKEN)  # these end a step that may have asked QQ; its other events have qq_ms too
REASONS = {"no_cookie", "repeated", "unionid", "OtherOpenid", *ERRORS, *DRF_CODES.values()}
NUMBERS = {*range(100000, 100050), *REJECTED, *MISCONFIGURED, INVALID_CODE}
# These series start at 0: Prometheus sees no increase in a series that starts at 1.
ALARMS = ("QQMisconfigured", "QQCertificateError", "QQForeignToken", "QQForeignAppToken", "OtherOpenid")

for alarm in ALARMS:
    EVENTS.labels(Event.QQ, "alarm", alarm)

_sampling_process: int | None = None


@receiver(qq_audited)
def count_event(event: str, fields: dict[str, Any], **kwargs: Any) -> None:
    """Count an event of the audit log."""
    start_sampling()
    reason = fields.get("reason", "")
    if reason and reason not in get_reasons():
        reason = OTHER  # such as the reason that an employee has typed at an unbind
    EVENTS.labels(event, fields["outcome"], reason).inc()
    if event == Event.LIMIT:
        LIMITS.labels(fields["limit"]).inc()
    elif event == Event.QQ:
        number = fields.get("number", "")
        QQ_ERRORS.labels(reason, number if number == "" or number in NUMBERS else OTHER).inc()
    elif event in ASKING and "qq_ms" in fields:
        QQ_SECONDS.observe(fields["qq_ms"] / 1000)


def start_sampling() -> None:
    """Sample this process's gauges from now on. The first event does it too; a process forked later starts anew."""
    global _sampling_process
    if _sampling_process != os.getpid():
        _sampling_process = os.getpid()
        threading.Thread(target=_sample_forever, name="qq-login-metrics", daemon=True).start()


def sample() -> None:
    """Set the gauges of this process."""
    SLOTS.set(conf.MAX_CONCURRENCY)
    SLOTS_IN_USE.set(count_slots_in_use())
    circuits = get_circuits()
    for service in {service for service, _ in circuits}:
        for state in CIRCUIT_STATES:
            CIRCUITS.labels(service, state).set(circuits.count((service, state)))


def _sample_forever() -> None:
    while True:
        sample()
        time.sleep(SAMPLE_INTERVAL)


@cache
def get_reasons() -> set[str]:
    """Return the reasons that are counted by name: constants of the code, the shop's own error codes included."""
    codes = {getattr(error, "error_code", OTHER) for error in _find_subclasses(APIException)}
    return REASONS | {error.__name__ for error in _find_subclasses(QQError)} | codes


def _find_subclasses(base: type) -> set[type]:
    return {base}.union(*map(_find_subclasses, base.__subclasses__()))
