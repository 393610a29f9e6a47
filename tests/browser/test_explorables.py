"""The explorables: their arithmetic against ``bnkit.reference`` in a real browser, and their use
with a keyboard, without scripts, on a phone.
"""

import numpy as np
import pytest

from bnkit import reference
from bnkit.book.explorable import ALSO, NAMES, STATIC
from bnkit.plots import stills

TOLERANCE = 1e-12
FIGURE = (
    '<!DOCTYPE html><html lang="en"><title>{name}</title><figure class="explorable" '
    'data-explorable="{name}"><div class="explorable-stage" hidden></div>'
    '<img class="explorable-still" alt="still" src="data:,"></figure></html>'
)


@pytest.fixture(scope="module")
def arithmetic(browser):
    """Calls a function of the explorables in the browser, ``arithmetic("forward", x, 1, 0, 0)``."""
    page = browser.new_page()
    for script in (
        "arithmetic",
        "kit",
        *sorted({n for also in ALSO.values() for n in also}),
        *NAMES,
    ):
        page.add_script_tag(path=STATIC / f"{script}.js")

    def call(name, *arguments, room="arithmetic"):
        given = [a.tolist() if isinstance(a, np.ndarray) else a for a in arguments]
        call = "([room, name, given]) => bnkit[room][name](...given)"
        return page.evaluate(call, [room, name, given])

    yield call
    page.close()


def close(actual, expected):
    """Equal to 1e-12 of the largest; NaN is equal to nothing."""
    expected = np.asarray(expected, float)
    scale = max(np.abs(expected).max(), 1.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=False)


def one(x):
    return np.asarray(x, float)[:, None]


CASES = [
    ([0.0, 2, 2, 8], 1.0, 0.0, 0.0),  # by hand: mean 3, variance 9
    ([1.0, 3.0], 2.0, -1.0, 0.0),  # a batch of two
    ([5.0] * 4, 1.5, 0.5, 1e-5),  # a constant feature
    *(
        (rng.normal(rng.normal() * 10, 10.0 ** rng.integers(-2, 3), size), *rng.normal(size=2), eps)
        for rng in [np.random.default_rng(0)]
        for size in (2, 3, 60)
        for eps in (0.0, 1e-5, 0.1)
    ),
]


@pytest.mark.parametrize(("x", "gamma", "beta", "eps"), CASES)
def test_forward_and_backward_are_those_of_the_reference(arithmetic, x, gamma, beta, eps):
    x, dy = np.asarray(x), np.random.default_rng(len(x)).normal(size=len(x))
    y, cache = reference.forward(one(x), np.array([gamma]), np.array([beta]), eps)
    dx, dgamma, dbeta = reference.backward(one(dy), cache)
    ours = arithmetic("forward", x, gamma, beta, eps)
    close(ours["y"], y[:, 0])
    close(ours["xHat"], cache.x_hat[:, 0])
    close([ours["mean"], ours["variance"]], [cache.mean[0], cache.var[0]])
    back = arithmetic("backward", dy, ours)
    close(back["dx"], dx[:, 0])
    close([back["dgamma"], back["dbeta"]], [dgamma[0], dbeta[0]])


def test_the_batch_of_chapter_4_by_hand(arithmetic):
    ours = arithmetic("forward", [0, 2, 2, 8], 6, 1, 0)
    assert [ours["mean"], ours["variance"]] == [3, 9]
    close(ours["y"], [-5, -1, -1, 11])


@pytest.mark.parametrize(("x", "eps"), [([5.0, 5.0], 0.0), ([1.0], 1e-5), ([], 1e-5)])
def test_what_the_reference_refuses_is_refused(arithmetic, x, eps):
    with pytest.raises(ValueError, match=r"variance|at least two"):
        reference.forward(one(x), np.ones(1), np.zeros(1), eps)
    with pytest.raises(Exception, match=r"RangeError: (a training batch|the values do not vary)"):
        arithmetic("forward", x, 1, 0, eps)


@pytest.mark.parametrize("new_weight", [None, 0.01, 0.1, 1])
@pytest.mark.parametrize("m", [2, 16])
def test_running_statistics_are_those_of_the_reference(arithmetic, new_weight, m):
    batches = np.random.default_rng(m).normal(3, 2, (12, m))
    fresh = reference.Population(np.zeros(1), np.ones(1), 0)  # as PyTorch starts
    population, expected = None if new_weight is None else fresh, []
    for batch in batches:
        population = reference.observe(population, one(batch), new_weight)
        expected.append([population.mean[0], population.var[0]])
    ours = arithmetic("running", batches, new_weight, room="explorables")
    close([[each["mean"], each["variance"]] for each in ours], expected)
    assert ours[-1]["batches"] == 12


def test_company_is_that_of_the_reference(arithmetic):
    rng = np.random.default_rng(2)
    for m in (1, 7, 31):
        neighbours, mean, variance = rng.normal(size=m), rng.normal(), rng.uniform(0.1, 3)
        population = reference.Population(np.array([mean]), np.array([variance]), 1)
        pair = np.array([1.5]), np.array([-0.5])
        y, _ = reference.forward(one([0.7, *neighbours]), *pair, 1e-3)
        alone = reference.infer(one([0.7]), *pair, population, 1e-3)
        given = {"mean": mean, "variance": variance, "batches": 1}
        ours = arithmetic("company", 0.7, neighbours, given, 1.5, -0.5, 1e-3, room="explorables")
        close([ours["training"], ours["evaluation"]], [y[0, 0], alone[0, 0]])


def test_the_comparison_rejects_what_is_slightly_wrong(arithmetic):
    """A mutant: the unbiased variance where the biased one belongs."""
    x = np.array([0.0, 2, 2, 8])
    wrong = (x - x.mean()) / x.std(ddof=1)
    with pytest.raises(AssertionError):
        close(arithmetic("forward", x, 1, 0, 0)["y"], wrong)


@pytest.fixture
def shown(browser):
    """A page with one explorable, at work; `errors` of the page must stay empty."""
    contexts, errors = [], []

    def show(name, **how):
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.set_content(FIGURE.format(name=name))
        for script in ("arithmetic", "kit", *ALSO.get(name, ()), name):
            page.add_script_tag(path=STATIC / f"{script}.js")
        return page

    yield show
    for context in contexts:
        context.close()
    assert not errors


def test_every_explorable_has_a_still_picture_and_it_comes_out_twice_alike(tmp_path):
    assert set(stills.PICTURES) == set(NAMES)
    for folder in ("one", "two"):
        stills.main(str(tmp_path / folder), NAMES)
    for name in NAMES:
        one, two = ((tmp_path / folder / f"{name}.svg").read_bytes() for folder in ("one", "two"))
        assert one == two
        assert b"<path" in one


@pytest.mark.parametrize("name", NAMES)
def test_every_control_has_a_name_and_answers_to_the_keyboard(shown, name):
    page = shown(name, viewport={"width": 375, "height": 700}, reduced_motion="reduce")
    assert page.locator(".explorable-still").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.locator("svg[role=img]").first.get_attribute("aria-label")
    before = page.locator(".explorable-stage").inner_html()
    sliders = page.locator("input[type=range]")
    assert sliders.count()
    for place in range(sliders.count()):
        slider = sliders.nth(place)
        assert slider.evaluate("e => e.labels[0].firstChild.textContent").strip()
        slider.focus()
        page.keyboard.press("ArrowLeft")
        assert slider.get_attribute("aria-valuetext")
    assert page.locator(".explorable-stage").inner_html() != before
    for button in page.locator("button").all():
        button.focus()
        page.keyboard.press("Enter")
    assert page.locator(".explorable-answer").inner_text()


def test_a_value_is_dragged_and_the_others_feel_it(shown):
    page = shown("batch")
    handle = page.locator("svg .handle").first.bounding_box()
    middle = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1])
    page.mouse.up()
    assert float(page.locator("input[type=range]").first.input_value()) > 1
    assert "μ = 3," not in page.locator(".explorable-answer").inner_text()


def test_a_constant_feature_without_eps_is_refused_in_a_sentence(shown):
    page = shown("batch")
    for slider in page.locator("input[type=range]").all()[:4]:
        slider.fill("2")
    page.get_by_label("ε", exact=False).fill("0")
    assert "division by zero" in page.locator(".explorable-answer").inner_text()


def test_only_the_company_in_training_matters(shown):
    page = shown("company")
    answer = page.locator(".explorable-answer")
    moved = answer.inner_text()
    page.get_by_role("button", name="other neighbours").click()
    assert answer.inner_text() != moved
    page.get_by_label("mode").select_option("eval()")
    stays = answer.inner_text()
    page.get_by_role("button", name="other neighbours").click()
    assert answer.inner_text() == stays
    assert "differs by 0" in stays
