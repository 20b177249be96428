from tungsten_server.http.results import OVERHEAD, Results
from tungsten_server.words.prediction import Failure, Output, Prediction


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def make(max_age=10, max_bytes=100_000):
    clock = Clock()
    return Results(max_age, max_bytes, clock), clock


def added(results, size=None):
    """A prediction that is held; done, with `size` bytes of result, if that is given."""
    prediction = Prediction(1, max_bytes=1000, on_done=results.finished)
    results.add(prediction)
    if size is not None:
        prediction.record(0, Output(b"x" * size))
    return prediction


def held(results, *predictions):
    return [results.get(prediction.id) is prediction for prediction in predictions]


def test_an_id_finds_its_prediction_and_no_other():
    results, _ = make()
    one, two = added(results), added(results, 5)
    assert held(results, one, two) == [True, True]
    assert one.id != two.id
    assert results.get("0" * 32) is None


def test_a_result_is_forgotten_when_it_is_old_enough_counted_from_its_end():
    results, clock = make(max_age=10)
    prediction = added(results)
    clock.now += 1000
    assert held(results, prediction) == [True]
    prediction.record(0, Output(b"x"))
    clock.now += 9.9
    assert held(results, prediction) == [True]
    clock.now += 0.2
    assert held(results, prediction) == [False]
    assert results.held_bytes == 0


def test_failures_expire_too():
    results, clock = make(max_age=10)
    prediction = added(results)
    prediction.record(0, Failure("bad"))
    assert results.held_bytes == 3 + OVERHEAD
    clock.now += 11
    assert held(results, prediction) == [False]


def test_the_oldest_results_make_room_for_new_ones():
    results, _ = make(max_bytes=100 + 2 * OVERHEAD)
    running = added(results)
    old, middle, new = (added(results, size) for size in (50, 40, 30))
    assert held(results, running, old, middle, new) == [True, False, True, True]
    assert results.held_bytes == 70 + 2 * OVERHEAD


def test_the_newest_result_is_kept_whatever_its_size():
    results, _ = make(max_bytes=100)
    old, new = added(results, 10), added(results, 500)
    assert held(results, old, new) == [False, True]


def test_one_that_is_done_before_it_is_added_expires_as_well():
    results, clock = make(max_age=10)
    prediction = Prediction(1, max_bytes=10, on_done=results.finished)
    prediction.record(0, Output(b"x"))
    results.add(prediction)
    assert results.held_bytes == 1 + OVERHEAD
    clock.now += 11
    assert held(results, prediction) == [False]


def test_what_was_never_added_takes_no_room():
    results, _ = make()
    Prediction(1, max_bytes=10, on_done=results.finished).record(0, Output(b"x"))
    assert results.held_bytes == 0


def test_files_have_an_id_of_their_own_as_long_as_the_result_is_held():
    results, clock = make(max_age=10)
    one, running = added(results, 5), added(results)
    files_id = results.files_id(one)
    assert results.of_files(files_id) is one
    assert results.files_id(one) == files_id != one.id
    assert results.of_files(one.id) is None
    assert results.files_id(running) is None
    clock.now += 11
    assert results.of_files(files_id) is None
    assert results.files_id(one) is None


def test_files_have_an_id_as_soon_as_the_prediction_is_done_though_nobody_has_said_so():
    results, _ = make()
    prediction = Prediction(1, max_bytes=10)
    results.add(prediction)
    prediction.record(0, Output(b"x"))
    assert results.of_files(results.files_id(prediction)) is prediction
    results.finished(prediction)
    assert results.held_bytes == 1 + OVERHEAD
