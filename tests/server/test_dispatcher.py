"""How requests meet model processes, with model processes that do what the test says."""

import threading
from collections import deque

import pytest
from tungsten_server.dispatcher import Dispatcher, UnavailableError
from tungsten_server.driver import MAX_FAILED_SETUPS
from tungsten_server.inputs import Input
from tungsten_server.model_process import ModelProcessError
from tungsten_server.prediction import Failure, Output

from tests.server.conftest import DEADLINE, wait_until


class FakeProcess:
    """A model process that gives each input back, one batch for each release of `turn`."""

    pid = 1

    def __init__(self, model):
        self.model = model
        self.alive = True

    def wait_ready(self, timeout):
        if self.model.setups.popleft() if self.model.setups else False:
            self.alive = False
            raise ModelProcessError("broken")

    def run(self, number, inputs, timeout, log=None):
        self.model.started.release()
        assert self.model.turn.acquire(timeout=DEADLINE)
        self.model.batches.append([one.decode() for one in inputs])
        if b"die" in inputs or not self.alive:
            self.alive = False
            raise ModelProcessError("died")
        yield [Failure("bad") if one == b"fail" else Output(one) for one in inputs]

    def interrupt(self, number):
        self.model.interrupted.append(number)

    def close(self, grace):
        self.alive = False

    def kill(self):
        self.alive = False
        self.model.turn.release()


class Model:
    """The state of all its processes."""

    def __init__(self):
        self.setups = deque()
        self.batches = []
        self.interrupted = []
        self.started = threading.Semaphore(0)
        self.turn = threading.Semaphore(0)
        self.processes = []

    def start(self, on_exit):
        self.processes.append(FakeProcess(self))
        self.processes[-1].on_exit = on_exit
        return self.processes[-1]

    def wait_busy(self):
        """Wait until a batch has begun."""
        assert self.started.acquire(timeout=DEADLINE)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def make(model):
    """Make and start a dispatcher; stop it after the test."""
    dispatchers = []

    def make(**changes):
        settings = {
            "batch_size": 3,
            "max_pending": 10,
            "workers": 1,
            "max_result": 1000,
            "setup_timeout": 9,
            "prediction_timeout": 9,
            "backoff": 0.001,
        }
        dispatcher = Dispatcher(model.start, **{**settings, **changes})
        dispatchers.append(dispatcher)
        dispatcher.start()
        return dispatcher

    yield make
    for dispatcher in dispatchers:
        dispatcher.stop()


@pytest.fixture
def dispatcher(make):
    return ready(make())


def ready(dispatcher):
    wait_until(lambda: dispatcher.unready is None, "readiness")
    return dispatcher


def die(process):
    process.alive = False
    process.on_exit()


def submit(dispatcher, *texts, key="k"):
    return dispatcher.submit([Input(text.encode(), key) for text in texts])


def result(dispatcher, prediction):
    dispatcher.wait(prediction)
    return (
        prediction.failure.message
        if prediction.failure
        else b"".join(output.json for output in prediction.outputs).decode()
    )


def test_batches_form_across_requests_while_the_model_is_busy(model, dispatcher):
    first = submit(dispatcher, "a")
    model.wait_busy()
    others = [submit(dispatcher, *texts) for texts in ("bc", "d", "ef")]
    model.turn.release(9)
    assert [result(dispatcher, p) for p in (first, *others)] == ["a", "bc", "d", "ef"]
    assert model.batches == [["a"], ["b", "c", "d"], ["e", "f"]]


def test_a_request_larger_than_a_batch_keeps_its_order(model, dispatcher):
    prediction = submit(dispatcher, *"abcdefgh")
    model.turn.release(9)
    assert result(dispatcher, prediction) == "abcdefgh"
    assert model.batches == [list("abc"), list("def"), list("gh")]


def test_different_options_never_share_a_batch(model, dispatcher):
    first = submit(dispatcher, "a")
    model.wait_busy()
    others = [submit(dispatcher, text, key=key) for text, key in ("bx", "cy", "dx")]
    model.turn.release(9)
    for prediction in (first, *others):
        result(dispatcher, prediction)
    assert model.batches == [["a"], ["b", "d"], ["c"]]


def test_a_failed_input_fails_its_request_only_and_what_is_left_of_it_does_not_run(model, dispatcher):
    poisonous = submit(dispatcher, "a", "fail", "b", "c", "d")
    innocent = submit(dispatcher, "e")
    model.turn.release(9)
    assert result(dispatcher, poisonous) == "bad"
    assert result(dispatcher, innocent) == "e"
    assert model.batches == [["a", "fail", "b"], ["e"]]


def test_a_death_fails_what_ran_and_keeps_what_waits(model, dispatcher):
    dying = submit(dispatcher, "die")
    model.wait_busy()
    waiting = submit(dispatcher, "a")
    model.turn.release(9)
    assert result(dispatcher, dying) == "died"
    assert result(dispatcher, waiting) == "a"
    assert len(model.processes) == 2


def test_a_death_while_idle_starts_another_process(model, dispatcher):
    die(model.processes[0])
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "a")) == "a"
    assert len(model.processes) == 2


def test_processes_that_do_nothing_but_die_are_replaced_more_and_more_slowly(model, make):
    dispatcher = ready(make(backoff=1000))
    die(model.processes[0])
    wait_until(lambda: len(model.processes) == 2, "a replacement at once")
    ready(dispatcher)
    die(model.processes[1])
    wait_until(lambda: dispatcher.unready, "the notice of the death")
    dispatcher.stop()
    assert len(model.processes) == 2


def test_a_death_after_work_is_replaced_at_once(model, make):
    dispatcher = ready(make(backoff=1000))
    model.turn.release(9)
    for text in "abc":
        assert result(dispatcher, submit(dispatcher, text)) == text
        assert result(dispatcher, submit(dispatcher, "die")) == "died"


def test_requests_above_the_limit_are_refused_until_one_is_answered(model, make):
    dispatcher = ready(make(max_pending=2))
    pending = [submit(dispatcher, "a"), submit(dispatcher, "b", "c")]
    with pytest.raises(UnavailableError, match="too many"):
        submit(dispatcher, "d")
    model.turn.release(9)
    assert [result(dispatcher, p) for p in pending] == ["a", "bc"]
    assert result(dispatcher, submit(dispatcher, "e")) == "e"


def test_a_failed_setup_is_tried_again_and_successes_reset_the_count(model, make):
    fail, succeed = True, False
    model.setups += [*[fail] * (MAX_FAILED_SETUPS - 1), succeed, *[fail] * (MAX_FAILED_SETUPS - 1), succeed]
    dispatcher = ready(make())
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "die")) == "died"
    assert result(dispatcher, submit(dispatcher, "a")) == "a"
    assert dispatcher.fatal is None


def test_setups_that_keep_failing_are_fatal_and_fail_what_waits(model, dispatcher):
    model.setups += [True] * MAX_FAILED_SETUPS
    fatal = threading.Event()
    dispatcher.on_fatal(fatal.set)
    submit(dispatcher, "die")
    model.wait_busy()
    waiting = submit(dispatcher, "a")
    model.turn.release()
    assert fatal.wait(DEADLINE)
    assert "broken" in dispatcher.fatal
    assert "broken" in result(dispatcher, waiting)
    with pytest.raises(UnavailableError, match="broken"):
        submit(dispatcher, "b")


def test_a_late_listener_learns_of_a_fatal_error(model, make):
    model.setups += [True] * MAX_FAILED_SETUPS
    dispatcher, first, second = make(), threading.Event(), threading.Event()
    dispatcher.on_fatal(first.set)
    assert first.wait(DEADLINE)
    dispatcher.on_fatal(second.set)
    assert second.is_set()


def test_a_defect_in_the_driver_is_fatal_and_not_silent(model, dispatcher, monkeypatch):
    monkeypatch.setattr(FakeProcess, "run", lambda *_: iter([["not an answer"] * 2]))
    fatal = threading.Event()
    dispatcher.on_fatal(fatal.set)
    prediction = submit(dispatcher, "a")
    assert fatal.wait(DEADLINE)
    assert result(dispatcher, prediction) == "internal error"


def test_an_input_that_waits_too_long_fails(model, make):
    dispatcher = ready(make(prediction_timeout=0.05, batch_size=1))
    submit(dispatcher, "a")
    model.wait_busy()
    late = submit(dispatcher, "b")
    assert result(dispatcher, late).endswith("Timeout")
    model.turn.release(9)
    dispatcher.stop()
    assert model.batches == [["a"]]


def test_what_waits_expires_though_nobody_waits_for_it(model, make):
    dispatcher = ready(make(prediction_timeout=0.05, batch_size=1))
    submit(dispatcher, "a")
    model.wait_busy()
    late = submit(dispatcher, "b")
    wait_until(lambda: dispatcher.expire() or late.done, "expiry")
    assert (late.outcome, late.status) == ("timeout", "failed")
    model.turn.release(9)


class TestCancel:
    def test_queued_inputs_are_removed_and_nothing_is_interrupted(self, model, dispatcher):
        running = submit(dispatcher, "a")
        model.wait_busy()
        canceled, other = submit(dispatcher, "b", "c"), submit(dispatcher, "d")
        dispatcher.cancel(canceled)
        assert (canceled.failure.message, canceled.outcome) == ("Canceled", "canceled")
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (running, other)] == ["a", "d"]
        assert model.batches == [["a"], ["d"]]
        assert model.interrupted == []

    def test_a_batch_of_its_own_is_interrupted_by_its_number(self, model, dispatcher):
        model.turn.release()
        result(dispatcher, submit(dispatcher, "first"))
        model.wait_busy()
        canceled = submit(dispatcher, *"abcdef")
        model.wait_busy()
        dispatcher.cancel(canceled)
        assert model.interrupted == [2]
        model.turn.release(9)
        assert result(dispatcher, submit(dispatcher, "x")) == "x"
        assert model.batches == [["first"], ["a", "b", "c"], ["x"]]

    def test_a_shared_batch_is_not_interrupted(self, model, dispatcher):
        first = submit(dispatcher, "a")
        model.wait_busy()
        canceled, neighbour = submit(dispatcher, "b"), submit(dispatcher, "c")
        model.turn.release()
        result(dispatcher, first)
        model.wait_busy()
        dispatcher.cancel(canceled)
        model.turn.release(9)
        assert result(dispatcher, neighbour) == "c"
        assert canceled.failure.message == "Canceled"
        assert model.batches == [["a"], ["b", "c"]]
        assert model.interrupted == []

    def test_what_is_done_is_left_alone(self, model, dispatcher):
        model.turn.release(9)
        done = submit(dispatcher, "a")
        result(dispatcher, done)
        dispatcher.cancel(done)
        assert done.status == "success"
        assert model.interrupted == []

    def test_it_makes_room_for_another(self, model, make):
        dispatcher = ready(make(max_pending=1))
        dispatcher.cancel(submit(dispatcher, "a"))
        submit(dispatcher, "b")
        model.turn.release(9)


class TestWorkers:
    def test_each_runs_a_batch_at_the_same_time_from_one_queue(self, model, make):
        dispatcher = make(workers=3)
        wait_until(lambda: dispatcher.counts().ready == 3, "three processes")
        predictions = [submit(dispatcher, text, key=text) for text in "abc"]
        for _ in range(3):
            model.wait_busy()  # all of them are inside `run`: none has had its turn yet
        predictions.append(submit(dispatcher, "d"))
        model.turn.release(9)
        assert [result(dispatcher, p) for p in predictions] == list("abcd")
        assert sorted(model.batches) == [["a"], ["b"], ["c"], ["d"]]

    def test_a_large_request_is_spread_and_keeps_its_order(self, model, make):
        dispatcher = make(workers=2)
        wait_until(lambda: dispatcher.counts().ready == 2, "two processes")
        prediction = submit(dispatcher, *"abcdef")
        model.wait_busy()
        model.wait_busy()
        model.turn.release(9)
        assert result(dispatcher, prediction) == "abcdef"

    def test_one_that_dies_fails_its_batch_and_the_server_stays_ready(self, model, make):
        dispatcher = make(workers=2, backoff=1000)
        wait_until(lambda: dispatcher.counts().ready == 2, "two processes")
        model.setups += [True] * 9  # no replacement gets ready
        dying = submit(dispatcher, "die")
        model.turn.release(9)
        assert result(dispatcher, dying) == "died"
        wait_until(lambda: dispatcher.counts().ready == 1, "one process")
        assert dispatcher.unready is None
        assert result(dispatcher, submit(dispatcher, "a")) == "a"

    def test_a_stop_ends_all_of_them(self, model, make):
        dispatcher = make(workers=3)
        wait_until(lambda: dispatcher.counts().ready == 3, "three processes")
        submit(dispatcher, "a")
        model.wait_busy()
        dispatcher.stop()
        assert [process.alive for process in model.processes] == [False] * 3


def test_demos_share_a_batch_with_nobody(model, dispatcher):
    blocked = submit(dispatcher, "a")
    model.wait_busy()
    inputs = [Input(text.encode(), "k") for text in "bc"]
    others = [
        dispatcher.submit(inputs, demo=True),
        submit(dispatcher, "d"),
        dispatcher.submit(inputs, demo=True),
    ]
    model.turn.release(9)
    for prediction in (blocked, *others):
        result(dispatcher, prediction)
    assert model.batches == [["a"], ["b", "c"], ["d"], ["b", "c"]]


def test_it_counts_what_happens(model, make):
    dispatcher = ready(make())
    running = submit(dispatcher, "die")
    model.wait_busy()
    others = [submit(dispatcher, *texts) for texts in ("bcd", ["fail"], "e")]
    before = dispatcher.counts()
    assert (before.queued, before.pending, before.restarts, before.ready) == (5, 4, 0, 1)
    dispatcher.cancel(others[2])
    model.turn.release(9)
    for prediction in (running, *others):
        result(dispatcher, prediction)
    after = dispatcher.counts()
    assert (after.queued, after.pending, after.restarts) == (0, 0, 1)
    assert after.predictions == {"failed": 2, "success": 1, "canceled": 1}
    assert after.batches == {1: 2, 3: 1}


def test_results_above_the_limit_fail(model, make):
    dispatcher = ready(make(max_result=3))
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "abc")) == "abc"
    assert result(dispatcher, submit(dispatcher, "ab", "cd")).startswith("OutputTooLarge: ")


def test_nothing_is_accepted_before_the_first_setup_and_after_a_stop(model):
    dispatcher = Dispatcher(
        model.start,
        workers=1,
        batch_size=1,
        max_pending=1,
        max_result=1,
        setup_timeout=1,
        prediction_timeout=1,
    )
    with pytest.raises(UnavailableError, match="being set up"):
        submit(dispatcher, "a")
    dispatcher.start()
    ready(dispatcher)
    dispatcher.stop()
    with pytest.raises(UnavailableError, match="stopping"):
        submit(dispatcher, "a")


def test_a_stop_answers_everything_and_ends_the_process(model, dispatcher):
    running = submit(dispatcher, "a")
    model.wait_busy()
    waiting = submit(dispatcher, "b")
    dispatcher.stop()
    assert [result(dispatcher, p) for p in (running, waiting)] == ["the server is stopping"] * 2
    assert not model.processes[0].alive
