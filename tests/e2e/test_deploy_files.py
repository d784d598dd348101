"""The files of deploy/ for containers: valid by their own schemas, and in agreement with each other and the shop."""

import os
import re
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from tests.meiduo.test_settings import PRODUCTION
from tests.tools.processes import ROOT

DEPLOY = ROOT / "deploy"
GUNICORNS_SECONDS = 30  # its graceful_timeout


def read(name):
    return (DEPLOY / name).read_text("utf-8")


def read_documents(name):
    """Return the documents of a YAML file, by their kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(read(name))}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(read("compose.yaml"))


@pytest.fixture(scope="module")
def shop():
    return read_documents("kubernetes/shop.yaml")


@pytest.fixture(scope="module")
def pods(shop):
    """The specifications of the pods: the servers', and the migration's."""
    job = read_documents("kubernetes/migrate.yaml")["Job"]
    return [document["spec"]["template"]["spec"] for document in (shop["Deployment"], job)]


@pytest.fixture(scope="module")
def example():
    """The variables of .env.example, those in comments too."""
    return dict(re.findall(r"^#?([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))


def test_compose_file_is_valid():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, DEPLOY / "compose.yaml"], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in (DEPLOY / "kubernetes").iterdir()))
def test_manifests_are_valid(name):
    for document in yaml.safe_load_all(read(f"kubernetes/{name}")):
        kubernetes_validate.validate(document, "1.31", strict=True)


def test_pods_are_restricted_and_run_the_same_image_as_the_user_of_the_dockerfile(pods):
    dockerfile = read("Dockerfile")
    (user,) = re.findall(r"^USER (\d+):\1$", dockerfile, re.MULTILINE)
    assert f"--owner={user} --group={user} /run/meiduo" in dockerfile
    for pod in pods:
        context = {"runAsNonRoot": True, "runAsUser": int(user), "runAsGroup": int(user)}
        assert context | {"seccompProfile": {"type": "RuntimeDefault"}} == pod["securityContext"]
        assert [pod["automountServiceAccountToken"], pod["enableServiceLinks"]] == [False, False]
        (container,) = pod["containers"]
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == restricted | {"readOnlyRootFilesystem": True}
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]
    assert len({pod["containers"][0]["image"] for pod in pods}) == 1


def test_image_copies_only_what_may_enter_the_build():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", read("Dockerfile"), re.MULTILINE)
    allowed = [line[1:] for line in read("Dockerfile.dockerignore").splitlines() if line.startswith("!")]
    assert "*" in read("Dockerfile.dockerignore").splitlines()
    for source in " ".join(copied).split():
        assert source.split("/")[0] in allowed
        assert list(ROOT.glob(source))


def test_servers_have_time_to_drain_and_to_finish_calls(compose, shop, pods):
    drain = int(shop["ConfigMap"]["data"]["DRAIN_SECONDS"])
    probe = pods[0]["containers"][0]["readinessProbe"]
    assert drain > probe["failureThreshold"] * (probe["periodSeconds"] + probe["timeoutSeconds"])
    assert pods[0]["terminationGracePeriodSeconds"] > drain + GUNICORNS_SECONDS
    service = compose["services"]["shop"]
    drain = int(service["environment"]["DRAIN_SECONDS"])
    assert int(service["stop_grace_period"].removesuffix("s")) > drain + GUNICORNS_SECONDS


def test_selectors_find_the_pods_and_half_of_their_slots_scale_them(shop):
    labels = shop["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert shop["Service"]["spec"]["selector"] == labels
    for document in (shop["Deployment"], shop["PodDisruptionBudget"]):
        assert document["spec"]["selector"]["matchLabels"] == labels
    assert shop["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    variables = shop["ConfigMap"]["data"]
    slots = int(variables["WEB_CONCURRENCY"]) * int(variables["THREADS"]) * 3 // 4
    metric = shop["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]
    assert (metric["metric"]["name"], int(metric["target"]["averageValue"])) == ("qq_login_slots_in_use", slots // 2)


def test_files_name_variables_that_the_shop_reads(example, shop, compose):
    sources = "".join((ROOT / "meiduo" / name).read_text("utf-8") for name in ("settings.py", "server.py", "logs.py"))
    known = {*re.findall(r"\.\w+\(\s*\"([A-Z_]+)\"", sources), "MARIADB_PASSWORD"}
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SERVICE_NAME"}
    container = shop["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    set_here = {*shop["ConfigMap"]["data"], *(entry["name"] for entry in container["env"])} - {"POD_IP"}
    assert {*example, *set_here, *compose["services"]["shop"]["environment"]} - known - standard == set()
    needed = set(re.findall(r"\$\{(\w+):\?", read("compose.yaml")))
    assert needed <= {name for name, value in example.items() if not value}


def test_shop_starts_in_production_with_the_example_filled_in(example):
    """The example has a value, or an empty place, for everything that production needs."""
    active = dict(re.findall(r"^([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))
    filled = {name: value or PRODUCTION.get(name, "a-value-of-yours") for name, value in active.items()}
    environ = {"PATH": os.environ["PATH"], "DATABASE_URL": PRODUCTION["DATABASE_URL"], **filled}
    environ["CACHE_URL"] = PRODUCTION["CACHE_URL"]
    code = "from meiduo import settings; assert settings.PRODUCTION"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_no_file_holds_a_secret(example):
    assert [name for name, value in example.items() if value and re.search("PASSWORD|SECRET|_KEY|KEY$", name)] == []
    texts = read("compose.yaml") + read("kubernetes/shop.yaml") + read("kubernetes/migrate.yaml")
    assert re.findall(r"(?<!RANDOM_ROOT_)PASSWORD: (?!\$)|mysql://\w+:(?!\$)", texts) == []
