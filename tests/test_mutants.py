"""The checks catch: each wrong variant turns the check red that is named for it."""

import inspect

import pytest
from checks import CHECKS

from bnkit import mutants


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("right", [mutants.Textbook, mutants.HalfOfTheMeanGradient])
def test_right_variants_pass_every_check(right, name):
    """The printed equations, and the equivalent mutant: dropping a term that is always zero is no
    mistake."""
    CHECKS[name](right())


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_rejected_by_its_check(mutant):
    with pytest.raises(AssertionError):
        CHECKS[mutant.rejected_by](mutant())


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_passes_the_check_that_proves_nothing_about_it(mutant):
    CHECKS[mutant.passes](mutant())


def test_every_mutant_is_in_the_list():
    variants = {
        thing
        for thing in vars(mutants).values()
        if inspect.isclass(thing) and thing.__base__ is mutants.Textbook
    }
    assert variants == {*mutants.MUTANTS, mutants.HalfOfTheMeanGradient}


def rejects(check, mutant):
    try:
        check(mutant())
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_rejects_some_mutant(name):
    """A check that no mistake of the list turns red would be a check that cannot fail."""
    assert any(rejects(CHECKS[name], mutant) for mutant in mutants.MUTANTS)
