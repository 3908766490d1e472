"""The files for a realm in containers: NATS and brokers accept them, and they fit each other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.harness import ENVIRONMENT, ROOT, BrokerProcess, eventually
from support.keyring import KeyRing
from support.nats_servers import PERMISSIONS, NatsServer, free_ports
from support.realm_processes import outcome

from ringback import Player, Server
from ringback_broker.daemon.settings_file import read_settings
from ringback_broker.settings.kinds import check_name
from ringback_broker.settings.schema import SETTINGS
from ringback_cli.app import run
from ringback_cli.exits import Exit

DEPLOY = ROOT / "deploy"
DOCKER, KUBERNETES = DEPLOY / "docker", DEPLOY / "kubernetes"
NODES = ("a", "b", "c")


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DOCKER / "realm.compose.yaml").read_text())
    return found


def objects(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the objects of a manifest, by kind and name."""
    found = list(yaml.safe_load_all((KUBERNETES / name).read_text()))
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(by_name) == len(found)
    return by_name


REALM, NATS = objects("realm.yaml"), objects("nats.yaml")


def pod(kind: str, name: str, where: dict[tuple[str, str], dict[str, Any]] = REALM) -> dict[str, Any]:
    found: dict[str, Any] = where[kind, name]["spec"]["template"]["spec"]
    return found


def settings_of_kubernetes() -> str:
    text: str = REALM["ConfigMap", "ringback-realm"]["data"]["ringback.toml"]
    return text


def documented(marker: str) -> str:
    """Return the commands in docs/scale.md after a marker."""
    [commands] = re.findall(
        rf"<!-- {marker} -->\n\n```sh\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL
    )
    return str(commands)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like deploy/docker/keys, made by the commands of docs/scale.md."""
    folder = tmp_path_factory.mktemp("deploy") / "docker"
    (folder / "keys").mkdir(parents=True)
    (folder.parent / "nats").symlink_to(DEPLOY / "nats")
    commands = documented("the users of NATS")
    assert commands.startswith("cd deploy/docker\n")
    done = subprocess.run(
        ["bash", "-euc", commands.partition("\n")[2]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "keys"


class FileServer(NatsServer):
    """A NATS server that runs a configuration of `deploy`, with addresses and folders of this test."""

    file: str = ""
    users: Path

    def config(self) -> str:
        text = self.file.replace("0.0.0.0:4222", f"127.0.0.1:{self.port}")
        text = text.replace("0.0.0.0:6222", f"127.0.0.1:{self.route_port}")
        text = re.sub(r"http: \S+", "", text).replace('"/data"', f'"{self.folder}/data"')
        text = re.sub(r'include ".*"', f'include "{self.users.name}"', text)
        (self.folder / self.users.name).write_bytes(self.users.read_bytes())
        for number, port in enumerate(self.routes):
            text = re.sub(
                rf"nats://(n{number + 1}|nats-{number}\.nats):6222", f"nats://127.0.0.1:{port}", text
            )
        assert text.count("nats://127.0.0.1:") == 3
        return f"server_name: {self.name}\n{text}"


def nats_servers(stack: ExitStack, file: str, users: Path) -> list[FileServer]:
    """Start three NATS servers with a configuration of `deploy`."""
    ports, routes = free_ports(3), free_ports(3)
    servers = []
    for number in range(3):
        server = FileServer(
            port=ports[number], name=f"n{number + 1}", routes=tuple(routes), route_port=routes[number]
        )
        server.file, server.users = file, users
        servers.append(server)
        stack.callback(server.close)
        server.start(waits=False)
    return servers


def readiness(url: str) -> int:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_realm_from_the_files(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NATS, the command that makes the realm, and the brokers, all as the compose file starts them."""
    ring = KeyRing(tmp_path)
    anna, shop = ring.add("anna", "player", 7), ring.add("shop", "server")
    (tmp_path / "http.token").write_text("a token of enough characters\n")
    with ExitStack() as stack:
        servers = nats_servers(stack, (DEPLOY / "nats" / "nats.conf").read_text(), keys / "users.conf")
        text = re.sub(r":577\d\"", ':0"', (DOCKER / "realm.toml").read_text())
        for server in servers:
            text = text.replace(f"nats://{server.name}:4222", server.address)
        text = text.replace('"keys/nats.toml"', f'"{keys}/nats.toml"').replace('"keys/', f'"{tmp_path}/')
        path = tmp_path / "ringback.toml"
        path.write_text(text)
        [command] = compose()["services"]["create"]["command"]
        found = re.fullmatch(r"until ringback (realm create .*); do sleep 2; done", command)
        assert found is not None
        arguments = found[1].replace("keys/", f"{keys}/").split()
        eventually(lambda: run([*arguments, "--config", str(path)]) == Exit.OK, "NATS has a leader")
        assert "the realm main is " in capsys.readouterr().out
        brokers = {}
        for name in NODES:
            environment = compose()["services"][name]["environment"]
            assert environment["RINGBACK_NODE"] == name and environment.keys() <= variables()
            brokers[name] = stack.enter_context(
                BrokerProcess(
                    "tcp://0.0.0.0:0",
                    "tcp://0.0.0.0:0",
                    ("--config", str(path)),
                    {**environment, "RINGBACK_HTTP": "127.0.0.1:0"},
                )
            )
        for name, broker in brokers.items():
            ready = json.loads(next(line for line in broker.process.lines if "ready players" in line))
            [url] = re.findall(r" http=(\S+)", ready["message"])
            eventually(lambda url=url: readiness(url) == 200, f"node {name} is in its realm")  # type: ignore[misc]
        at = {name: broker.backend.replace("0.0.0.0", "127.0.0.1") for name, broker in brokers.items()}
        server = Server(at["a"], key_file=shop, connect_timeout=60)
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        address = brokers["c"].players.replace("0.0.0.0", "127.0.0.1")
        with server, Player(address, key_file=anna, connect_timeout=60) as player:
            eventually(
                lambda: outcome(lambda: player.trigger_server_callback("echo", 1)) == [7, 1], "calls cross"
            )


def variables() -> set[str]:
    return {setting.variable for setting in SETTINGS.values()}


def test_both_kinds_have_the_same_configuration() -> None:
    """They differ in the names of hosts and the paths of files."""

    def of_docker(text: str) -> str:
        text = re.sub(r"nats-([012])\.nats", lambda found: f"n{int(found[1]) + 1}", text)
        return text.replace('"/keys/', '"keys/').replace("users/users.conf", "users.conf")

    without_comments = re.sub(r"^#.*\n", "", (DOCKER / "realm.toml").read_text())
    assert of_docker(settings_of_kubernetes()) == without_comments
    nats = of_docker(NATS["ConfigMap", "nats"]["data"]["nats.conf"])
    assert nats.replace("http: 0.0.0.0:", "http: 127.0.0.1:") == (DEPLOY / "nats" / "nats.conf").read_text()


def test_the_users_have_the_permissions_of_the_document(keys: Path) -> None:
    text = (DEPLOY / "nats" / "users.conf").read_text()
    assert text.partition("\n")[2] == PERMISSIONS
    users = (keys / "users.conf").read_text()
    assert "-secret" not in users
    for name, user in (("nats-admin.toml", "admin"), ("nats.toml", "node")):
        path = keys / name
        assert path.stat().st_mode & 0o777 == 0o600
        found = re.fullmatch(r'user = "(\w+)"\npassword = "([0-9a-f]{32})"\n', path.read_text())
        assert found is not None and found[1] == user and f'"{found[2]}"' in users


def test_settings_and_times_to_stop_agree(tmp_path: Path) -> None:
    services = compose()["services"]
    for text in ((DOCKER / "realm.toml").read_text(), settings_of_kubernetes()):
        path = tmp_path / "ringback.toml"
        path.write_text(text)
        settings = read_settings(str(path)).settings
        assert (settings.realm, settings.node) == ("main", None)
        assert settings.players.endswith(":5770") and settings.backend.endswith(":5771")
        assert settings.grace < pod("StatefulSet", "ringback")["terminationGracePeriodSeconds"]
        assert all(settings.grace < int(services[name]["stop_grace_period"][:-1]) for name in NODES)


def test_compose_mounts_files_that_exist() -> None:
    services = compose()["services"]
    assert list(services) == ["n1", "n2", "n3", "create", *NODES]
    made = documented("the users of NATS")
    for service in services.values():
        for volume in service["volumes"]:
            source = (DOCKER / volume.split(":")[0]).resolve()
            if source.parent.name == "data":
                assert re.search(rf"^mkdir .*\bdata/{source.name}\b", made, re.MULTILINE)
            else:
                assert source.exists() or "keys" in source.parts, source
        public, *others = service.get("ports", ["5770:5770"])
        assert public.endswith(":5770") and all(port.startswith("127.0.0.1:") for port in others)
    for name in ("n1", "n2", "n3"):
        assert services[name]["command"][-1] == name
    assert all(services[name]["networks"]["default"]["aliases"] == ["ringback"] for name in NODES)
    assert "cluster" in (DOCKER / "Dockerfile").read_text()


def test_pods_find_nats_and_have_names_that_a_node_may_have(tmp_path: Path) -> None:
    for name, where in (("ringback", REALM), ("nats", NATS)):
        found = where["StatefulSet", name]["spec"]
        assert found["replicas"] == 3 and ("Service", found["serviceName"]) in where
        assert where["Service", found["serviceName"]]["spec"]["clusterIP"] == "None"
    assert all(check_name(f"ringback-{number}") for number in range(3))
    path = tmp_path / "ringback.toml"
    path.write_text(settings_of_kubernetes())
    hosts = [f"nats-{number}.nats" for number in range(3)]
    assert read_settings(str(path)).settings.cluster == ",".join(f"nats://{host}:4222" for host in hosts)
    # The brokers' pods, and no others, may reach NATS.
    allowed = NATS["NetworkPolicy", "nats"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    for kind, name in (("StatefulSet", "ringback"), ("Job", "ringback-realm-create")):
        assert allowed.items() <= REALM[kind, name]["spec"]["template"]["metadata"]["labels"].items()


def test_pods_are_spread_and_replaced_one_by_one() -> None:
    for name, where in (("ringback", REALM), ("nats", NATS)):
        labels = where["StatefulSet", name]["spec"]["selector"]["matchLabels"]
        spread = pod("StatefulSet", name, where)["topologySpreadConstraints"]
        assert [rule["topologyKey"] for rule in spread] == [
            "topology.kubernetes.io/zone",
            "kubernetes.io/hostname",
        ]
        assert all(rule["labelSelector"]["matchLabels"] == labels for rule in spread)
        budget = where["PodDisruptionBudget", name]["spec"]
        assert (budget["maxUnavailable"], budget["selector"]["matchLabels"]) == (1, labels)
    [broker] = pod("StatefulSet", "ringback")["containers"]
    assert broker["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert broker["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert {found["name"] for found in broker["env"]} <= variables()
    ports = {port["name"]: port["containerPort"] for port in broker["ports"]}
    assert ports == {"players": 5770, "backend": 5771, "http": 5772}


def test_the_job_makes_the_realm() -> None:
    [create] = pod("Job", "ringback-realm-create")["containers"]
    done = subprocess.run(
        [sys.executable, "-m", "ringback_cli", *create["args"]],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == Exit.USAGE  # the arguments are right; the file is not here
    assert "/etc/ringback/ringback.toml: No such file" in done.stderr


@pytest.mark.parametrize("name", ["realm.yaml", "nats.yaml"])
def test_the_manifests_are_valid(name: str) -> None:
    beside = Path(sys.executable).parent / "kubernetes-validate"
    if not beside.exists():
        pytest.skip("kubernetes-validate is not installed")
    done = subprocess.run(
        [str(beside), "--strict", str(KUBERNETES / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
