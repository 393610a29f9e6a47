// Depth, gain, nonlinearity, batch normalization: what is left of a gradient on its way down.
"use strict";

(() => {
  const { explorables, network, arithmetic } = window.bnkit;
  const [WIDTH, EXAMPLES, EPS] = [24, 24, 1e-5];

  // Norms of the gradient by Wu of each layer, from the first to the last, after one pass down.
  function compute(layers, x, dOutput, m, nonlinearity) {
    const steps = network.pass(layers, x, m, nonlinearity, EPS);
    return network.back(layers, steps, dOutput, m, nonlinearity).map(({ linear }) => Math.hypot(...linear));
  }

  explorables.depth = compute;

  explorables.define("depth", (stage) => {
    const depth = stage.slider("layers", { min: 2, max: 40, step: 1, value: 20 });
    const gain = stage.slider("gain of the weights", { values: [0.25, 0.5, 0.75, 1, 1.2, 1.414, 1.7, 2, 3, 4], value: 1 });
    const nonlinearity = stage.choice("nonlinearity", network.NONLINEARITIES, "tanh");

    stage.draw = () => {
      const say = explorables.text;
      const sizes = new Array(depth() + 1).fill(WIDTH);
      const both = [false, true].map((normalised) => {
        const draws = arithmetic.random(5);
        const layers = network.initialise(sizes, gain(), normalised, draws);
        const norms = compute(layers, draws.normals(EXAMPLES * WIDTH), draws.normals(EXAMPLES * WIDTH), EXAMPLES, nonlinearity());
        return norms.map((norm) => norm / norms.at(-1));
      });
      const left = both.map((norms) => norms[0]);
      const told = `Of the gradient at the top ${say(left[0])} is left at the first layer without batch normalization, ${say(left[1])} with it`;
      stage.paint(270, told, "Norm of the gradient at each layer, over that at the top. Orange: without BN. Blue: with it.", (paper) => {
        const powers = both.flat().filter((norm) => norm > 0).map(Math.log10);
        const [low, high] = [Math.min(-1, Math.floor(Math.min(...powers))), Math.max(1, Math.ceil(Math.max(...powers)))];
        const yTicks = window.bnkit.ticks([low, high], 5).filter(Number.isInteger).map((power) => [power, say(10 ** power)]);
        const { px, py } = paper.frame({ x: [1, depth()], y: [low, high], yTicks, xLabel: "layer, counted from the input" });
        both.forEach((norms, place) => paper.line(norms.map((norm, k) => [px(k + 1), py(Math.log10(norm))]), place ? "with-bn" : "without-bn"));
      });
      const word = (share) => (share < 0.1 ? "vanishes" : share > 10 ? "explodes" : "arrives");
      stage.say(
        `Over ${depth()} layers the gradient ${word(left[0])} without batch normalization (${say(left[0])} of it is left) ` +
          `and ${word(left[1])} with it (${say(left[1])}). With it the gain changes next to nothing.`,
      );
    };
  });
})();
