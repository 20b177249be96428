from tungsten_server.words.budget import ByteBudget


def test_no_more_is_taken_than_there_is_until_some_is_given_back():
    budget = ByteBudget(10)
    assert [budget.take(size) for size in (6, 4, 1)] == [True, True, False]
    budget.give_back(4)
    assert [budget.take(size) for size in (5, 4)] == [False, True]
    assert budget.taken == 10


def test_one_request_is_let_in_whatever_its_size():
    budget = ByteBudget(10)
    assert budget.take(100)
    assert not budget.take(1)
    budget.give_back(100)
    assert budget.take(1)
