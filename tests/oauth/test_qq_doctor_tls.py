"""manage.py qq_doctor on the way to the database: whether a real MariaDB is reached over verified TLS."""

from contextlib import closing

import pytest
import trustme
from django.conf import settings
from django.db import OperationalError, connection, connections

from meiduo.environment import database
from tests.oauth import test_qq_doctor
from tests.tools import processes

ALIAS = "over_tls"
OTHER_HOST = "0.0.0.0"  # Linux connects it to this machine, but it is not in the loopback network
USE_TLS = 'Add "ssl": {"ca": "/path/of/ca.pem"} and "ssl_mode": "VERIFY_IDENTITY" to its OPTIONS.'
ACCESS = "Check its user and password. A server that demands TLS may refuse plain text with this number too."
TLS_FAILED = "TLS failed: the certificate is not by ssl's ca or not for this host, or the server offers no TLS."

plugged_in = test_qq_doctor.plugged_in


class Routers:
    """Database routers of a shop whose bindings are in the database of this alias."""

    def db_for_write(self, model, **hints):
        return ALIAS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Files: the CA, the certificate of a server at OTHER_HOST with its key, and another CA."""
    folder, authority = tmp_path_factory.mktemp("certificates"), trustme.CA()
    issued = authority.issue_cert(OTHER_HOST)
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key", "other")}
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    trustme.CA().cert_pem.write_to_path(files["other"])
    return files


@pytest.fixture(scope="module")
def server(certificates, tmp_path_factory):
    """The URL of a MariaDB that offers TLS; its socket is {folder}/database.sock."""
    options = [f"--ssl-{name}={certificates[name]}" for name in ("ca", "cert", "key")]
    folder = tmp_path_factory.mktemp("mariadb")
    with processes.database(folder, None, *options) as url:
        yield url, folder


@pytest.fixture
def examine(shop, django_db_blocker):
    """A function: return the doctor's findings about a connection to these database settings."""

    def examine(**database):
        connections.databases[ALIAS] = {**connections.databases["default"], **database}
        try:
            found = test_qq_doctor.findings()
        finally:
            connections[ALIAS].close()
            del connections.databases[ALIAS], connections[ALIAS]
        return [finding for finding in found if "Migrations are not applied" not in finding[1]]

    test_qq_doctor.put_in_order(shop)
    shop.DATABASE_ROUTERS = [f"{__name__}.Routers"]
    with django_db_blocker.unblock():  # the fixture db forbids connections that its databases do not name
        yield examine


@pytest.mark.servers
def test_connection_to_another_host_must_be_encrypted_and_verified(examine, server, certificates):
    url = server[0].replace(processes.HOST, OTHER_HOST)
    with_ca = database(f"{url}?ssl_ca={certificates['ca']}")
    ((kind, problem, hint),) = examine(**with_ca)
    assert (kind, hint) == ("note", "")
    assert problem.startswith("The connection to the database is encrypted and verified (TLS_")

    place = f"The connection to the database at {OTHER_HOST} is"
    assert examine(**database(url)) == [("warning", f"{place} plain text.", USE_TLS)]
    for unverified in ({"ssl_mode": "REQUIRED"}, {"ssl": with_ca["OPTIONS"]["ssl"]}):
        warning = ("warning", f"{place} encrypted, but the server is not verified.", USE_TLS)
        assert examine(**database(url) | {"OPTIONS": unverified}) == [warning]


@pytest.mark.servers
def test_plain_text_within_the_machine_is_no_problem(examine, server):
    url, folder = server
    assert examine(**database(url)) == []
    assert examine(**database(url) | {"HOST": str(folder / "database.sock"), "PORT": ""}) == []


@pytest.mark.servers
@pytest.mark.parametrize(
    ("host", "authority"),
    [(OTHER_HOST, "other"), (processes.HOST, "ca"), ("no TLS", "ca")],
    ids=["another authority", "another name", "no TLS"],
)
@pytest.mark.parametrize("mode", ["VERIFY_IDENTITY", "VERIFY_CA"])
def test_server_that_cannot_be_verified_is_refused(examine, server, certificates, host, authority, mode):
    url = server[0].replace(processes.HOST, host)
    if host == "no TLS":
        default = settings.DATABASES["default"]
        url = f"mysql://{default['USER']}:{default['PASSWORD']}@{default['HOST']}:{default['PORT']}/mysql"
    found = examine(**database(f"{url}?ssl_ca={certificates[authority]}&ssl_mode={mode}"))
    assert found == [("wrong", f'DATABASES["{ALIAS}"] cannot be used: OperationalError 2026.', TLS_FAILED)]


@pytest.mark.servers
def test_plain_text_that_the_server_refuses_is_explained(examine, server, certificates):
    url = server[0].replace(processes.HOST, OTHER_HOST)
    connections.databases[ALIAS] = {**connections.databases["default"], **database(server[0])}
    with closing(connections.create_connection(ALIAS)) as other, other.cursor() as cursor:
        cursor.execute("SET GLOBAL require_secure_transport = ON")
        try:
            # MariaDB 10.11. MariaDB 11.8 and MySQL 9.7 answer 3159.
            error = f'DATABASES["{ALIAS}"] cannot be used: OperationalError 1045.'
            assert examine(**database(url)) == [("wrong", error, ACCESS)]
            assert examine(**database(f"{url}?ssl_ca={certificates['ca']}"))[0][0] == "note"
        finally:
            cursor.execute("SET GLOBAL require_secure_transport = OFF")


def test_server_that_demands_tls_by_its_own_error_number_is_explained(plugged_in):
    def refuse(*args):
        raise OperationalError(3159, "Connections using insecure transport are prohibited")

    with connection.execute_wrapper(refuse):
        ((_, problem, hint),) = test_qq_doctor.findings()
    assert problem == 'DATABASES["default"] cannot be used: OperationalError 3159.'
    assert hint == f"The server demands TLS. {USE_TLS}"
