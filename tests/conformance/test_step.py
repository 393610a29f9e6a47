"""How errors are counted, and how a subject is called."""

import numpy as np
import pytest

from bnkit.conformance.step import SPACING, Step, Subject, Trouble, spacings


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_spacing_is_numpys(dtype):
    assert SPACING[dtype] == np.finfo(dtype).eps


def test_errors_count_against_the_largest_of_their_channel():
    right = np.array([[1.0, 100.0], [0.5, -256.0]])
    found = right + np.array([[0, 0], [2**-52, 3 * 2**-52 * 256]])
    assert spacings(found, right, "float64") == 3
    assert spacings(right, right, "float64") == 0
    assert spacings(np.array([1.0, np.nan]), np.array([1.0, 2.0]), "float64") == np.inf
    assert spacings(np.array([1e-30]), np.array([0.0]), "float32") > 1e10  # zero has no spacing
    assert spacings(np.zeros((0, 3)), np.zeros((0, 3)), "float32") == 0


def last_axis(x, gamma, beta, dy, state):
    assert x.shape[-1] == len(gamma)
    return Step(x * gamma, dy, mean=gamma, state=state)


def test_a_subject_with_features_last_is_turned_both_ways():
    subject = Subject(last_axis)
    subject.axis = -1
    x, gamma = np.random.default_rng(0).normal(size=(2, 3, 4, 5)), np.arange(3.0)
    step = subject.train(x, gamma, gamma)
    assert np.array_equal(step.y, x * gamma[:, None, None])
    assert np.array_equal(step.dx, np.ones_like(x))


def test_a_subject_of_maps_gets_vectors_as_maps():
    shapes = []

    def step(x, gamma, beta, dy, state):
        shapes.append(x.shape)
        return Step(x)

    subject = Subject(step)
    subject.flat = False
    x = np.arange(12.0).reshape(4, 3)
    assert np.array_equal(subject.train(x, np.ones(3), np.ones(3)).y, x)
    assert shapes == [(4, 3, 1, 1)]


def test_arguments_that_a_call_changed_are_named_and_repaired():
    def step(x, gamma, beta, dy, state):
        x[0] = 9
        gamma += 1
        return Step(x.copy())

    subject = Subject(step)
    x, gamma = np.zeros((4, 3)), np.zeros(3)
    subject.train(x, gamma, np.zeros(3))
    assert subject.mutated == {"x", "gamma"}
    assert not x.any()
    assert not gamma.any()


def test_a_result_in_an_arguments_own_memory_is_read_before_that_is_repaired():
    def step(x, gamma, beta, dy, state):
        x *= 2
        dy[...] = 7
        gamma[...] = 5
        return Step(x, dy, gamma)

    subject = Subject(step)
    x, gamma = np.ones((4, 3)), np.ones(3)
    result = subject.train(x, gamma, np.zeros(3))
    assert (result.y == 2).all()
    assert (result.dx == 7).all()
    assert (result.dgamma == 5).all()
    assert subject.mutated == {"x", "gamma", "dy"}
    assert (x == 1).all()
    assert (gamma == 1).all()


def test_arguments_are_repaired_after_a_step_that_raised():
    def step(x, gamma, beta, dy, state):
        x += 1
        raise ValueError("by hand")

    subject, x = Subject(step), np.zeros((4, 3))
    with pytest.raises(Trouble, match="raised ValueError: by hand"):
        subject.train(x, np.ones(3), np.zeros(3))
    assert not x.any()


def test_results_are_copies():
    memory = np.zeros((4, 3))
    subject = Subject(lambda x, *rest: Step(memory))
    y = subject.train(np.zeros((4, 3)), np.zeros(3), np.zeros(3)).y
    memory += 1
    assert not y.any()


def test_without_inference_there_is_none():
    subject = Subject(last_axis)
    assert not subject.infers
    with pytest.raises(Trouble, match="no function for inference"):
        subject.infer(np.zeros((4, 3)), np.zeros(3), np.zeros(3), None)
