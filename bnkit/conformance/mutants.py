"""Implementations done wrong, one mistake at a time: for each probe one that fails it alone.

Each overrides one step of ``Variant``, which fails none. ``fails`` is the probe that must say no,
and no other may. Most are mistakes that have been made: sums in the batch's own dtype, the variance
as E[x²] − E[x]², gradients left to accumulate, a kernel that drops its last block.
"""

import numpy as np

from bnkit.conformance import judge
from bnkit.conformance.judge import column
from bnkit.conformance.step import SPACING
from bnkit.conformance.variants import Variant


def over(x):
    """The axes of a batch with features on axis 1."""
    return (0, *range(2, x.ndim))


# ---- An ordinary batch ---------------------------------------------------------------------------


class GammaOnBeta(Variant):
    """γ(x̂ + β): invisible at β = 0, where every network starts."""

    fails = "forward"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        return step._replace(y=step.y + column((gamma - 1) * beta, x))


class NoMeanTerm(Variant):
    """∂ℓ/∂μ forgotten in ∂ℓ/∂x."""

    fails = "dx"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        s, _ = judge.inverse_root(judge.moments(x)[1], self.rule)
        return step._replace(dx=step.dx + column(gamma * s, x) * dy.mean(over(x), keepdims=True))


class GammaGradientFromCentred(Variant):
    """∂ℓ/∂γ with x − μ in place of x̂."""

    fails = "dgamma"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        return step._replace(dgamma=((x - column(judge.moments(x)[0], x)) * dy).sum(over(x)))


class BetaGradientAveraged(Variant):
    """∂ℓ/∂β as a mean, where it is a sum."""

    fails = "dbeta"

    def normalised(self, x, gamma, beta, dy):
        return super().normalised(x, gamma, beta, dy)._replace(dbeta=dy.mean(over(x)))


class ExamplesCounted(Variant):
    """The mean of ∂ℓ/∂y divides by the examples, not by examples times places."""

    fails = "maps"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        s, _ = judge.inverse_root(judge.moments(x)[1], self.rule)
        m, n = x.size / x.shape[1], len(x)
        return step._replace(dx=step.dx + column(gamma * s * dy.sum(over(x)) * (1 / m - 1 / n), x))


class NormalisedFromOutput(Variant):
    """x̂ taken back from y to save memory: it cannot be had where γ is 0."""

    fails = "zero_gamma"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        x_hat = (step.y - column(beta, x)) / column(gamma, x)
        return step._replace(dgamma=(x_hat * dy).sum(over(x)))


class FromTheSecondStep(Variant):
    """Not a mutant: what those share that are right only while there is no state."""

    def step(self, x, gamma, beta, dy, state):
        result = super().step(x, gamma, beta, dy, state)
        return result if state is None else self.spoilt(result)

    def spoilt(self, step):
        return step


class InputGradientOnce(FromTheSecondStep):
    """∂ℓ/∂x is 0 from the second step on, as of a graph that was freed."""

    fails = "later_steps"

    def spoilt(self, step):
        return step._replace(dx=0 * step.dx)


class GammaGradientTurnsRound(FromTheSecondStep):
    """∂ℓ/∂γ with its sign reversed from the second step on."""

    fails = "later_steps"

    def spoilt(self, step):
        return step._replace(dgamma=-step.dgamma)


class BetaGradientOnce(FromTheSecondStep):
    """∂ℓ/∂β is 0 from the second step on."""

    fails = "later_steps"

    def spoilt(self, step):
        return step._replace(dbeta=0 * step.dbeta)


class GradientsOnce(FromTheSecondStep):
    """No gradient is returned from the second step on."""

    fails = "later_steps"

    def spoilt(self, step):
        return step._replace(dx=None, dgamma=None, dbeta=None)


class OutputDrifts(FromTheSecondStep):
    """y is off by 0.4 % from the second step on: too little for ``training_uses``."""

    fails = "later_steps"

    def spoilt(self, step):
        return step._replace(y=(step.y * 1.004).astype(step.y.dtype))


class GradientsAccumulate(Variant):
    """∂ℓ/∂β of the step before is added, as where nobody sets it to 0."""

    fails = "later_steps"

    def step(self, x, gamma, beta, dy, state):
        before, state = (0, None) if state is None else (state[-1], state[:-1])
        result = super().step(x, gamma, beta, dy, state)
        dbeta = result.dbeta + (before if np.size(before) == len(result.dbeta) else 0)
        return result._replace(dbeta=dbeta, state=(*result.state, dbeta))

    def infer(self, x, gamma, beta, dy, state):
        return super().infer(x, gamma, beta, dy, state[:3])


# ---- Running values and inference ----------------------------------------------------------------


class RunningValuesInFloat32(Variant):
    """Running values kept in float32, whatever the batch is in."""

    fails = "running_values"

    def observed(self, state, x):
        mean, var, batches = super().observed(state, x)
        return mean.astype(np.float32), var.astype(np.float32), batches


class Inferring(Variant):
    """Not a mutant: what those that get inference wrong share."""

    def infer(self, x, gamma, beta, dy, state):
        step = super().infer(x, gamma, beta, dy, state)
        gamma, beta = self.filled(x, gamma, beta)
        return self.spoilt(step, x, gamma, beta, dy, state)

    def spoilt(self, step, x, gamma, beta, dy, state):
        return step


class InferenceWithoutBeta(Inferring):
    """β forgotten at inference."""

    fails = "inference"

    def spoilt(self, step, x, gamma, beta, dy, state):
        return step._replace(y=step.y - column(beta, x))


class FrozenGradientWithoutGamma(Inferring):
    """∂ℓ/∂x of inference without γ."""

    fails = "inference_dx"

    def spoilt(self, step, x, gamma, beta, dy, state):
        return step._replace(dx=step.dx / column(gamma, x))


class FrozenGammaGradientFromCentred(Inferring):
    """∂ℓ/∂γ of inference with x − E[x] in place of x̂."""

    fails = "inference_dgamma"

    def spoilt(self, step, x, gamma, beta, dy, state):
        return step._replace(dgamma=(dy * (x - column(state[0], x))).sum(over(x)))


class FrozenBetaGradientAveraged(Inferring):
    """∂ℓ/∂β of inference as a mean."""

    fails = "inference_dbeta"

    def spoilt(self, step, x, gamma, beta, dy, state):
        return step._replace(dbeta=dy.mean(over(x)))


class LoadsDeviations(Variant):
    """Loads standard deviations for variances."""

    fails = "moved_weights"

    def load(self, mean, var):
        return super().load(mean, np.sqrt(var))


# ---- Where digits are lost -----------------------------------------------------------------------


class InOwnDtype(Variant):
    """Not a mutant: y from moments that a mutant computes in the batch's own dtype."""

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        mean, var = (np.asarray(v, np.longdouble) for v in self.rough(x))
        s, _ = judge.inverse_root(var, self.rule)
        y = column(gamma * s, x) * (x - column(mean, x)) + column(beta, x)
        return step._replace(y=np.where(np.isfinite(x), y, np.nan))

    def rough(self, x):
        return judge.moments(x)


class MeanOfSquaresLessSquareOfMean(InOwnDtype):
    """E[x²] − E[x]² in float32; a constant channel is caught."""

    fails = "large_mean"

    def rough(self, x):
        mean, var = judge.moments(x)
        if x.dtype != np.float32:
            return mean, var
        short = x.mean(over(x))
        rough = np.maximum((x * x).mean(over(x)) - short**2, 0)
        # where the mean is not large its error is what an honest sum costs, too
        return mean, np.where((var > 0) & (abs(mean) > 50 * np.sqrt(var)), rough, var)


class MeanRounded(InOwnDtype):
    """Deviations from a mean that was rounded to a float32."""

    fails = "larger_mean"

    def rough(self, x):
        mean, var = judge.moments(x)
        return (mean.astype(np.float32) if x.dtype == np.float32 else mean), var


class DeadChannelShortcut(Variant):
    """y = β for channels that hardly vary, as if they were constant."""

    fails = "tiny_scale"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        alive = column(judge.moments(x)[1] > 1e-22, x)
        return step._replace(y=np.where(alive | np.isnan(step.y), step.y, column(beta, x)))


class PowerUnderflows(Variant):
    """(σ² + ε)^(−3/2) in float32, as printed in Sec. 3: 0 where σ² is 1e30."""

    fails = "huge_scale"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        mean, var = judge.moments(x)
        if x.dtype != np.float32:
            return step
        with np.errstate(under="ignore"):
            power = (np.float32(1) / (var + self.rule.epsilon).astype(np.float32)) ** np.float32(
                1.5
            )
        exact = (var + self.rule.epsilon) ** -1.5
        x_mu = x - column(mean, x)
        m = x.size // x.shape[1]
        along = (dy.astype(np.float64) * x_mu).sum(over(x))
        return step._replace(dx=step.dx + column(gamma * along / m * (exact - power), x) * x_mu)


class DeviationFirst(Variant):
    """(x − μ)/σ first, then σ/√(σ² + ε): 0/0 where a channel is constant."""

    fails = "constant_channel"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        var = judge.moments(x)[1]
        return step._replace(y=step.y * column(np.sqrt(var) / np.sqrt(var), x))


class OneAfterTheOther(Variant):
    """∂ℓ/∂β added up one after the other in float32."""

    fails = "long_sums"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        if x.dtype == np.float64:
            return step
        terms = np.moveaxis(dy, 1, 0).reshape(x.shape[1], -1).astype(np.float32)
        return step._replace(dbeta=np.cumsum(terms, axis=1)[:, -1])


class VarianceInFloat16(InOwnDtype):
    """σ² in float16, where 256² is too much."""

    fails = "float16_range"

    def rough(self, x):
        mean, var = judge.moments(x)
        return mean, (var.astype(x.dtype) if x.dtype == np.float16 else var)


class SumInFloat16(InOwnDtype):
    """The sum of a channel in float16, where 65504 is the end."""

    fails = "float16_sum"

    def rough(self, x):
        mean, var = judge.moments(x)
        if x.dtype != np.float16:
            return mean, var
        m = x.size // x.shape[1]
        return np.where(np.isinf((mean * m).astype(np.float16)), np.inf, mean), var


# ---- Conduct -------------------------------------------------------------------------------------


class Dithered(Variant):
    """The last bit of ∂ℓ/∂β is drawn by lot."""

    fails = "deterministic"
    lots = np.random.default_rng(0)

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        noise = 1 + 4 * SPACING[str(x.dtype)] * self.lots.random(x.shape[1])
        return step._replace(dbeta=step.dbeta * noise)


class RemembersTheBatchBefore(Variant):
    """Measures from the mean of the batch before: the last bits are its memory."""

    fails = "no_hidden_state"

    def __init__(self, *settings, **more):
        super().__init__(*settings, **more)
        self.last, self.origin = None, 0.0

    def normalised(self, x, gamma, beta, dy):
        if self.last is None or not np.array_equal(x, self.last):
            self.origin = 0.0 if self.last is None else float(np.nan_to_num(self.last).mean())
            self.last = x.copy()
        step = super().normalised(x, gamma, beta, dy)
        return step._replace(dbeta=step.dbeta * (1 + 2.0**-55 * min(self.origin, 200)))


class OverwritesDy(Variant):
    """∂ℓ/∂x̂ = γ ∂ℓ/∂y computed in place."""

    fails = "arguments_kept"

    def step(self, x, gamma, beta, dy, state):
        result = super().step(x, gamma, beta, dy, state)
        dy *= 2
        return result


class ComesBackInFloat64(Variant):
    """y in float64, whatever x is in."""

    fails = "dtype_kept"

    def step(self, x, gamma, beta, dy, state):
        result = super().step(x, gamma, beta, dy, state)
        return result._replace(y=result.y.astype(np.float64))


class IgnoresStrides(Variant):
    """Reads the batch in the order in which it lies in memory."""

    fails = "any_layout"

    def step(self, x, gamma, beta, dy, state):
        return super().step(x.ravel(order="K").reshape(x.shape), gamma, beta, dy, state)


class LastBlockDropped(Variant):
    """Statistics over blocks of 32 examples; what is left over after the last one is left out."""

    fails = "order_of_batch"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        whole = len(x) if len(x) < 32 else len(x) // 32 * 32
        if whole == len(x):
            return step
        kept = judge.train(x[:whole], gamma, beta, dy[:whole], self.rule)
        return step._replace(y=step.y + (kept.y[:1] - step.y[:1]))


class SpoilsTheWholeBatch(Variant):
    """One value that is not finite, and all of the output is NaN."""

    fails = "nan_stays"

    def normalised(self, x, gamma, beta, dy):
        step = super().normalised(x, gamma, beta, dy)
        return step if np.isfinite(x).all() else step._replace(y=np.full_like(step.y, np.nan))


class SharedExponent(Inferring):
    """y at inference on a grid as fine as the largest of its channel: blocks of floating points."""

    fails = "inference_alone"

    def spoilt(self, step, x, gamma, beta, dy, state):
        largest = np.abs(step.y).max(over(x), keepdims=True)
        grid = 8 * SPACING[str(x.dtype)] * largest.astype(np.float64)
        grid = np.where(grid == 0, 1, grid)
        return step._replace(y=(np.round(step.y / grid) * grid).astype(x.dtype))


class LearnsAtInference(Inferring):
    """The running mean goes on at inference."""

    fails = "inference_learns_nothing"

    def spoilt(self, step, x, gamma, beta, dy, state):
        state[0][:] += 0.1 * (x.mean(over(x)) - state[0])
        return step


class HandsOnWhatItLearnt(Inferring):
    """Inference leaves its state alone, and returns another one."""

    fails = "inference_learns_nothing"

    def spoilt(self, step, x, gamma, beta, dy, state):
        mean = state[0] + 0.1 * (x.mean(over(x)) - state[0])
        return step._replace(state=(mean, *state[1:]))


# ---- Conventions that are a choice, made in an unusual way ---------------------------------------


class NoDefaults(Variant):
    """γ and β may not be left out."""

    answers = "without_gamma_beta"

    def filled(self, x, gamma, beta):
        if gamma is None:
            raise TypeError("gamma is None; pass np.ones(d).")
        return gamma, beta


class TrainsByRunningValues(Variant):
    """From the second batch on, training normalises by running values."""

    answers = "training_uses"

    def step(self, x, gamma, beta, dy, state):
        result = super().step(x, gamma, beta, dy, state)
        if state is None:
            return result
        return result._replace(y=self.infer(x, gamma, beta, dy, result.state).y)


class InfersByTheBatch(Variant):
    """The batch's own statistics at inference."""

    answers = "inference_uses"

    def at_inference(self, x, state):
        return judge.moments(x)


class InfersWithAnotherEpsilon(Variant):
    """ε = 1e-3 at inference, 1e-5 in training."""

    answers = "inference_epsilon"

    def infer(self, x, gamma, beta, dy, state):
        return Variant(self.rule._replace(epsilon=1e-3), self.running).infer(
            x, gamma, beta, dy, state
        )


def _all():
    classes = [thing for thing in globals().values() if isinstance(thing, type)]
    return [c for c in classes if issubclass(c, Variant) and {"fails", "answers"} & vars(c).keys()]


MUTANTS = _all()
