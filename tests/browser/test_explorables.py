"""The explorables: their arithmetic against ``bnkit.reference`` in a real browser, and their use
with a keyboard, without scripts, on a phone.
"""

import json
import re

import numpy as np
import pytest

from bnkit import gradcheck, paths, reference
from bnkit.book import run_here
from bnkit.book.explorable import ALSO, NAMES, STATIC, WITH_DATA
from bnkit.plots import stills
from bnkit.runs import records
from bnkit.studies import explorables

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


@pytest.mark.parametrize("m", [2, 3, 60])
def test_jitter_is_that_of_the_reference(arithmetic, m):
    companies = np.random.default_rng(m).normal(size=(20, m - 1))
    pair = np.ones(1), np.zeros(1)
    expected = [reference.forward(one([0.7, *c]), *pair, 0.0)[0][0, 0] for c in companies]
    ours = arithmetic("jitter", 0.7, companies, room="explorables")
    close(ours["values"], expected)
    close([ours["mean"], ours["deviation"]], [np.mean(expected), np.std(expected)])


def for_the_browser(layers):
    """Layers of the study as the scripts want them; typed arrays are made there."""
    return [
        {
            "inputs": layer.weight.shape[1],
            "out": layer.weight.shape[0],
            **{
                name: each.ravel().tolist()
                for name, each in layer._asdict().items()
                if each is not None
            },
        }
        for layer in layers
    ]


def network(normalised, sizes, seed):
    """Layers with parameters that are nowhere 0 or 1."""
    rng = np.random.default_rng(seed)
    return [
        explorables.Layer(
            *(each if each is None else each + rng.normal(0, 0.3, each.shape) for each in layer)
        )
        for layer in explorables.initial(sizes, 1.0, normalised, seed)
    ]


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("nonlinearity", explorables.NONLINEARITIES)
def test_gradients_on_their_way_down_are_those_of_numpy(arithmetic, normalised, nonlinearity):
    layers, rng = network(normalised, [5, 4, 6, 3], 1), np.random.default_rng(2)
    x, dy = rng.normal(size=(7, 5)), rng.normal(size=(7, 3))
    _, found = explorables.gradients(layers, x, lambda _: dy, nonlinearity)
    given = for_the_browser(layers), x.ravel(), dy.ravel(), 7, nonlinearity
    ours = arithmetic("depth", *given, room="explorables")
    close(ours, [np.linalg.norm(d) for d, _ in found])


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("nonlinearity", ["sigmoid", "tanh", "ReLU"])
def test_training_is_that_of_numpy(arithmetic, normalised, nonlinearity):
    layers, rng, expected = network(normalised, [2, 5, 4, 1], 3), np.random.default_rng(4), []
    points, labels = rng.normal(size=(20, 2)), rng.integers(0, 2, 20)
    batches = rng.integers(0, 20, (4, 8))
    data = {"points": points.ravel().tolist(), "labels": labels.tolist()}
    given = for_the_browser(layers), data, batches, 0.5, nonlinearity
    for places in batches:
        loss, layers = explorables.descend(
            layers, points[places], labels[places], 0.5, nonlinearity
        )
        expected.append(loss)
    close(arithmetic("training", *given, room="explorables"), expected)
    assert len(set(expected)) == 4


def test_the_studys_own_gradients_are_those_of_differences():
    """The witness has a witness: a network with BN and one without, by central differences."""
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(6, 2)), np.array([0, 1, 1, 0, 1, 0])
    for normalised in (True, False):
        layers = network(normalised, [2, 3, 1], 6)
        _, moved = explorables.descend(layers, x, labels, 1.0, "tanh")

        def loss(weight, layers=layers):
            first = layers[0]._replace(weight=weight)
            return explorables.descend([first, *layers[1:]], x, labels, 1.0, "tanh")[0]

        slope = gradcheck.numerical_gradient(loss, layers[0].weight)
        assert gradcheck.relative_error(layers[0].weight - moved[0].weight, slope) < 1e-7


def test_the_recorded_distributions_are_the_records_own(arithmetic):
    data = explorables.layers()
    for size, suffix in explorables.SIZES.items():
        for key, name in (("without", "inception"), ("with", "bn-baseline")):
            steps, values = records.load("inception", f"{name}{suffix}", 0).curve("inputs")
            assert data["runs"][size]["steps"] == steps.tolist()
            assert data["runs"][size][key] == values.tolist()
    spreads = np.subtract(*values[-1].T[[2, 0]])
    ours = arithmetic("layers", values[-1], room="explorables")
    close(ours["spreads"], spreads)
    close(ours["ratio"], spreads.max() / spreads.min())


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
            if script in WITH_DATA:
                page.add_script_tag(content=explorables.script())
            page.add_script_tag(path=STATIC / f"{script}.js")
        return page

    yield show
    for context in contexts:
        context.close()
    assert not errors


@pytest.mark.parametrize("name", NAMES)
def test_every_explorable_has_a_still_picture(tmp_path, name):
    drawing = stills.PICTURES[name](explorables.SETTINGS[name]())
    stills.save(drawing, tmp_path / "picture.svg")
    picture = (tmp_path / "picture.svg").read_bytes()
    assert b"<path" in picture
    assert len(picture) < 100_000
    if name == "batch":  # two builds give the same bytes
        stills.save(stills.batch(explorables.batch()), tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_bytes() == picture


def on_pages():
    """The explorables of each chapter, by its name."""
    for path in sorted((paths.root() / "chapters").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells)
        if names := re.findall(r"(?m)^```\{explorable\} (\w+)", text):
            yield path.stem, names


def test_every_explorable_stands_in_a_chapter():
    assert {name for _, names in on_pages() for name in names} == set(NAMES)


def test_no_page_loads_more_than_sixty_kilobytes_of_scripts_for_them():
    for _, names in on_pages():
        also = [script for name in names for script in ALSO.get(name, ())]
        scripts = {STATIC / f"{script}.js" for script in ("arithmetic", "kit", *also, *names)}
        scripts |= set(run_here.STATIC.glob("run.*"))
        data = len(explorables.script()) if WITH_DATA & set(names) else 0
        assert sum(script.stat().st_size for script in scripts) + data < 60 * 1024


def test_the_settings_are_those_of_the_explorables():
    assert set(stills.PICTURES) == set(explorables.SETTINGS) == set(NAMES)


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
        page.keyboard.press("ArrowRight")
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
