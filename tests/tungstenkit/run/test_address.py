"""Where servers listen."""

import socket

import pytest

from tungstenkit.run.address import Address
from tungstenkit.sdk.errors import RunError


class TestAddress:
    def test_zero_takes_a_free_port(self):
        address = Address.choose("127.0.0.1", 0)
        assert address.port > 0
        assert address.url == f"http://127.0.0.1:{address.port}"

    def test_a_name_is_resolved(self):
        assert Address.choose("localhost", 0).host in ("127.0.0.1", "::1")

    @pytest.mark.parametrize(
        ("host", "url"),
        [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("::1", "http://[::1]:1")],
    )
    def test_clients_here_reach_all_addresses_by_loopback(self, host, url):
        assert Address(host, 1).url == url

    def test_a_taken_port_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RunError) as caught:
            Address.choose("127.0.0.1", other.getsockname()[1])
        assert "in use" in caught.value.what
        assert "-p 0" in caught.value.hint

    def test_an_address_of_another_machine_is_refused(self):
        with pytest.raises(RunError, match="can't listen there"):
            Address.choose("192.0.2.1", 0)
