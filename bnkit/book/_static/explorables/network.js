// A fully connected network, with batch normalization or without: its forward pass, its gradients, a step of descent.
// A matrix of m rows is one flat Float64Array, row after row. tests/browser/test_explorables.py compares with NumPy.
"use strict";

window.bnkit = window.bnkit || {};

window.bnkit.network = (() => {
  const NONLINEARITIES = {
    sigmoid: { value: (x) => 1 / (1 + Math.exp(-x)), slope: (x, y) => y * (1 - y) },
    tanh: { value: Math.tanh, slope: (x, y) => 1 - y * y },
    ReLU: { value: (x) => Math.max(0, x), slope: (x) => (x > 0 ? 1 : 0) },
    linear: { value: (x) => x, slope: () => 1 },
  };

  // Layers of sizes[k] -> sizes[k + 1]; weights normal with deviation scale/√inputs. Hidden layers get γ and β with BN, else a bias.
  function initialise(sizes, scale, normalised, random) {
    return sizes.slice(1).map((out, k) => {
      const inputs = sizes[k];
      const weight = Float64Array.from({ length: out * inputs }, () => (scale / Math.sqrt(inputs)) * random.normal());
      const hidden = k < sizes.length - 2;
      const layer = { inputs, out, weight, bias: new Float64Array(out) };
      return hidden && normalised ? { ...layer, gamma: new Float64Array(out).fill(1), beta: new Float64Array(out) } : layer;
    });
  }

  // x (m, inputs) times the weights (out, inputs): (m, out).
  function product(x, { weight, inputs, out }, m) {
    const result = new Float64Array(m * out);
    for (let i = 0; i < m; i += 1)
      for (let j = 0; j < out; j += 1) {
        let total = 0;
        for (let k = 0; k < inputs; k += 1) total += x[i * inputs + k] * weight[j * inputs + k];
        result[i * out + j] = total;
      }
    return result;
  }

  // Each column through one of arithmetic's functions: what it returns is kept, and `take` of it becomes the column.
  function byColumn(matrix, m, width, compute, take) {
    const result = new Float64Array(m * width);
    const kept = [];
    for (let j = 0; j < width; j += 1) {
      const column = new Array(m);
      for (let i = 0; i < m; i += 1) column[i] = matrix[i * width + j];
      const found = compute(column, j);
      const values = take(found);
      for (let i = 0; i < m; i += 1) result[i * width + j] = values[i];
      kept.push(found);
    }
    return [result, kept];
  }

  // The pass of a batch x (m, inputs): for each layer what entered it, what its nonlinearity received and gave.
  function pass(layers, x, m, nonlinearity, eps) {
    const { arithmetic } = window.bnkit;
    let input = Float64Array.from(x);
    return layers.map((layer, place) => {
      const { out, bias, gamma, beta } = layer;
      let received = product(input, layer, m);
      let caches = null;
      if (gamma) [received, caches] = byColumn(received, m, out, (column, j) => arithmetic.forward(column, gamma[j], beta[j], eps), (found) => found.y);
      else received.forEach((_, at) => (received[at] += bias[at % out]));
      const last = place === layers.length - 1;
      const gave = last ? received : received.map(NONLINEARITIES[nonlinearity].value);
      const step = { input, caches, received, gave };
      input = gave;
      return step;
    });
  }

  // Gradients from ∂ℓ/∂(last output). `linear` is that by each layer's linear map Wu, (m, out), which chapter 1 follows down.
  function back(layers, steps, dOutput, m, nonlinearity) {
    const { arithmetic } = window.bnkit;
    const { slope } = NONLINEARITIES[nonlinearity];
    const gradients = new Array(layers.length);
    let d = Float64Array.from(dOutput);
    for (let place = layers.length - 1; place >= 0; place -= 1) {
      const { inputs, out, weight, gamma } = layers[place];
      const { input, caches, received, gave } = steps[place];
      if (place < layers.length - 1) d = d.map((value, at) => value * slope(received[at], gave[at]));
      const found = { weight: new Float64Array(out * inputs) };
      if (gamma) {
        const [linear, columns] = byColumn(d, m, out, (column, j) => arithmetic.backward(column, caches[j]), (each) => each.dx);
        d = linear;
        found.gamma = Float64Array.from(columns, (each) => each.dgamma);
        found.beta = Float64Array.from(columns, (each) => each.dbeta);
      } else {
        found.bias = new Float64Array(out);
        d.forEach((value, at) => (found.bias[at % out] += value));
      }
      found.linear = d;
      const below = new Float64Array(m * inputs);
      for (let i = 0; i < m; i += 1)
        for (let j = 0; j < out; j += 1) {
          const value = d[i * out + j];
          for (let k = 0; k < inputs; k += 1) {
            found.weight[j * inputs + k] += value * input[i * inputs + k];
            below[i * inputs + k] += value * weight[j * inputs + k];
          }
        }
      gradients[place] = found;
      d = below;
    }
    return gradients;
  }

  // Cross-entropy of two classes from one output each, averaged: its value, and its gradient by the outputs.
  function loss(outputs, labels) {
    const m = labels.length;
    let value = 0;
    const gradient = outputs.map((output, i) => {
      const signed = labels[i] ? output : -output;
      value += (Math.max(0, -signed) + Math.log1p(Math.exp(-Math.abs(signed)))) / m;
      const probability = output >= 0 ? 1 / (1 + Math.exp(-output)) : Math.exp(output) / (1 + Math.exp(output));
      return (probability - labels[i]) / m;
    });
    return { value, gradient };
  }

  // One step of plain gradient descent on a batch, in place; gives the loss before it.
  function step(layers, x, labels, rate, nonlinearity, eps) {
    const m = labels.length;
    const steps = pass(layers, x, m, nonlinearity, eps);
    const { value, gradient } = loss(steps.at(-1).gave, labels);
    back(layers, steps, gradient, m, nonlinearity).forEach((found, place) => {
      for (const name of ["weight", "bias", "gamma", "beta"])
        if (found[name]) found[name].forEach((change, at) => (layers[place][name][at] -= rate * change));
    });
    return value;
  }

  return { NONLINEARITIES: Object.keys(NONLINEARITIES), initialise, pass, back, loss, step };
})();
