import dataclasses
import sys

import pytest
from tungsten_server.words.settings import Settings, SettingsError, read_settings


@pytest.fixture
def base(tmp_path):
    """The flags without which nothing can be read outside an image."""
    (tmp_path / "spec.json").write_text("{}")
    paths = ["--spec", tmp_path / "spec.json", "--model-dir", tmp_path, "--model-python", sys.executable]
    return list(map(str, paths))


def test_defaults_are_the_documented_ones(base):
    settings = read_settings(base, {})
    assert (settings.host, settings.port, settings.max_batch_size) == ("", 3000, None)
    assert (settings.setup_timeout, settings.prediction_timeout) == (3600, 7200)
    assert (settings.result_expiration, settings.workers) == (3600, 1)


def test_the_image_s_paths_are_defaults_that_are_checked(base):
    with pytest.raises(SettingsError, match=r"--model-dir \(default\) is not a folder: '/app'"):
        read_settings([base[0], base[1], *base[4:]], {})


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("TUNGSTEN_PORT", "port"),
        ("TUNGSTEN_MAX_BATCH_SIZE", "max_batch_size"),
        ("SETUP_TIMEOUT", "setup_timeout"),
        ("TUNGSTEN_MAX_SETUPS", "max_setups"),
        ("PREDICTION_TIMEOUT", "prediction_timeout"),
        ("RESULT_EXPIRATION", "result_expiration"),
        ("TUNGSTEN_WORKERS", "workers"),
        ("TUNGSTEN_MAX_PENDING", "max_pending"),
        ("TUNGSTEN_MAX_BODY", "max_body"),
        ("TUNGSTEN_MAX_INPUTS", "max_inputs"),
        ("TUNGSTEN_MAX_FILE", "max_file"),
        ("TUNGSTEN_MAX_PIXELS", "max_pixels"),
        ("TUNGSTEN_MAX_WAITING_BYTES", "max_waiting_bytes"),
        ("TUNGSTEN_MAX_RESULT", "max_result"),
        ("TUNGSTEN_MAX_RESULTS_BYTES", "max_results_bytes"),
        ("TUNGSTEN_URL_TIMEOUT", "url_timeout"),
    ],
)
def test_a_flag_wins_over_the_environment_which_wins_over_the_default(base, variable, name):
    flag = "--" + name.replace("_", "-")
    assert getattr(read_settings(base, {variable: "7"}), name) == 7
    assert getattr(read_settings([*base, flag, "8"], {variable: "7"}), name) == 8
    default = {field.name: field.default for field in dataclasses.fields(Settings)}[name]
    assert getattr(read_settings(base, {variable: ""}), name) == default


def test_a_switch_may_stand_alone_and_be_turned_off_again(base):
    assert read_settings(base, {}).allow_urls is False
    assert read_settings([*base, "--allow-urls"], {}).allow_urls is True
    assert read_settings(base, {"TUNGSTEN_ALLOW_URLS": "1"}).allow_urls is True
    assert read_settings([*base, "--allow-urls", "off"], {"TUNGSTEN_ALLOW_URLS": "on"}).allow_urls is False


def test_networks_are_a_list(base):
    environment = {"TUNGSTEN_ALLOW_URL_NETWORKS": "10.0.0.0/8, fd00::/8"}
    assert [str(one) for one in read_settings(base, environment).allow_url_networks] == [
        "10.0.0.0/8",
        "fd00::/8",
    ]


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_meant_for_us(base, scheme):
    assert read_settings(base, {"TUNGSTEN_PORT": f"{scheme}://10.0.0.1:3000"}).port == 3000


def test_hosts_and_origins_are_lists(base):
    environment = {"TUNGSTEN_ALLOW_HOST": "a.example, b", "TUNGSTEN_ALLOW_ORIGINS": "https://a.example:81, *"}
    settings = read_settings(base, environment)
    assert settings.allow_host == ("a.example", "b")
    assert settings.allow_origins == ("https://a.example:81", "*")
    assert read_settings([*base, "--host", "::1"], {"TUNGSTEN_HOST": "10.0.0.1"}).host == "::1"
    assert read_settings(base, {"TUNGSTEN_HOST": "10.0.0.1"}).host == "10.0.0.1"


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--allow-host", "a.example:80"),
        ("--allow-host", "http://a.example"),
        ("--allow-host", "a,,b"),
        ("--allow-origins", "a.example"),
        ("--allow-origins", "https://a.example/"),
        ("--allow-origins", "https://A.example"),
        ("--allow-origins", "https://x@a.example"),
        ("--allow-urls", "perhaps"),
        ("--allow-url-networks", "10.0.0.1/8"),
        ("--allow-url-networks", "10.0.0.0/8,"),
        ("--url-timeout", "0"),
        ("--port", "65536"),
        ("--port", "-1"),
        ("--port", "http"),
        ("--max-batch-size", "0"),
        ("--max-batch-size", "1.5"),
        ("--setup-timeout", "0"),
        ("--prediction-timeout", "nan"),
        ("--prediction-timeout", "inf"),
        ("--prediction-timeout", "1728001"),
        ("--max-body", "-1"),
        ("--workers", "0"),
        ("--result-expiration", "-1"),
        ("--model-python", "/no/such/python"),
        ("--host", ""),
    ],
)
def test_a_bad_value_is_named_with_its_flag(base, flag, value):
    with pytest.raises(SettingsError) as raised:
        read_settings([*base, f"{flag}={value}"], {})
    assert flag in str(raised.value)
    assert repr(value) in str(raised.value)


def test_a_bad_value_in_the_environment_is_named_with_its_variable(base):
    with pytest.raises(SettingsError, match="TUNGSTEN_PORT is not a port"):
        read_settings(base, {"TUNGSTEN_PORT": "x"})


def test_all_problems_are_told_at_once(base):
    with pytest.raises(SettingsError) as raised:
        read_settings(["--port", "x"], {"SETUP_TIMEOUT": "y"})
    text = str(raised.value)
    assert all(name in text for name in ("--spec is missing", "--port", "SETUP_TIMEOUT", "--model-dir"))


def test_settings_do_not_change(base):
    settings = read_settings(base, {})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1


def test_an_unknown_flag_is_refused_with_status_2(base, capsys):
    with pytest.raises(SystemExit) as raised:
        read_settings([*base, "--max-batch", "3"], {})
    assert raised.value.code == 2
    assert "--max-batch" in capsys.readouterr().err
