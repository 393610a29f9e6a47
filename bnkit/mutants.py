"""Batch Normalization done wrong, one mistake at a time.

``Textbook`` is right: the six equations of Sec. 3 as printed, in plain float64 NumPy, each step a
method. Each mutant overrides one step. ``rejected_by`` names the check that must turn red, and
``passes`` one that stays green although it seems to guard the same thing: do not rely on it.
"""

import numpy as np

from bnkit.reference import Population


class Textbook:
    """Same face as ``bnkit.reference``, none of its code, no refusals and no speed."""

    def axes(self, x):
        return (0, *range(2, x.ndim))

    def sum_of(self, values):
        return np.sum(values, axis=self.axes(values), keepdims=True)

    def mean_of(self, values, x):
        return values.mean(axis=self.axes(x), keepdims=True, dtype=np.float64)

    def variance(self, x):
        return self.mean_of((x - self.mean_of(x, x)) ** 2, x)

    def divisor(self, var, eps):
        return np.sqrt(var + eps)

    def forward(self, x, gamma, beta, eps=1e-5):
        mean, var = self.mean_of(x, x), self.variance(x)
        x_hat = (x - mean) / self.divisor(var, eps)
        y = column(gamma, x) * x_hat + column(beta, x)
        return y.astype(x.dtype), (x, x_hat, mean, var, gamma, eps)

    def backward(self, dy, cache):
        x, x_hat, mean, var, gamma, eps = cache
        dx_hat = dy * column(gamma, x)
        dvar = self.d_variance(dx_hat, x - mean, var + eps)
        dmean = self.d_mean(dx_hat, x - mean, var + eps, dvar)
        dx = self.d_input(dx_hat, x - mean, var + eps, dvar, dmean)
        everywhere = (0, *range(2, x.ndim))
        return dx, self.d_gamma(dy, x_hat, x - mean).sum(axis=everywhere), dy.sum(axis=everywhere)

    def d_variance(self, dx_hat, x_mu, var_eps):
        return self.sum_of(dx_hat * x_mu) * (-1 / 2) * var_eps ** (-3 / 2)

    def d_mean(self, dx_hat, x_mu, var_eps, dvar):
        return self.sum_of(dx_hat * -1 / np.sqrt(var_eps)) + dvar * self.mean_of(-2 * x_mu, x_mu)

    def d_input(self, dx_hat, x_mu, var_eps, dvar, dmean):
        m = x_mu.size // dmean.size
        return dx_hat / np.sqrt(var_eps) + dvar * 2 * x_mu / m + dmean / m

    def d_gamma(self, dy, x_hat, x_mu):
        return dy * x_hat

    def observe(self, population, x, new_weight=None):
        m = x.size // x.shape[1]
        mean, var = self.mean_of(x, x).ravel(), self.stored(self.variance(x).ravel(), m)
        if population is None:
            return Population(mean, var, 1)
        share = 1 / (population.batches + 1) if new_weight is None else new_weight
        mean, var = self.blend(population.mean, mean, share), self.blend(population.var, var, share)
        return Population(mean, var, population.batches + 1)

    def stored(self, var, m):
        return m / (m - 1) * var

    def blend(self, old, new, share):
        return (1 - share) * old + share * new

    def infer(self, x, gamma, beta, population, eps=1e-5):
        mean, var = self.at_inference(x, population)
        gamma, beta, mean, var = (column(vector, x) for vector in (gamma, beta, mean, var))
        return gamma * (x - mean) / np.sqrt(var + eps) + beta

    def at_inference(self, x, population):
        return population.mean, population.var

    def fold(self, weight, bias, gamma, beta, population, eps=1e-5):
        scale = gamma / np.sqrt(population.var + eps)
        bias = 0.0 if bias is None else bias
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        return folded, self.folded_bias(bias, beta, scale, population)

    def folded_bias(self, bias, beta, scale, population):
        return beta + scale * (bias - population.mean)


def column(vector, x):
    return np.reshape(vector, (-1, *[1] * (x.ndim - 2)))


# ---- Wrong statistics ----------------------------------------------------------------------------


class UnbiasedVarianceToNormalize(Textbook):
    """Algorithm 1 divides by m; Bessel's correction belongs into the population only."""

    rejected_by, passes = "output_variance_is_exact", "output_mean_is_beta"

    def variance(self, x):
        m = x[:, 0].size
        return m / (m - 1) * super().variance(x)

    def stored(self, var, m):
        return var


class MeanOfSquaresLessSquareOfMean(Textbook):
    """E[x²] − E[x]² in the data's own dtype: right on paper, lost in float32 at a large mean."""

    rejected_by, passes = "large_mean_in_float32_keeps_the_variance", "output_equals_torch"

    def variance(self, x):
        mean, mean_square = (v.mean(axis=self.axes(x), keepdims=True) for v in (x, x * x))
        return np.maximum(mean_square - mean**2, np.finfo(x.dtype).tiny)


class StatisticsPerPlace(Textbook):
    """A map normalised over the examples only, each place for itself: not the BN of Sec. 3.2."""

    rejected_by, passes = "maps_equal_their_unfolding", "output_equals_torch"

    def axes(self, x):
        return (0,)


class StatisticsOverFeatures(Textbook):
    """Each example normalised over its features: that is layer normalisation."""

    rejected_by, passes = "output_mean_is_beta", "inference_equals_torch"

    def axes(self, x):
        return tuple(range(1, x.ndim))

    def observe(self, population, x, new_weight=None):
        return Textbook().observe(population, x, new_weight)


# ---- Wrong division ------------------------------------------------------------------------------


class EpsOutsideTheRoot(Textbook):
    """σ + ε for √(σ² + ε)."""

    rejected_by, passes = "output_variance_is_exact", "output_mean_is_beta"

    def divisor(self, var, eps):
        return np.sqrt(var) + eps


class DividedByTheVariance(Textbook):
    """σ² + ε for its root."""

    rejected_by, passes = "output_variance_is_exact", "output_mean_is_beta"

    def divisor(self, var, eps):
        return var + eps


# ---- Wrong gradients -----------------------------------------------------------------------------


class NoMeanTerm(Textbook):
    """∂ℓ/∂μ forgotten in ∂ℓ/∂x."""

    rejected_by, passes = "input_gradient_sums_to_zero", "parameter_gradients_equal_torch"

    def d_mean(self, dx_hat, x_mu, var_eps, dvar):
        return np.zeros_like(dvar)


class DetachedVariance(Textbook):
    """∂ℓ/∂σ² forgotten in ∂ℓ/∂x, as when the variance is cut from the graph."""

    rejected_by, passes = "input_gradient_equals_differences", "input_gradient_sums_to_zero"

    def d_variance(self, dx_hat, x_mu, var_eps):
        return np.zeros_like(var_eps)


class DetachedStatistics(Textbook):
    """Mean and variance both taken for constants: outside the gradient step, as Sec. 2 warns."""

    rejected_by, passes = "input_gradient_equals_torch", "parameter_gradients_equal_torch"

    def d_input(self, dx_hat, x_mu, var_eps, dvar, dmean):
        return dx_hat / np.sqrt(var_eps)


class GammaGradientFromCentred(Textbook):
    """∂ℓ/∂γ with x − μ in place of x̂."""

    rejected_by, passes = "parameter_gradients_equal_torch", "input_gradient_equals_differences"

    def d_gamma(self, dy, x_hat, x_mu):
        return dy * x_mu


class InputGradientWithoutGamma(Textbook):
    """∂ℓ/∂x̂ taken for ∂ℓ/∂y: invisible at γ = 1, where every network starts."""

    rejected_by, passes = "input_gradient_equals_differences", "input_gradient_sums_to_zero"

    def backward(self, dy, cache):
        *rest, gamma, eps = cache
        return super().backward(dy, (*rest, np.ones_like(gamma), eps))


# ---- Wrong population ----------------------------------------------------------------------------


class BiasedVarianceStored(Textbook):
    """The batch variance kept for inference as it is, without m/(m − 1)."""

    rejected_by, passes = "stored_variance_is_unbiased", "output_equals_torch"

    def stored(self, var, m):
        return var


class NewWeightReversed(Textbook):
    """The share of the new batch given to the old value: torch's ``momentum`` read as flax's."""

    rejected_by, passes = "moving_average_equals_torch", "stored_variance_is_unbiased"

    def blend(self, old, new, share):
        return share * old + (1 - share) * new


class DeviationsAveraged(Textbook):
    """Standard deviations averaged and squared, where Algorithm 2 averages variances."""

    rejected_by, passes = "population_is_the_plain_average", "stored_variance_is_unbiased"

    def observe(self, population, x, new_weight=None):
        mean, var, batches = super().observe(population, x, new_weight)
        if population is not None:
            share = 1 / batches if new_weight is None else new_weight
            new = super().observe(None, x).var
            var = self.blend(np.sqrt(population.var), np.sqrt(new), share) ** 2
        return Population(mean, var, batches)


# ---- Wrong inference -----------------------------------------------------------------------------


class TrainingStatisticsAtInference(Textbook):
    """The batch's own statistics at inference: an example's output depends on its neighbours."""

    rejected_by, passes = "inference_ignores_the_neighbours", "population_is_the_plain_average"

    def at_inference(self, x, population):
        return self.mean_of(x, x).ravel(), self.variance(x).ravel()


class FoldedWithoutTheMean(Textbook):
    """The population mean forgotten in the folded bias."""

    rejected_by, passes = "folded_layer_equals_the_two", "inference_equals_torch"

    def folded_bias(self, bias, beta, scale, population):
        return beta + scale * bias


class HalfOfTheMeanGradient(Textbook):
    """The second half of ∂ℓ/∂μ dropped. No mistake, as Σ (x_i − μ) = 0: no check can reject it."""

    def d_mean(self, dx_hat, x_mu, var_eps, dvar):
        return self.sum_of(dx_hat * -1 / np.sqrt(var_eps))


# Of all variants those that are wrong: in the order in which they stand here.
MUTANTS = [mutant for mutant in Textbook.__subclasses__() if hasattr(mutant, "rejected_by")]
