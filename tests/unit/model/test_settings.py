"""Settings come from the environment, each with a default, and a wrong one is named."""

import pytest

from resource_wireguard.errors import InvalidInput
from resource_wireguard.model.settings import Settings, settings_from


def test_an_empty_environment_means_the_defaults() -> None:
    assert settings_from({}) == Settings()
    assert settings_from({"WIREGUARD_MTU": "auto", "WIREGUARD_PORT": ""}) == Settings()
    assert settings_from({"WIREGUARD_LOG_LEVEL": ""}) == Settings()


def test_every_variable_is_read() -> None:
    settings = settings_from(
        {
            "WIREGUARD_PORT": "5000",
            "WIREGUARD_NETWORK": "10.99.0.0/16",
            "WIREGUARD_DNS": "1.1.1.1, fd00::53",
            "WIREGUARD_KEEPALIVE": "0",
            "WIREGUARD_MTU": "1380",
            "WIREGUARD_ALLOWED_IPS": "10.0.0.0/8 fd00::/8",
            "WIREGUARD_PEERS_MAX": "50",
            "WIREGUARD_LOG_LEVEL": "DEBUG",
            "WIREGUARD_ENGINE": "/opt/boringtun",
            "VROOLI_ROOT": "/srv/vrooli",
        }
    )
    assert settings == Settings(
        port=5000,
        network="10.99.0.0/16",
        dns=("1.1.1.1", "fd00::53"),
        keepalive=0,
        mtu=1380,
        allowed_ips=("10.0.0.0/8", "fd00::/8"),
        peers_max=50,
        log_level="debug",
        engine="/opt/boringtun",
        port_registry="/srv/vrooli",
    )
    assert settings_from({"APP_ROOT": "/a", "VROOLI_ROOT": "/b"}).port_registry == "/a"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WIREGUARD_PORT", "0"),
        ("WIREGUARD_PORT", "65536"),
        ("WIREGUARD_NETWORK", "10.13.13.1/24"),
        ("WIREGUARD_DNS", "dns.example.org"),
        ("WIREGUARD_KEEPALIVE", "-1"),
        ("WIREGUARD_KEEPALIVE", "٣"),
        ("WIREGUARD_KEEPALIVE", "65536"),
        ("WIREGUARD_MTU", "100"),
        ("WIREGUARD_MTU", "big"),
        ("WIREGUARD_ALLOWED_IPS", "everything"),
        ("WIREGUARD_PEERS_MAX", "many"),
        ("WIREGUARD_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings_from({name: value})
    assert name in refused.value.message
