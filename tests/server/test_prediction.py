import pytest
from tungsten_server.words.prediction import CANCELED, Failure, Output, Prediction


def test_it_is_pending_then_running_then_a_success_when_all_inputs_have_an_output():
    prediction = Prediction(2, max_bytes=100)
    assert prediction.status == "pending"
    prediction.start()
    prediction.record(1, Output(b"b"))
    assert prediction.status == "running"
    prediction.record(0, Output(b"a"))
    assert (prediction.status, prediction.outcome) == ("success", "success")
    assert [output.json for output in prediction.outputs] == [b"a", b"b"]


@pytest.mark.parametrize(("failure", "outcome"), [(Failure("x"), "failed"), (CANCELED, "canceled")])
def test_one_failure_fails_it_and_what_comes_later_is_ignored(failure, outcome):
    ended = []
    prediction = Prediction(3, max_bytes=100, on_done=ended.append)
    prediction.record(0, Output(b"a"))
    prediction.record(1, failure)
    prediction.record(2, Output(b"c"))
    prediction.record(2, Failure("later"))
    assert (prediction.status, prediction.outcome, prediction.failure) == ("failed", outcome, failure)
    assert prediction.outputs == []
    assert ended == [prediction]


def test_outputs_above_the_limit_are_a_failure_and_not_kept():
    prediction = Prediction(2, max_bytes=10)
    prediction.record(0, Output(b"x" * 6))
    prediction.record(1, Output(b"x" * 4, demo_json=b"x"))
    assert prediction.failure.message.startswith("OutputTooLarge: ")
    assert prediction.outputs == []
    assert prediction.held_bytes < 100


def test_outputs_at_the_limit_are_no_failure():
    prediction = Prediction(1, max_bytes=10)
    prediction.record(0, Output(b"x" * 10))
    assert prediction.status == "success"
