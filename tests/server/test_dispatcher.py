"""How requests meet model processes, with model processes that do what the test says."""

import os
import select
import threading
from collections import deque
from contextlib import suppress
from dataclasses import fields

import pytest
from tungsten_server.checks.inputs import Input
from tungsten_server.model.process import Answers, Doing, ModelProcessError
from tungsten_server.queue.dispatcher import Dispatcher, Limits
from tungsten_server.queue.driver import Patience
from tungsten_server.words.prediction import Failure, Output
from tungsten_server.words.problems import UnavailableError
from tungsten_server.words.stream import Stream
from tungsten_server.worker import frames

from tests.server.conftest import DEADLINE, wait_until

MAX_SETUPS = 5


class Turns:
    """A semaphore that can be waited for beside other things."""

    def __init__(self):
        self.fd, self._end = os.pipe()
        os.set_blocking(self.fd, False)

    def release(self, count=1):
        os.write(self._end, b"x" * count)

    def take(self):
        with suppress(BlockingIOError):
            return bool(os.read(self.fd, 1))

    def close(self):
        os.close(self.fd)
        os.close(self._end)


class FakeProcess:
    """A model process that gives each input back, one batch for each release of `turn`."""

    pid = 1

    def __init__(self, model, wake_fd):
        self.model = model
        self.wake_fd = wake_fd
        self.alive = True
        self.death = Turns()
        self.queue = deque()
        self.running = 0
        self.doing_else = None
        self.depth = 0  # most batches that it had at a time

    @property
    def doing(self):
        return self.doing_else or Doing(predicting=self.running)

    def wait_ready(self, timeout):
        if self.model.setups.popleft() if self.model.setups else False:
            raise ModelProcessError("broken")

    def begin(self, number, owners, inputs, log=None):
        self.model.owners.append(owners)
        self.queue.append((number, dict(enumerate(inputs))))
        self.depth = max(self.depth, len(self.queue))
        if len(self.queue) == 1:
            self._start()

    def cancel(self, number, places):
        self.model.unwanted.append((number, places))
        for queued, inputs in self.queue:
            if queued == number != self.running:
                for place in places:
                    inputs[place] = None

    def receive(self, deadline, limit):
        watched = [self.wake_fd, self.death.fd] + ([self.model.turn.fd] if self.queue else [])
        ready, _, _ = select.select(watched, [], [], DEADLINE)
        if not self.alive:
            raise ModelProcessError("died")
        if self.wake_fd in ready:
            os.read(self.wake_fd, 4096)
        elif self.model.turn.take():
            number, inputs = self.queue[0]
            if wanted := [one.decode() for one in inputs.values() if one is not None]:
                self.model.batches.append(wanted)
            if b"die" in inputs.values():
                raise ModelProcessError("died")
            self.queue.popleft()
            self._start()
            answers = [Failure("bad") if one == b"fail" else Output(one) for one in inputs.values()]
            return [Answers(number, 0, answers)]
        return []

    def _start(self):
        self.running = self.queue[0][0] if self.queue else 0
        if self.queue:
            self.model.started.release()

    def close(self, grace):
        self.alive = False

    def kill(self):
        self.alive = False
        self.death.release()


class Model:
    """The state of all its processes."""

    def __init__(self):
        self.setups = deque()
        self.batches = []
        self.owners = []
        self.unwanted = []
        self.started = threading.Semaphore(0)
        self.turn = Turns()
        self.processes = []

    def start(self, wake_fd):
        self.processes.append(FakeProcess(self, wake_fd))
        return self.processes[-1]

    def close(self):
        for turns in (self.turn, *[process.death for process in self.processes]):
            turns.close()

    def wait_busy(self):
        """Wait until a batch has begun."""
        assert self.started.acquire(timeout=DEADLINE)


@pytest.fixture
def model():
    model = Model()
    yield model
    model.close()


def dispatcher_of(model, *, workers, **settings):
    limits, patience = (
        kind(**{field.name: settings[field.name] for field in fields(kind)}) for kind in (Limits, Patience)
    )
    return Dispatcher(model.start, limits, patience, workers=workers)


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
            "queue_timeout": 9,
            "max_setups": MAX_SETUPS,
            "backoff": 0.001,
        }
        dispatcher = dispatcher_of(model, **{**settings, **changes})
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
    poisonous = submit(dispatcher, "a", "fail", "b", *"cdefgh")
    innocent = submit(dispatcher, "x")
    model.turn.release(9)
    assert result(dispatcher, poisonous) == "bad"
    assert result(dispatcher, innocent) == "x"
    # The second was with the process already, which is told that it need not run.
    assert model.batches == [["a", "fail", "b"], ["c", "d", "e"], ["x"]]
    assert model.unwanted == [(2, [0, 1, 2])]


def test_a_death_fails_what_ran_and_keeps_what_waits(model, dispatcher):
    dying = submit(dispatcher, "die")
    model.wait_busy()
    waiting = submit(dispatcher, "a")
    model.turn.release(9)
    assert result(dispatcher, dying) == "died"
    assert result(dispatcher, waiting) == "a"
    assert len(model.processes) == 2


def test_a_death_while_idle_starts_another_process(model, dispatcher):
    model.processes[0].kill()
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "a")) == "a"
    assert len(model.processes) == 2


def test_processes_that_do_nothing_but_die_are_replaced_more_and_more_slowly(model, make):
    dispatcher = ready(make(backoff=1000))
    model.processes[0].kill()
    wait_until(lambda: len(model.processes) == 2, "a replacement at once")
    ready(dispatcher)
    model.processes[1].kill()
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
    model.setups += [*[fail] * (MAX_SETUPS - 1), succeed, *[fail] * (MAX_SETUPS - 1), succeed]
    dispatcher = ready(make())
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "die")) == "died"
    assert result(dispatcher, submit(dispatcher, "a")) == "a"
    assert dispatcher.fatal is None


def test_setups_that_keep_failing_are_fatal_and_fail_what_waits(model, dispatcher):
    model.setups += [True] * MAX_SETUPS
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


def test_where_one_setup_is_all_there_are_its_failure_is_final(model, make):
    model.setups += [True, False]
    dispatcher, fatal = make(max_setups=1), threading.Event()
    dispatcher.on_fatal(fatal.set)
    assert fatal.wait(DEADLINE)
    assert dispatcher.fatal == "setup failed: broken"
    assert list(model.setups) == [False]


def test_a_late_listener_learns_of_a_fatal_error(model, make):
    model.setups += [True] * MAX_SETUPS
    dispatcher, first, second = make(), threading.Event(), threading.Event()
    dispatcher.on_fatal(first.set)
    assert first.wait(DEADLINE)
    dispatcher.on_fatal(second.set)
    assert second.is_set()


def test_a_defect_in_the_driver_is_fatal_and_not_silent(model, dispatcher, monkeypatch):
    monkeypatch.setattr(FakeProcess, "receive", lambda *_: [["not an answer"] * 2])
    fatal = threading.Event()
    dispatcher.on_fatal(fatal.set)
    prediction = submit(dispatcher, "a")
    assert fatal.wait(DEADLINE)
    assert result(dispatcher, prediction) == "internal error"


def test_an_input_that_waits_too_long_fails(model, make):
    dispatcher = ready(make(queue_timeout=0.5, batch_size=1))
    first = submit(dispatcher, "a")
    model.wait_busy()
    late = [submit(dispatcher, text) for text in "bcd"]
    assert all(result(dispatcher, one).endswith("Timeout") for one in late)
    # One of them was with the process already.
    wait_until(lambda: model.unwanted == [(2, [0])], "the notice that it need not run")
    model.turn.release(9)
    assert result(dispatcher, first) == "a"


def test_what_waits_expires_though_nobody_waits_for_it(model, make):
    dispatcher = ready(make(queue_timeout=0.5, batch_size=1))
    submit(dispatcher, "a")
    model.wait_busy()
    late = submit(dispatcher, "b")
    wait_until(lambda: dispatcher.expire() or late.done, "expiry")
    assert (late.outcome, late.status) == ("timeout", "failed")
    model.turn.release(9)


class TestAhead:
    """A batch that is with the process before the last one is answered."""

    def test_a_full_one_is_sent_and_no_other(self, model, dispatcher):
        first = submit(dispatcher, "a")
        model.wait_busy()
        others = [submit(dispatcher, text) for text in "bcdefghi"]
        wait_until(lambda: dispatcher.counts().queued == 5, "a batch ahead")
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (first, *others)] == list("abcdefghi")
        assert model.batches == [["a"], list("bcd"), list("efg"), list("hi")]

    def test_an_input_that_waits_longest_is_not_overtaken_by_a_full_batch_of_others(self, model, dispatcher):
        first = submit(dispatcher, "a")
        model.wait_busy()
        others = [submit(dispatcher, "b", key="other"), submit(dispatcher, *"cde")]
        model.turn.release(9)
        for prediction in (first, *others):
            result(dispatcher, prediction)
        assert model.batches == [["a"], ["b"], ["c", "d", "e"]]

    @pytest.mark.parametrize("running", [1, 0])
    def test_it_is_run_by_the_next_process_when_this_one_dies(self, model, dispatcher, running):
        dying = submit(dispatcher, "a")
        model.wait_busy()
        ahead, waiting = submit(dispatcher, *"bcd"), submit(dispatcher, *"ef")
        wait_until(lambda: dispatcher.counts().queued == 2, "a batch ahead")
        model.processes[0].running = running  # 0: it had left `predict`, and its answer is lost
        model.processes[0].kill()
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (dying, ahead, waiting)] == [
            "died" if running else "a",
            "bcd",
            "ef",
        ]
        assert model.batches == ([list("bcd"), list("ef")] if running else [list("abc"), list("def")])

    def test_what_only_waited_is_run_however_often_a_process_died_before_its_turn(self, model, dispatcher):
        dying = submit(dispatcher, "a")
        model.wait_busy()
        innocent = submit(dispatcher, *"bcd")
        wait_until(lambda: dispatcher.counts().queued == 0, "a batch ahead")
        for _ in range(5):
            model.processes[-1].running = 9  # another one is to blame
            model.processes[-1].kill()
            model.wait_busy()
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (dying, innocent)] == ["a", "bcd"]

    def test_nothing_is_sent_ahead_to_a_process_in_the_place_of_a_dead_one(self, model, dispatcher):
        dying = submit(dispatcher, "die")
        model.wait_busy()
        others = [submit(dispatcher, *"abc"), submit(dispatcher, *"def")]
        wait_until(lambda: dispatcher.counts().queued == 3, "a batch ahead")
        model.turn.release()
        assert result(dispatcher, dying) == "died"
        model.turn.release(9)
        assert [result(dispatcher, one) for one in others] == ["abc", "def"]
        assert [process.depth for process in model.processes] == [2, 1]

    @pytest.mark.parametrize("doing", [Doing(reading=1), Doing(writing=1)])
    def test_what_was_read_or_written_at_a_death_is_run_again_alone(self, model, dispatcher, doing):
        first = submit(dispatcher, "a")
        model.wait_busy()
        others = [submit(dispatcher, *"bcd"), submit(dispatcher, *"ef")]
        wait_until(lambda: dispatcher.counts().queued == 2, "a batch ahead")
        model.processes[0].doing_else = doing
        model.processes[0].kill()
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (first, *others)] == ["a", "bcd", "ef"]
        assert model.batches == [["a"], list("bcd"), list("ef")]

    @pytest.mark.parametrize("told", [False, True])
    def test_what_was_told_of_is_not_run_again(self, model, dispatcher, told):
        """Its generator has ended, and its files are being written."""
        stream = Stream((), keep=False)
        prediction = dispatcher.submit([Input(b"a", "k")], stream=stream)
        model.wait_busy()
        if told:
            stream.add(0, b"{}")
        model.processes[0].doing_else = Doing(writing=1)
        model.processes[0].kill()
        model.turn.release(9)
        assert result(dispatcher, prediction) == ("died" if told else "a")
        assert model.owners[0] == [frames.PIECES]

    def test_what_is_read_at_two_deaths_fails(self, model, dispatcher):
        poisonous = submit(dispatcher, "a")
        for _ in range(2):
            model.wait_busy()
            model.processes[-1].doing_else = Doing(reading=1)
            model.processes[-1].kill()
        assert result(dispatcher, poisonous) == "died"

    def test_what_hangs_is_the_first_and_not_what_waits_behind_it(self, model, dispatcher, monkeypatch):
        hanging = submit(dispatcher, "a")
        model.wait_busy()
        ahead = submit(dispatcher, *"bcd")
        wait_until(lambda: dispatcher.counts().queued == 0, "a batch ahead")
        failure = ModelProcessError("Timeout", "timeout")
        monkeypatch.setattr(model.processes[0], "receive", lambda *_: raises(failure))
        model.processes[0].running = 0
        dispatcher._drivers[0].wake()
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (hanging, ahead)] == ["Timeout", "bcd"]
        assert hanging.outcome == "timeout"

    def test_the_process_learns_whose_inputs_they_are(self, model, dispatcher):
        first = submit(dispatcher, "a")
        model.wait_busy()
        others = [submit(dispatcher, "b"), submit(dispatcher, "c", "d")]
        model.turn.release(9)
        for prediction in (first, *others):
            result(dispatcher, prediction)
        assert model.owners == [[0], [0, 1, 1]]


def raises(error):
    raise error


class TestCancel:
    def test_queued_inputs_are_removed_and_nothing_is_interrupted(self, model, dispatcher):
        running = submit(dispatcher, "a")
        model.wait_busy()
        # Not a full batch, which would be sent ahead.
        canceled, other = submit(dispatcher, "b"), submit(dispatcher, "d")
        dispatcher.cancel(canceled)
        assert (canceled.failure.message, canceled.outcome) == ("Canceled", "canceled")
        model.turn.release(9)
        assert [result(dispatcher, p) for p in (running, other)] == ["a", "d"]
        assert model.batches == [["a"], ["d"]]
        assert model.unwanted == []

    def test_a_batch_of_its_own_is_interrupted_by_its_number(self, model, dispatcher):
        model.turn.release()
        result(dispatcher, submit(dispatcher, "first"))
        model.wait_busy()
        canceled = submit(dispatcher, *"abcdef")
        model.wait_busy()
        dispatcher.cancel(canceled)
        wait_until(lambda: model.unwanted == [(2, [0, 1, 2]), (3, [0, 1, 2])], "the notices")
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
        assert model.unwanted == [(2, [0])]

    def test_what_is_done_is_left_alone(self, model, dispatcher):
        model.turn.release(9)
        done = submit(dispatcher, "a")
        result(dispatcher, done)
        dispatcher.cancel(done)
        assert done.status == "success"
        assert model.unwanted == []

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

    def test_nothing_is_sent_ahead_while_another_one_is_idle(self, model, make):
        dispatcher = make(workers=2)
        wait_until(lambda: dispatcher.counts().ready == 2, "two processes")
        predictions = [submit(dispatcher, *"abc"), submit(dispatcher, *"def")]
        model.wait_busy()
        model.wait_busy()
        assert [len(process.queue) for process in model.processes] == [1, 1]
        model.turn.release(9)
        assert [result(dispatcher, p) for p in predictions] == ["abc", "def"]

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
    wait_until(lambda: dispatcher.counts().queued == 2, "a batch ahead")
    before = dispatcher.counts()
    assert (before.pending, before.restarts, before.ready) == (4, 0, 1)
    dispatcher.cancel(others[2])
    model.turn.release(9)
    for prediction in (running, *others):
        result(dispatcher, prediction)
    after = dispatcher.counts()
    assert (after.queued, after.pending, after.restarts) == (0, 0, 1)
    assert after.predictions == {"failed": 2, "success": 1, "canceled": 1}
    assert after.batches == {1: 2, 3: 2}  # one of them twice


def test_results_above_the_limit_fail(model, make):
    dispatcher = ready(make(max_result=3))
    model.turn.release(9)
    assert result(dispatcher, submit(dispatcher, "abc")) == "abc"
    assert result(dispatcher, submit(dispatcher, "ab", "cd")).startswith("OutputTooLarge: ")


def test_nothing_is_accepted_before_the_first_setup_and_after_a_stop(model):
    dispatcher = Dispatcher(model.start, Limits(1, 1, 1, 1), Patience(1, 1, 1), workers=1)
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
