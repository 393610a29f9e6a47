// One example and its company: whose output moves when only the neighbours change?
"use strict";

(() => {
  const { explorables, arithmetic } = window.bnkit;

  // The output of `example` beside `neighbours`: in training by their batch, in evaluation by the population.
  function compute(example, neighbours, population, gamma, beta, eps) {
    const training = arithmetic.forward([example, ...neighbours], gamma, beta, eps).y[0];
    const evaluation = arithmetic.infer([example], gamma, beta, population, eps)[0];
    return { training, evaluation };
  }

  explorables.company = compute;

  explorables.define("company", (stage) => {
    const example = stage.slider("the example's x", { min: -5, max: 5, step: 0.1, value: 1.5 });
    const size = stage.slider("neighbours", { values: [1, 2, 3, 7, 15, 31, 63], value: 7 });
    const mean = stage.slider("mean of the neighbours", { min: -5, max: 5, step: 0.5, value: 0 });
    const mode = stage.choice("mode", ["train()", "eval()"], "train()");
    let seed = 1;
    stage.button("other neighbours", () => (seed += 1));

    // the population was observed before, in batches of data with mean 0 and spread 1
    const earlier = arithmetic.random(7);
    let population = null;
    for (let k = 0; k < 200; k += 1) population = arithmetic.observe(population, earlier.normals(64));

    stage.draw = () => {
      const say = explorables.text;
      const companies = Array.from({ length: 24 }, (_, k) => arithmetic.random(1000 * seed + k).normals(size(), mean()));
      const training = mode() === "train()";
      const outputs = companies.map((neighbours) => {
        const found = compute(example(), neighbours, population, 1, 0, 1e-5);
        return training ? found.training : found.evaluation;
      });
      const spread = Math.max(...outputs) - Math.min(...outputs);
      const word = training ? "training" : "evaluation";
      const told = `Outputs of one example among 24 companies, in ${word}: from ${say(Math.min(...outputs))} to ${say(Math.max(...outputs))}`;
      const legend = "Small dots: the neighbours. Dashed: the example's x. Large dots: its output.";
      stage.paint(250, told, legend, (paper) => {
        const { px, py } = paper.frame({ x: [0, 25], y: [-6, 6], xTicks: [], xLabel: "24 companies of the same example" });
        companies.forEach((neighbours, k) => {
          for (const value of neighbours) paper.dot(px(k + 1), py(Math.max(-6, Math.min(6, value))), 1.5, "neighbour");
          paper.line([[px(k + 1), py(example())], [px(k + 1), py(outputs[k])]], "thin");
          paper.dot(px(k + 1), py(outputs[k]), 5, "with-bn");
        });
        paper.line([[px(0.3), py(example())], [px(24.7), py(example())]], "highlight");
      });
      stage.say(
        training
          ? `In training its output depends on its company: from ${say(Math.min(...outputs))} to ${say(Math.max(...outputs))} for one and the same x.`
          : `In evaluation its output is ${say(outputs[0])} in every company: it differs by ${say(spread)}.`,
      );
    };
  });
})();
