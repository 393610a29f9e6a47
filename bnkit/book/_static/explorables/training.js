// A small network that trains in the page, twice from the same weights: with batch normalization and without.
"use strict";

(() => {
  const { explorables, network, arithmetic } = window.bnkit;
  const [POINTS, BATCH, STEPS, EPS] = [120, 30, 200, 1e-5];

  // Two half moons: points (2 * count, flat) and labels.
  function moons(seed) {
    const draws = arithmetic.random(seed);
    const labels = Array.from({ length: POINTS }, (_, i) => i % 2);
    const points = labels.flatMap((label) => {
      const angle = Math.PI * draws.uniform();
      const [x, y] = label ? [1 - Math.cos(angle), 0.5 - Math.sin(angle)] : [Math.cos(angle), Math.sin(angle)];
      return [x - 0.5 + 0.12 * draws.normal(), y - 0.25 + 0.12 * draws.normal()];
    });
    return { points, labels };
  }

  // Train `layers`, in place, on batches (places into the points); the loss before each step.
  function compute(layers, { points, labels }, batches, rate, nonlinearity) {
    return batches.map((places) => {
      const x = places.flatMap((i) => [points[2 * i], points[2 * i + 1]]);
      return network.step(layers, x, places.map((i) => labels[i]), rate, nonlinearity, EPS);
    });
  }

  explorables.training = compute;

  explorables.define("training", (stage) => {
    const scale = stage.slider("initial scale of the weights", { values: [0.01, 0.03, 0.1, 0.3, 1, 3, 10], value: 0.1 });
    const rate = stage.slider("learning rate", { values: [0.01, 0.03, 0.1, 0.3, 1, 3, 10], value: 0.3 });
    const nonlinearity = stage.choice("nonlinearity", ["sigmoid", "tanh", "ReLU"], "sigmoid");
    let seed = 1;
    stage.button("other initial weights", () => (seed += 1));

    stage.draw = () => {
      const say = explorables.text;
      const data = moons(2);
      const order = arithmetic.random(9);
      const batches = Array.from({ length: STEPS }, () => Array.from({ length: BATCH }, () => Math.floor(POINTS * order.uniform())));
      const both = [false, true].map((normalised) => {
        const layers = network.initialise([2, 8, 8, 8, 1], scale(), normalised, arithmetic.random(seed));
        const losses = compute(layers, data, batches, rate(), nonlinearity());
        const answers = network.pass(layers, data.points, POINTS, nonlinearity(), EPS).at(-1).gave;
        const right = answers.reduce((count, answer, i) => count + (answer > 0 === Boolean(data.labels[i])), 0);
        return { losses, right: right / POINTS };
      });
      const percent = (share) => `${Math.round(100 * share)} %`;
      const told = `After ${STEPS} steps ${percent(both[0].right)} of the points are right without batch normalization, ${percent(both[1].right)} with it`;
      stage.paint(260, told, "Training loss of two networks from the same weights. Orange: without BN. Blue: with it. Dashed: guessing.", (paper) => {
        const { px, py } = paper.frame({ x: [0, STEPS], y: [0, 1], xLabel: "steps of gradient descent" });
        paper.line([[px(0), py(Math.log(2))], [px(STEPS), py(Math.log(2))]], "dashed");
        both.forEach(({ losses }, place) => {
          // a mean over ten steps, or the curves would hide each other
          const smooth = losses.map((_, k) => arithmetic.sum(losses.slice(Math.max(0, k - 9), k + 1)) / Math.min(10, k + 1));
          paper.line(smooth.map((value, k) => [px(k + 1), py(Math.min(1, value))]), place ? "with-bn" : "without-bn");
        });
      });
      stage.say(
        `After ${STEPS} steps of ${BATCH} points, from the same weights: ${percent(both[0].right)} right without batch normalization ` +
          `(loss ${say(both[0].losses.at(-1))}), ${percent(both[1].right)} with it (loss ${say(both[1].losses.at(-1))}). Guessing gives ${percent(0.5)}.`,
      );
    };
  });
})();
