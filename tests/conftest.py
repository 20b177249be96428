"""What no test may depend on: how busy the machine is, and who has started the tests."""

import signal

import hypothesis

# How long an example takes says nothing about what is tested.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")
# A shell's background job ignores it (POSIX, "Asynchronous AND-OR Lists"), and so would the programs under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
