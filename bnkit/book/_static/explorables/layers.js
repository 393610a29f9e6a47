// Distributions through the layers during training, out of recorded runs; layers-data.js holds them.
"use strict";

(() => {
  const { explorables } = window.bnkit;

  // Of one moment of one run, (modules, 3 percentiles): each module's spread, 85th minus 15th, and the largest over the smallest.
  function compute(percentiles) {
    const spreads = percentiles.map(([low, , high]) => high - low);
    return { spreads, ratio: Math.max(...spreads) / Math.min(...spreads) };
  }

  explorables.layers = compute;

  explorables.define("layers", (stage) => {
    const { runs } = explorables.layersData;
    const size = stage.choice("pictures", Object.keys(runs), Object.keys(runs)[0]);
    const shortest = Math.min(...Object.values(runs).map(({ steps }) => steps.length));
    const moments = Object.values(runs)[0].steps.slice(0, shortest);
    const place = stage.slider("step of training", { values: moments, value: 0, say: (step) => step.toLocaleString("en") });

    stage.draw = () => {
      const say = explorables.text;
      const run = runs[size()];
      const k = run.steps.indexOf(place());
      const both = [run.without[k], run.with[k]];
      const found = both.map(compute);
      const word = (ratio) => `the widest is ${say(ratio)} times as wide as the narrowest`;
      const told = `At step ${place()}: without batch normalization ${word(found[0].ratio)}, with it ${word(found[1].ratio)}`;
      stage.paint(270, told, "What each module's nonlinearity receives, 15th to 85th percentile, the dot the median. Orange: without BN. Blue: with it.", (paper) => {
        const extent = Math.max(...[...run.without, ...run.with].flat(2).map(Math.abs));
        const modules = both[0].length;
        const xTicks = explorables.layersData.modules.map((name, i) => [i + 1, name]);
        const { px, py } = paper.frame({ x: [0.5, modules + 0.5], y: [-extent, extent], xTicks, xLabel: "module, from the picture on" });
        both.forEach((percentiles, which) => {
          percentiles.forEach(([low, middle, high], module) => {
            const x = px(module + 1 + (which ? 0.16 : -0.16));
            paper.add("rect", { x: x - 8, width: 16, y: py(high).toFixed(1), height: (py(low) - py(high)).toFixed(1), class: which ? "band" : "band without-bn" });
            paper.dot(x, py(middle), 4, which ? "with-bn" : "without-bn");
          });
        });
      });
      stage.say(`Step ${place().toLocaleString("en")}: without batch normalization ${word(found[0].ratio)}; with it ${word(found[1].ratio)}.`);
    };
  });
})();
