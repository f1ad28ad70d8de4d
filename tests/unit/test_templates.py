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
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.locki.vaettir.plugins.module_utils import _docker
from ansible_collections.locki.vaettir.plugins.module_utils._names import agent_name_error
from hypothesis import given
from hypothesis import strategies as st

from .test_agent_settings import good

ROLES = Path(__file__).parents[2] / "roles"


@pytest.fixture(scope="module", autouse=True)
def _plugins() -> None:
    """Not while tests are collected: no collection could be imported any more."""
    init_plugin_loader()


def load(path: str) -> Any:
    return yaml.safe_load((ROLES / path).read_text(encoding="utf-8"))


def render(path: str, **variables: Any) -> str:
    text = (ROLES / path).read_text(encoding="utf-8")
    templar = Templar(loader=DataLoader(), variables={**load("stack/vars/main.yml"), **variables})
    return str(templar.template(trust_as_template(text)))


def agent(**entry: Any) -> dict[str, Any]:
    return good({"name": "my-agent", "extra_domains": ["x.example"], **entry})


def trusted(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: trusted(value) for name, value in tree.items()}
    return trust_as_template(tree) if isinstance(tree, str) else tree


def variables(found: dict[str, Any]) -> dict[str, Any]:
    """What the templates are given beside the agent's settings, from the role's own vars."""
    plain = {}
    for name, value in load("agent_proxy/vars/main.yml").items():
        plain[name] = trust_as_template(value) if isinstance(value, str) else value
    versions = {"docker": {"version": "28.0.0"}, "compose": {"version": "2.26.1"}}
    return {
        **plain,
        "__agent_proxy": found,
        "__stack": {"root": "/srv", **versions},
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


def test_compose_service_of_the_page() -> None:
    found = fragment()["services"]["my-agent"]
    page = yaml.safe_load(
        render("agent_proxy/templates/compose.yml.j2", **variables({**agent(), "name": "offline", "tunnel_secret": ""}))
    )
    service = page["services"]["offline"]
    assert (service["profiles"], rules(page)) == (["production"], ["PathPrefix(`/`)"])
    assert service["environment"] == {"DISCORD_INVITE_URL": "${DISCORD_INVITE_URL-}"}
    assert service["volumes"] == ["./releases/offline:/etc/vaettir/releases:ro"]
    assert found["volumes"] == ["./releases/my-agent:/etc/vaettir/releases:ro", "my-agent-cache:/var/cache/vaettir"]
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


def stack(**given: Any) -> Any:
    values = {**load("stack/defaults/main.yml"), "stack_acme_email": "a@b.example", **given}
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
    assert "/var/run/docker.sock:/var/run/docker.sock:ro" in traefik["volumes"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in traefik["command"])
    assert flags["providers.docker.exposedbydefault"] == "false"
    assert flags["providers.docker.network"] == "vaettir_default"
    assert flags["entrypoints.web.http.redirections.entrypoint.to"] == "websecure"
    assert flags["entrypoints.websecure.http.tls"] == "true"
    assert not any(flag.startswith("api") for flag in flags), "the dashboard is on"
    assert ("certificatesresolvers.acme.acme.email" in flags) is (tls == "acme")
    assert ("entrypoints.websecure.http.tls.certresolver" in flags) is (tls == "acme")


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


def test_the_runtimes_words() -> None:
    assert _docker.RUNTIME_FAILED.fullmatch(load("stack/vars/main.yml")["__stack_runtime_failed"])


@pytest.mark.parametrize(("mode", "lines"), [("rewrite", 1), ("preserve", 0)])
def test_forwarded_host_is_the_one_of_the_origin(mode: str, lines: int) -> None:
    """Apps compare the two: where the Origin becomes the tunnel's, so does the host."""
    conf = render("agent_proxy/templates/agent.conf.template.j2", **variables(agent(origin_mode=mode)))
    assert conf.count('"${MY_AGENT_TARGET_URL}" "${TARGET_AUTHORITY}"; # Origin') == lines
    assert conf.count("proxy_set_header X-Forwarded-Host $forwarded_host;") == 1
