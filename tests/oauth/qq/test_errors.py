"""QQ's error numbers: who can do something about each."""

import pytest

from apps.oauth.qq import QQError, QQMisconfigured, QQRejected, QQUnavailable
from apps.oauth.qq.errors import MISCONFIGURED, REJECTED
from tests.tools.requirements import requirement

from .conftest import make_client, paths

# By the table 公共返回码说明
USER = [100005, 100013, 100014, 100015, 100016, 100019, 100020, 100030, 110201]
OPERATOR = [
    *range(100000, 100005), *range(100006, 100013), 100028, 100029, 100031, 100044, 100048,
    110401, 110404, 110406, 110407,
]  # fmt: skip
QQ = [100017, 100018, *range(100021, 100028), 110405, *range(110500, 110505), -30001, 6000, 9999, 123456]


@requirement("8.9")
@pytest.mark.parametrize("shape", ["json", "jsonp"])
@pytest.mark.parametrize(("numbers", "error"), [(USER, QQRejected), (OPERATOR, QQMisconfigured), (QQ, QQUnavailable)])
def test_each_number_becomes_the_error_of_the_person_who_can_act_and_opens_no_circuit(qq, numbers, error, shape):
    client = make_client(qq)
    for number in numbers:
        qq.behave(errors=shape, token={"fault": "error", "number": number})
        with pytest.raises(QQError) as caught:
            client.identify("C0DE")
        # The message must not contain QQ's own text.
        expected = (error, number, f"QQ answered with error {number}")
        assert (type(caught.value), caught.value.number, str(caught.value)) == expected
    assert len(paths(qq)) == len(numbers)


def test_tables_hold_no_other_numbers():
    assert (sorted(REJECTED), sorted(MISCONFIGURED)) == (USER, OPERATOR)
