# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Templates through Ansible's own templar: what comes out is what compose and Traefik read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.locki.vaettir.plugins.module_utils._names import agent_name_error
from hypothesis import given
from hypothesis import strategies as st

from .test_agent_settings import good

ROLES = Path(__file__).parents[2] / "roles"
SERVICE, COMPOSE = "agent_proxy/templates/compose.yml.j2", "stack/templates/docker-compose.yml.j2"


pytestmark = pytest.mark.usefixtures("plugin_loader")


def load(path: str) -> Any:
    return yaml.safe_load((ROLES / path).read_text(encoding="utf-8"))


def test_nginx_waits_for_a_name_as_long_as_its_entry_point() -> None:
    """One that nginx gave up would leave a reload without an address of the new target."""
    conf, entry_point = (
        (ROLES / "agent_proxy" / "templates" / name).read_text(encoding="utf-8")
        for name in ("agent.conf.template.j2", "entrypoint.sh.j2")
    )
    (nginx,), (waits,) = re.findall(r"resolver_timeout (\d+)s;", conf), re.findall(r"timeout (\d+) getent", entry_point)
    assert int(nginx) >= int(waits)


def filled(path: str, text: str, variables: dict[str, Any]) -> str:
    """A template's text as its role would fill it in."""
    loader = DataLoader()
    loader.set_basedir(str((ROLES / path).parents[1]))  # where lookups find the role's files
    return str(Templar(loader=loader, variables=variables).template(trust_as_template(text)))


def render(path: str, **variables: Any) -> str:
    text = (ROLES / path).read_text(encoding="utf-8")
    return filled(path, text, {**load("stack/vars/main.yml"), **variables})


def agent(**entry: Any) -> dict[str, Any]:
    return good({"name": "my-agent", "extra_domains": ["x.example"], **entry})


def trusted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: trusted(value) for name, value in tree.items()}
    return trust_as_template(tree) if isinstance(tree, str) else tree


def variables(found: dict[str, Any], **stack: Any) -> dict[str, Any]:
    """What the templates are given beside the agent's settings, from the role's own vars."""
    plain = {}
    for name, value in load("agent_proxy/vars/main.yml").items():
        plain[name] = trust_as_template(value) if isinstance(value, str) else value
    versions = {"docker": {"version": "28.0.0"}, "compose": {"version": "2.26.1"}}
    return {
        **plain,
        "__agent_proxy": found,
        "__stack": {"root": "/srv", "uid": 1000, "gid": 1001, **versions, **stack},
        "__stack_project": "vaettir",
        "stack_discord_invite_url": None,
    }


def fragment(**entry: Any) -> Any:
    return yaml.safe_load(render("agent_proxy/templates/compose.yml.j2", **variables(agent(**entry))))


def routers(found: Any) -> set[str]:
    (service,) = found["services"].values()
    return {label.split(".")[3] for label in service["labels"] if label.startswith("traefik.http.")}


def rules(found: Any) -> list[str]:
    (service,) = found["services"].values()
    return [value for label, value in service["labels"].items() if label.endswith(".rule")]


def test_compose_service_of_an_agent() -> None:
    found = fragment()
    assert list(found["services"]) == ["my-agent"]
    service = found["services"]["my-agent"]
    assert service["image"] == "vaettir-my-agent:proxy"
    assert service["build"]["context"] == "./proxy-configs"
    assert service["build"]["args"]["AGENT_NAME"] == "my-agent"
    assert service["profiles"] == ["proxy"]
    # A missing value must not break the other agents' commands.
    assert service["environment"]["MY_AGENT_TARGET_URL"] == "${MY_AGENT_TARGET_URL-}"
    assert service["environment"]["DISCORD_INVITE_URL"] == "${DISCORD_INVITE_URL-}"
    assert rules(found) == ["Host(`my-agent.example.org`) || Host(`x.example`)"]
    assert service["labels"]["traefik.enable"] == "true"
    assert "ports" not in service


def test_routers_that_differ_have_names_that_differ() -> None:
    """Traefik drops a router that two containers define differently."""
    (one,) = routers(fragment())
    assert re.fullmatch("my-agent-[0-9a-f]{8}", one)
    assert routers(fragment(max_body_size="2g")) == {one}
    assert routers(fragment(extra_domains=[])) != {one}


def test_a_container_may_do_what_it_needs_and_nothing_else() -> None:
    service = fragment()["services"]["my-agent"]
    assert (service["user"], service["read_only"]) == ("1000:1001", True)
    assert (service["cap_drop"], service.get("cap_add")) == (["ALL"], None)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (service["mem_limit"], service["pids_limit"]) == ("1g", 512)
    roots = yaml.safe_load(render("agent_proxy/templates/compose.yml.j2", **variables(agent(), uid=0, gid=0)))
    assert roots["services"]["my-agent"]["cap_add"] == ["CHOWN", "KILL", "SETGID", "SETUID"]


def test_a_health_check_that_is_asked_often_says_when_a_failure_counts() -> None:
    """Newer versions of Compose refuse the one without the other. The period is the image's."""
    check = fragment()["services"]["my-agent"]["healthcheck"]
    assert set(check) == {"start_period", "start_interval"}
    image = render("agent_proxy/templates/Dockerfile.j2", **variables(agent()))
    assert f"--start-period={check['start_period']} " in image


def strict_transport(**entry: Any) -> list[str]:
    """What the agent's router answers with."""
    (service,) = fragment(**entry)["services"].values()
    named = "headers.customresponseheaders.Strict-Transport-Security"
    return [value for label, value in service["labels"].items() if label.endswith(named)]


def test_browsers_keep_to_https_where_that_cannot_lead_them_astray() -> None:
    (half_a_year,) = strict_transport()
    assert half_a_year == "max-age=15552000"
    assert strict_transport(public_port=8443) == []
    assert strict_transport(public_port=8443, hsts_max_age=0) == ["max-age=0"]
    (router,) = routers(fragment())
    assert fragment()["services"]["my-agent"]["labels"][f"traefik.http.routers.{router}.middlewares"] == router


def test_compose_service_of_the_page() -> None:
    found = fragment()["services"]["my-agent"]
    page = yaml.safe_load(
        render("agent_proxy/templates/compose.yml.j2", **variables({**agent(), "name": "offline", "tunnel_secret": ""}))
    )
    service = page["services"]["offline"]
    assert (service["profiles"], rules(page)) == (["production"], ["PathPrefix(`/`)"])
    assert service["environment"] == {"DISCORD_INVITE_URL": "${DISCORD_INVITE_URL-}"}
    releases, notes = "./releases/{}:/etc/vaettir/releases:ro", "/run/vaettir"
    assert service["volumes"] == [releases.format("offline"), notes]
    assert found["volumes"] == [releases.format("my-agent"), "my-agent-assets-1000:/var/cache/vaettir", notes]
    (router,) = routers(page)
    assert service["labels"][f"traefik.http.routers.{router}.middlewares"] == router
    assert service["labels"][f"traefik.http.middlewares.{router}.headers.customrequestheaders.Cookie"] == ""
    assert "volumes" not in page


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,29}[a-z0-9])?", fullmatch=True))
def test_any_name_is_one_service(name: str) -> None:
    if agent_name_error(name):
        return
    found = yaml.safe_load(render("agent_proxy/templates/compose.yml.j2", **variables(good({"name": name}))))
    assert list(found["services"]) == [name]


@pytest.mark.parametrize("name", ["null", "on", "off", "yes", "no", "true", "false", "y", "n", "e3", "inf", "nan"])
def test_names_that_yaml_may_take_for_something_else(name: str) -> None:
    """They are refused, or they stay names."""
    if agent_name_error(name):
        return
    found = yaml.safe_load(render("agent_proxy/templates/compose.yml.j2", **variables(good({"name": name}))))
    assert list(found["services"]) == [name]
    service = found["services"][name]
    assert service["build"]["args"]["AGENT_NAME"] == name
    assert service["labels"]["io.locki.vaettir.agent"] == name


NOT_JINJA = {"stack_docker_api_image": "nginx:1.30.6"}  # defaults that another variable gives


def pasted(path: str, **given: Any) -> Any:
    """What would come out without the serializer."""
    text = re.sub(r"( \| string)? \| to_json(?= }})", "", (ROLES / path).read_text(encoding="utf-8"))
    return yaml.safe_load(filled(path, text, {**load("stack/vars/main.yml"), **given}))


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"extra_domains": [], "tunnel_secret": "0123456789abcdef"},
        {"base_image": f"x.example:5000/nginx:1@sha256:{'0' * 64}"},
    ],
)
def test_serializer_changes_no_good_service(entry: dict[str, Any], page: bool) -> None:
    """Another definition would replace the containers of every server."""
    found = agent(**entry)
    given_ = variables({**found, "name": "offline", "tunnel_secret": ""} if page else found)
    assert pasted(SERVICE, **given_) == yaml.safe_load(render(SERVICE, **given_))


@pytest.mark.parametrize(
    "given_",
    [
        {},
        {"stack_tls": "files", "stack_http_port": "8080", "stack_traefik_read_timeout": 60},
        {"stack_acme_challenge": "http", "stack_acme_ca_certificate": "ca.pem", "stack_traefik_log_level": "DEBUG"},
        {"stack_traefik_image": f"x.example:5000/traefik:v3@sha256:{'0' * 64}"},
    ],
)
def test_serializer_changes_no_good_stack(given_: dict[str, Any]) -> None:
    values = {**load("stack/defaults/main.yml"), **NOT_JINJA, "stack_acme_email": "a@b.example", **given_}
    assert pasted(COMPOSE, **values) == yaml.safe_load(render(COMPOSE, **values))


@pytest.mark.parametrize("path", [SERVICE, COMPOSE])
def test_every_value_goes_through_the_serializer(path: str) -> None:
    """The labels of `routing` are hashed as text, and a router keeps its name; what gives it a rule is serialized."""
    lines = [line for line in (ROLES / path).read_text(encoding="utf-8").splitlines() if "{{" in line]
    known = re.compile(
        r" *traefik\.http\.|{{ routing\(|# Written|.*{{ 'production' if page| *{{ __agent_proxy_healthcheck }}"
    )
    values = [
        line for line in lines if not known.match(line) and re.search(r"\ba\.|\bstack_|__stack_discord_key", line)
    ]
    assert values
    assert [line for line in values if not re.search(r"\| to_json }}", line)] == []


def stack(**given: Any) -> Any:
    values = {**trusted(load("stack/defaults/main.yml")), "stack_acme_email": "a@b.example", **given}
    text = render("stack/templates/docker-compose.yml.j2", **values)
    return yaml.safe_load(text)


@pytest.mark.parametrize("tls", ["acme", "files"])
def test_compose_file(tls: str) -> None:
    found = stack(stack_tls=tls, stack_http_port=8080, stack_https_port=8443)
    assert found["name"] == "vaettir"
    assert found["include"] == [{"path": "agents.yml", "project_directory": ".", "env_file": ".env"}]
    traefik = found["services"]["traefik"]
    assert traefik["profiles"] == ["production"]
    assert traefik["ports"] == ["8080:8080", "8443:8443"]
    assert not [volume for volume in traefik["volumes"] if "/var/run" in volume], "Traefik has the Engine's own socket"
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in traefik["command"])
    assert flags["providers.docker.exposedbydefault"] == "false"
    assert flags["providers.docker.network"] == "vaettir_default"
    assert flags["entrypoints.web.http.redirections.entrypoint.to"] == "websecure"
    assert flags["entrypoints.websecure.http.tls"] == "true"
    assert not any(flag.startswith("api") for flag in flags), "the dashboard is on"
    assert ("certificatesresolvers.acme.acme.email" in flags) is (tls == "acme")
    assert ("entrypoints.websecure.http.tls.certresolver" in flags) is (tls == "acme")


def test_traefik_and_its_way_to_docker_are_confined() -> None:
    services = stack(stack_traefik_memory="3g")["services"]
    for service in services.values():
        assert (service["cap_drop"], service["read_only"]) == (["ALL"], True)
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"]
        assert service["mem_limit"]
    assert services["traefik"]["mem_limit"] == "3g"
    assert services["docker-api"]["network_mode"] == "none"


def test_a_silent_or_dripping_connection_ends() -> None:
    flags = stack()["services"]["traefik"]["command"]
    assert "--entrypoints.websecure.transport.respondingtimeouts.readtimeout=1800" in flags


def test_tls_1_2_has_authenticated_encryption_only() -> None:
    options = load("stack/files/traefik-options.yml")["tls"]["options"]["default"]
    assert options["minVersion"] == "VersionTLS12"
    assert all(re.search("_GCM_|_POLY1305_", suite) for suite in options["cipherSuites"])


@pytest.mark.parametrize(
    ("challenge", "flag"), [("tls", "tlschallenge=true"), ("http", "httpchallenge.entrypoint=web")]
)
def test_acme_challenge(challenge: str, flag: str) -> None:
    command = stack(stack_acme_challenge=challenge)["services"]["traefik"]["command"]
    assert [word for word in command if "challenge" in word] == [f"--certificatesresolvers.acme.acme.{flag}"]


def test_traefik_stays_as_it_is_without_an_authority_of_ones_own() -> None:
    """Another environment would be another definition, for an upgrade that nobody needs."""
    assert "environment" not in stack()["services"]["traefik"]
    own = stack(stack_acme_ca_certificate="ca.pem")["services"]["traefik"]
    assert own["environment"] == {"LEGO_CA_CERTIFICATES": "/etc/traefik/certs/acme-ca.pem"}
    assert "./traefik/certs:/etc/traefik/certs:ro" in own["volumes"]
    assert "environment" not in stack(stack_acme_ca_certificate="ca.pem", stack_tls="files")["services"]["traefik"]


def test_certificate_of_ones_own(tmp_path: Path) -> None:
    def rendered(key: str) -> str:
        for name, text in (("cert", "certificate"), ("key", key)):
            (tmp_path / name).write_text(text, encoding="ascii")
        paths = {"stack_tls_certificate": str(tmp_path / "cert"), "stack_tls_key": str(tmp_path / "key")}
        return render("stack/templates/traefik-tls.yml.j2", **paths)

    first, second = rendered("s3cret-one"), rendered("s3cret-two")
    assert yaml.safe_load(first)["tls"]["stores"]["default"]["defaultCertificate"] == {
        "certFile": "/etc/traefik/certs/cert.pem",
        "keyFile": "/etc/traefik/certs/key.pem",
    }
    assert first != second, "Traefik would not notice the new key"
    assert "s3cret" not in first


def test_dockerfile_copies_only_what_is_written() -> None:
    text = render("agent_proxy/templates/Dockerfile.j2", **variables(agent()))
    assert text.splitlines()[1:3] == ["ARG BASE_IMAGE=nginx:1.30.6", "FROM ${BASE_IMAGE}"]
    assert "# syntax" not in text
    assert 'ENTRYPOINT ["/bin/sh", "/usr/local/bin/agent-proxy"]' in text


@pytest.mark.parametrize(("mode", "lines"), [("rewrite", 1), ("preserve", 0)])
def test_forwarded_host_is_the_one_of_the_origin(mode: str, lines: int) -> None:
    """Apps compare the two: where the Origin becomes the tunnel's, so does the host."""
    conf = render("agent_proxy/templates/agent.conf.template.j2", **variables(agent(origin_mode=mode)))
    assert conf.count('"${MY_AGENT_TARGET_URL}" "${TARGET_AUTHORITY}"; # Origin') == lines
    assert conf.count("proxy_set_header X-Forwarded-Host $forwarded_host;") == 1
