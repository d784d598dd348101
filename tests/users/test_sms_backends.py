"""The back ends over the vendors' SDKs, against servers that play their APIs."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import trustme
from django.conf import settings
from django.core.checks import run_checks
from django.utils.module_loading import import_string

from apps.users.sms import SMSError
from tests.oauth.qq.conftest import raw_server, read_request, sending
from tests.tools import processes
from tests.tools.requirements import requirement
from tests.users.checks import assert_error
from tests.users.sms_vendors import KEY, KEY_ID, NUMBER, Aliyun, Tencent, serving

# The SDK of Tencent Cloud signs with it.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp:DeprecationWarning")

UNREADABLE = "the answer cannot be read"


@pytest.fixture(params=[Tencent, Aliyun])
def vendor(request, settings):
    """A vendor without its server, chosen in the settings."""
    vendor = request.param()
    settings.SMS_BACKEND = vendor.backend
    for name, value in vendor.settings.items():
        setattr(settings, name, value)
    return vendor


@pytest.fixture
def api(vendor, settings):
    """The vendor's API."""
    with serving(vendor):
        settings.SMS_API_URL = vendor.url
        yield vendor


def send(code="123456"):
    import_string(settings.SMS_BACKEND)(NUMBER, code, 5)


def failure():
    """Send a message; return the reason why it was not accepted."""
    with pytest.raises(SMSError) as caught:
        send()
    assert caught.value.__cause__ is None  # it may quote the message
    return str(caught.value)


def test_code_reaches_the_vendor_for_the_users_number(api, phone, caplog):
    assert phone.ask_for_code().json() == {"message": "OK"}
    ((number, code, minutes),) = api.messages
    assert (number, len(code), code.isdecimal(), minutes) == (NUMBER, 6, True, "5")


@pytest.mark.parametrize("kind", ["result", "failure"])
def test_refusal_is_reported_to_the_user_and_its_code_to_the_log(api, phone, caplog, kind):
    api.answers = [getattr(api, kind)(api.refused)]
    assert_error(phone.ask_for_code(), 503, "sms_unavailable", "短信发送失败，请稍后再试。")
    assert [record.getMessage() for record in caplog.records if record.name == "apps.users.sms_backends"] == [
        f"{'Aliyun' if isinstance(api, Aliyun) else 'Tencent Cloud'} has not accepted an SMS: {api.refused}"
    ]
    assert len(api.targets) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "text/html", ""])
def test_error_is_seen_whatever_the_type_of_the_answer(api, content_type):
    api.answers = [api.failure("InternalError", content_type)]
    assert failure() == "InternalError"


def test_wrong_key_is_refused(api, settings):
    for name, value in api.settings.items():
        setattr(settings, name, value.replace(KEY, "another"))
    assert failure() == "SignatureDoesNotMatch"
    assert api.messages == []


@pytest.mark.parametrize("code", [f"for {NUMBER}", "code.123456", KEY_ID + "1", "", None, ["OK"], "ok"])
def test_only_a_known_success_counts_and_only_a_plain_code_is_repeated(api, code):
    api.answers = [api.result(code)]
    assert failure() == (code if code == "ok" else UNREADABLE)


GARBAGE = ["", "x", "null", "7", "[]", "{}", '"OK"', '{"Code": "OK"', "[" * 15_000, "x" * 20_000]
GARBAGE += [
    '{"Response": null}',
    '{"Response": {}}',
    '{"Response": {"Error": 7}}',
    '{"Response": {"SendStatusSet": 7}}',
]
GARBAGE += [
    f'{{"Response": {{"SendStatusSet": {value}}}}}' for value in ("[]", "[null]", '[{"Code": "Ok"}, {"Code": "Ok"}]')
]


@pytest.mark.parametrize("text", GARBAGE)
def test_garbage_is_not_success(api, text):
    api.answers = [(200, "application/json", text)]
    failure()
    assert len(api.targets) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308, 429, 500, 503])
def test_message_is_sent_once_whatever_the_status(api, status):
    _, content_type, text = api.result(api.accepted)
    api.answers = [(status, content_type, text)]
    failure()
    assert len(api.targets) == 1


def test_answer_after_five_seconds_is_too_late(vendor, settings):
    _, _, text = vendor.result(vendor.accepted)
    head, rest = b"HTTP/1.1 200 OK\r\nX: ", f"\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()

    def keep_silent_or_drip(connection, over):
        is_first = len(accepted) == 1
        read_request(connection)
        connection.sendall(b"" if is_first else head)
        for _ in range(50):
            over.wait(0.1)
            connection.sendall(b"" if is_first else b"x")
        connection.sendall(head + rest if is_first else rest)

    with raw_server(keep_silent_or_drip) as (settings.SMS_API_URL, accepted), ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(failure) for _ in range(2)]
        assert [call.result() for call in calls] == ["TimeoutError"] * 2
        assert len(accepted) == 2


def test_broken_connection_is_not_tried_again(vendor, settings):
    for pieces in ([], [b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"], [b"\x00\xff\r\n"]):
        with raw_server(sending(*pieces)) as (settings.SMS_API_URL, accepted):
            failure()
            assert len(accepted) == 1


def test_refused_connection_is_a_failure(vendor, settings):
    settings.SMS_API_URL = f"http://127.0.0.1:{processes.free_port()}"
    assert failure() == "ConnectionRefusedError"


def test_threads_send_at_once(api):
    codes = [f"{number:06}" for number in range(20)]
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(send, codes))
    assert sorted(api.messages) == [(NUMBER, code, "5") for code in codes]


def test_proxy_of_the_environment_is_not_used(api, monkeypatch):
    with raw_server(sending()) as (proxy, accepted):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
            monkeypatch.setenv(name.lower(), proxy)
        send()
        assert (len(api.messages), accepted) == (1, [])


@pytest.mark.parametrize("is_trusted", [True, False])
def test_certificate_is_verified(vendor, settings, tmp_path, monkeypatch, is_trusted):
    authority, trusted = trustme.CA(), tmp_path / "trusted.pem"
    (authority if is_trusted else trustme.CA()).cert_pem.write_to_path(trusted)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with serving(vendor, authority.issue_cert("127.0.0.1")):
        settings.SMS_API_URL = vendor.url
        if is_trusted:
            send()
        else:
            assert failure().startswith("the certificate is not accepted")
        assert len(vendor.targets) == is_trusted


SEND_AND_LOG_EVERYTHING = """
import logging, sys
import django
django.setup()
from django.conf import settings
from django.utils.module_loading import import_string
from apps.users.sms import SMSError
send = import_string(settings.SMS_BACKEND)
logging.basicConfig(level=1, format="%(name)s %(message)s", force=True)
for name in list(logging.root.manager.loggerDict):
    logging.getLogger(name).setLevel(1)
for url in sys.argv[3:]:
    settings.SMS_API_URL = url
    try:
        send(sys.argv[1], sys.argv[2], 5)
        print("accepted")
    except SMSError as exc:
        print(exc)
for name in set(logging.root.manager.loggerDict) - set(settings.LOGGING["loggers"]):
    logging.getLogger(name).error("last")
"""


def run_alone(vendor, var, *arguments):
    """Run Python in a process of its own, with the settings of the vendor."""
    environ = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "meiduo.settings", "VAR_DIR": str(var)}
    environ |= vendor.settings | {"SMS_BACKEND": vendor.backend, "PYTHONUTF8": "1"}
    options = {"cwd": processes.ROOT, "env": environ, "capture_output": True, "encoding": "utf-8", "timeout": 60}
    return subprocess.run([sys.executable, *arguments], check=False, **options)


@requirement("15.14", "10.2", "10.7")
def test_no_number_code_or_key_is_written_at_any_level(vendor, tmp_path):
    """In a process of its own, whose whole output is read: the SDKs bring handlers of their own."""
    code, closed = "482915", f"http://127.0.0.1:{processes.free_port()}"
    with serving(vendor):
        garbage = 200, "text/plain", f"{NUMBER} {code} {KEY}"
        vendor.answers = [vendor.result(vendor.refused), vendor.failure("InternalError"), garbage]
        urls = [vendor.url] * 4 + [closed]
        done = run_alone(vendor, tmp_path, "-Wdefault", "-c", SEND_AND_LOG_EVERYTHING, NUMBER, code, *urls)
        assert len(vendor.targets) == 4
    results = [vendor.refused, "InternalError", "JSONDecodeError", "accepted", "ConnectionRefusedError"]
    assert done.stdout.splitlines() == results
    lines = done.stderr.splitlines()
    assert "apps.users.sms_backends last" in lines
    assert "--- Logging error ---" not in lines
    assert "last" not in lines  # from a handler that the SDK has added
    assert not [secret for secret in (NUMBER, code, KEY, KEY_ID) if secret in done.stdout + done.stderr]


def found(number):
    return [(error.msg, error.hint) for error in run_checks() if error.id == f"users.{number}"]


def test_check_names_what_is_not_set_for_the_chosen_vendor(vendor, settings):
    assert found("E003") == []
    for name in vendor.settings:
        setattr(settings, name, "")
    ((message, _),) = found("E003")
    assert message.endswith(f" these are not set: {', '.join(vendor.settings)}")
    settings.SMS_BACKEND = "apps.users.development.send_sms"
    assert found("E003") == []


def test_check_names_the_command_that_installs_a_missing_sdk(vendor, tmp_path):
    """In a process of its own, which finds no SDK."""
    hide = "import sys; sys.modules.update(tencentcloud=None, alibabacloud_dysmsapi20170525=None); "
    check = "from django.core.management import execute_from_command_line as run; run(['manage.py', 'check'])"
    done = run_alone(vendor, tmp_path, "-c", hide + check)
    name = "aliyun" if isinstance(vendor, Aliyun) else "tencent"
    assert "(users.E002)" in done.stderr
    assert f"python -m pip install -r apps/users/sms_backends/requirements-{name}.txt" in done.stderr
    assert done.returncode == 1
