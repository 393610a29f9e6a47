// Running statistics: how long does evaluation answer by what is no longer true?
"use strict";

(() => {
  const { explorables, arithmetic } = window.bnkit;
  const FRESH = { mean: 0, variance: 1, batches: 0 }; // how PyTorch starts

  // The population after each of `batches`; newWeight null is Algorithm 2's plain average, which begins with the first.
  function compute(batches, newWeight) {
    let population = newWeight === null ? null : FRESH;
    return batches.map((batch) => (population = arithmetic.observe(population, batch, newWeight)));
  }

  explorables.running = compute;

  explorables.define("running", (stage) => {
    const weight = stage.slider("momentum: share of the new batch", { values: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9, 1, null], value: 0.1, say: (v) => (v === null ? "None: plain average" : explorables.text(v)) });
    const size = stage.slider("batch size", { values: [2, 4, 8, 16, 32, 64, 128], value: 16 });
    const count = stage.slider("batches", { min: 20, max: 300, step: 10, value: 120 });
    const shift = stage.slider("shift of the data half way", { min: -4, max: 4, step: 0.5, value: 3 });

    stage.draw = () => {
      const say = explorables.text;
      const draws = arithmetic.random(3);
      const half = Math.floor(count() / 2);
      const truth = (k) => 2 + (k >= half ? shift() : 0);
      const batches = Array.from({ length: count() }, (_, k) => draws.normals(size(), truth(k)));
      const populations = compute(batches, weight());
      const means = batches.map((batch) => arithmetic.moments(batch).mean);
      const running = populations.map((population) => population.mean);
      const last = populations.at(-1);
      // a typical example, x = the true mean: in training about 0, in evaluation this
      const gap = arithmetic.infer([truth(count() - 1)], 1, 0, last, 1e-5)[0];
      const told = `The running mean after ${count()} batches is ${say(last.mean)}; the data's mean is ${say(truth(count() - 1))}`;
      const legend = "Dots: mean of each batch. Line: running mean. Dashed: mean of the data.";
      stage.paint(260, told, legend, (paper) => {
        const all = [...means, ...running, 2, 2 + shift()];
        const { px, py } = paper.frame({ x: [0, count()], y: [Math.min(...all) - 0.3, Math.max(...all) + 0.3], xLabel: "mini-batches" });
        means.forEach((mean, k) => paper.dot(px(k + 1), py(mean), 2, "neighbour"));
        paper.line([[px(0), py(2)], [px(half), py(2)], [px(half), py(2 + shift())], [px(count()), py(2 + shift())]], "dashed");
        paper.line(running.map((mean, k) => [px(k + 1), py(mean)]), "with-bn");
      });
      stage.say(
        `After ${count()} batches the running mean is ${say(last.mean)}, the data's mean ${say(truth(count() - 1))}; ` +
          `the running variance is ${say(last.variance)}, the data's 1. A typical example, which training sends to about 0, evaluation sends to ${say(gap)}.`,
      );
    };
  });
})();
