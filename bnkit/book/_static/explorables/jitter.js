// Batch size and jitter: one example's normalised value in many random companies.
"use strict";

(() => {
  const { explorables, arithmetic } = window.bnkit;

  // x̂ of an example at `place` standard deviations in each of `companies`, arrays of the other values of its batch.
  function compute(place, companies) {
    const values = companies.map((others) => arithmetic.forward([place, ...others], 1, 0, 0).xHat[0]);
    const { mean, variance } = arithmetic.moments(values);
    return { values, mean, deviation: Math.sqrt(variance) };
  }

  // What chapter 4 expects of large batches: √((1 + a²/2) / m).
  const expected = (place, m) => Math.sqrt((1 + (place * place) / 2) / m);

  explorables.jitter = compute;

  explorables.define("jitter", (stage) => {
    const SIZES = [2, 3, 4, 8, 16, 32, 64, 128, 256];
    const size = stage.slider("batch size m", { values: SIZES, value: 8 });
    const place = stage.slider("the example, in deviations", { min: -3, max: 3, step: 0.25, value: 1 });

    stage.draw = () => {
      const say = explorables.text;
      const many = 200;
      const all = SIZES.map((m) => {
        const draws = arithmetic.random(m);
        return compute(place(), Array.from({ length: many }, () => draws.normals(m - 1)));
      });
      const chosen = SIZES.indexOf(size());
      const { mean, deviation } = all[chosen];
      const told = `In batches of ${size()} the example's normalized value scatters by ${say(deviation)} around ${say(mean)}`;
      stage.paint(280, told, "Dots: x̂ of one example in 200 companies, for each batch size. Dashed: what it would be among all data, and the expected jitter around it.", (paper) => {
        const { px, py } = paper.frame({ x: [-0.6, SIZES.length - 0.4], y: [-4.5, 4.5], xTicks: SIZES.map((m, i) => [i, String(m)]), xLabel: "batch size m" });
        all.forEach(({ values }, i) => {
          const aside = arithmetic.random(i);
          for (const value of values) paper.dot(px(i + 0.5 * (aside.uniform() - 0.5)), py(value), i === chosen ? 2.4 : 1.3, i === chosen ? "with-bn" : "neighbour");
        });
        for (const sign of [-1, 0, 1]) paper.line(SIZES.map((m, i) => [px(i), py(Math.max(-4.5, Math.min(4.5, place() + sign * expected(place(), m))))]), "dashed");
      });
      stage.say(
        `In batches of ${size()} its x̂ is ${say(mean)} ±\u00a0${say(deviation)} (expected of large batches: ±\u00a0${say(expected(place(), size()))}). ` +
          (size() === 2 ? "Of two values one becomes −1 and the other 1, whatever they were." : "Four times the batch size, about half the jitter."),
      );
    };
  });
})();
