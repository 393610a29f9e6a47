// The arithmetic of the explorables: bnkit.reference for one feature, in JavaScript.
// A batch is an array of numbers. tests/browser/test_explorables.py compares with bnkit.reference.
"use strict";

window.bnkit = window.bnkit || {};

window.bnkit.arithmetic = (() => {
  function sum(values) {
    let total = 0;
    for (const value of values) total += value;
    return total;
  }

  // Algorithm 1, lines 1 and 2, and the distances from the mean, in two steps as the reference takes them.
  function moments(x) {
    if (x.length < 2) throw new RangeError(`a training batch needs at least two values, and this one has ${x.length}`);
    const rough = sum(x) / x.length;
    const late = sum(x.map((value) => value - rough)) / x.length;
    const centred = x.map((value) => value - rough - late);
    return { mean: rough + late, variance: sum(centred.map((value) => value * value)) / x.length, centred };
  }

  function inverseRoot(variance, eps) {
    const root = Math.sqrt(variance + eps);
    if (root <= 2.2250738585072014e-308) throw new RangeError("the values do not vary, and with ε = 0 that is a division by zero");
    return 1 / root;
  }

  // Algorithm 1.
  function forward(x, gamma, beta, eps) {
    const { mean, variance, centred } = moments(x);
    const invStd = inverseRoot(variance, eps);
    const xHat = centred.map((value) => value * invStd);
    return { mean, variance, centred, invStd, gamma, xHat, y: xHat.map((value) => gamma * value + beta) };
  }

  // The gradients of Section 3, from ∂ℓ/∂y and what forward returned.
  function backward(dy, { xHat, invStd, gamma }) {
    const m = dy.length;
    const dbeta = sum(dy);
    const dgamma = sum(dy.map((value, i) => value * xHat[i]));
    const dx = dy.map((value, i) => (value - dbeta / m - (xHat[i] * dgamma) / m) * gamma * invStd);
    return { dx, dgamma, dbeta };
  }

  // Algorithm 2, line 10. newWeight null: the plain average; population null: it begins.
  function observe(population, x, newWeight = null) {
    const { mean, variance } = moments(x);
    const unbiased = variance * (x.length / (x.length - 1));
    if (population === null) return { mean, variance: unbiased, batches: 1 };
    const batches = population.batches + 1;
    const share = newWeight === null ? 1 / batches : newWeight;
    const blend = (old, fresh) => (1 - share) * old + share * fresh;
    return { mean: blend(population.mean, mean), variance: blend(population.variance, unbiased), batches };
  }

  // Algorithm 2, line 11.
  function infer(x, gamma, beta, population, eps) {
    const scale = gamma * inverseRoot(population.variance, eps);
    return x.map((value) => (value - population.mean) * scale + beta);
  }

  // Numbers from a seed (mulberry32), so that the same setting shows the same picture; normal() has mean 0, spread 1.
  function random(seed) {
    let state = seed >>> 0;
    const uniform = () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    const normals = (count, mean = 0, spread = 1) => Array.from({ length: count }, () => mean + spread * normal());
    return { uniform, normal, normals };
  }

  return { sum, moments, forward, backward, observe, infer, random };
})();
