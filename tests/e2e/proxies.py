"""nginx and haproxy with the files of deploy/, in which only names, ports and paths are replaced."""

import os
import re
from contextlib import contextmanager

import pytest
import trustme

from tests.tools import processes
from tests.tools.processes import HOST, ROOT


@contextmanager
def certificate(folder):
    """Put a key and a certificate into the folder; this process trusts their authority while the block runs."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued = authority.issue_cert(HOST)
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "fullchain.pem", append=True)
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "meiduo.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
        yield


def adapt(name, replacements):
    """Return the text of a file of deploy/ with these patterns replaced, and without haproxy's user of Debian."""
    text = re.sub(" +(user|group) haproxy\n", "", (ROOT / "deploy" / name).read_text(encoding="utf-8"))
    for ours, here in replacements.items():
        text, count = re.subn(ours, here, text)
        assert count, ours
    return text


@contextmanager
def nginx(folder, certificate, upstream):
    """Run nginx with the site of deploy/ and a minimal nginx.conf; the block gets its http and https addresses."""
    folder.mkdir()
    http, https = processes.free_port(), processes.free_port()
    site = {
        r"listen \[::\]:\d+.*;": "",
        r"listen 80;": f"listen {HOST}:{http};",
        r"listen 443 ": f"listen {HOST}:{https} ",
        r"api\.shop\.example": HOST,
        r"unix:/run/meiduo/shop\.sock": upstream,
        r"/etc/ssl/meiduo": str(certificate),
        r"/var/log/nginx": str(folder),
    }
    (folder / "site.conf").write_text(adapt("nginx.conf", site))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder / kind};" for kind in kinds)
    main = folder / "main.conf"
    main.write_text(
        f"daemon off; pid {folder / 'pid'}; {'user root;' if os.geteuid() == 0 else ''}"
        f"events {{}} http {{ {temporary} include {folder / 'site.conf'}; }}"
    )
    log = folder / "start.log"
    with processes.listening(https, [processes.find("nginx"), "-e", str(log), "-c", str(main)], log):
        yield f"http://{HOST}:{http}", f"https://{HOST}:{https}"


@contextmanager
def haproxy(folder, certificate, *servers):
    """Run haproxy with the file of deploy/ before these one or two servers, each an address with its options.

    The block gets its http and https addresses. Its log is haproxy.log in the folder.
    """
    http, https = processes.free_port(), processes.free_port()
    config, log = folder / "haproxy.cfg", folder / "haproxy.log"
    replacements = {
        r"bind :80": f"bind {HOST}:{http}",
        r"bind :443": f"bind {HOST}:{https}",
        r"api\.shop\.example": HOST,
        r"/etc/haproxy": str(certificate),
        r"(?<=shop1 )10\.0\.0\.11:8000": servers[0],
        r".*10\.0\.0\.12:8000": f"    server shop2 {servers[1]}" if servers[1:] else "",
    }
    config.write_text(adapt("haproxy.cfg", replacements), encoding="utf-8")
    with processes.listening(https, [processes.find("haproxy"), "-W", "-db", "-f", str(config)], log):
        yield f"http://{HOST}:{http}", f"https://{HOST}:{https}"
