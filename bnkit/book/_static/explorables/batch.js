// One batch: move a value, and see what becomes of it and of the others.
"use strict";

(() => {
  const { explorables, arithmetic } = window.bnkit;
  const START = [0, 2, 2, 8]; // the batch that chapter 4 works by hand

  // What is shown: Algorithm 1, the largest normalised value, and how large any could be.
  function compute(x, gamma, beta, eps) {
    const all = arithmetic.forward(x, gamma, beta, eps);
    return { ...all, largest: Math.max(...all.xHat.map(Math.abs)), bound: Math.sqrt(x.length - 1) };
  }

  explorables.batch = compute;

  explorables.define("batch", (stage) => {
    const values = START.map((value, i) => stage.slider(`x${"₁₂₃₄"[i]}`, { min: -10, max: 10, step: 0.1, value }));
    const gamma = stage.slider("scale γ", { min: -3, max: 3, step: 0.1, value: 1 });
    const beta = stage.slider("shift β", { min: -5, max: 5, step: 0.1, value: 0 });
    const eps = stage.slider("ε", { values: [0, 1e-5, 1e-3, 0.1, 1, 10], value: 1e-5 });
    stage.button("back to 0, 2, 2, 8", () => {
      START.forEach((value, i) => values[i].set(value));
      for (const [knob, value] of [[gamma, 1], [beta, 0], [eps, 1e-5]]) knob.set(value);
    });

    stage.draw = () => {
      const say = explorables.text;
      const x = values.map((value) => value());
      const found = stage.attempt(() => compute(x, gamma(), beta(), eps()));
      if (!found) return;
      const rows = [["x", x], ["x − μ", found.centred], ["x̂", found.xHat], ["y", found.y]];
      const told = rows.map(([name, row]) => `${name}: ${row.map((v) => say(v)).join(", ")}`).join("; ");
      stage.paint(230, told, "A batch on its way through Algorithm 1; the upper dots can be dragged.", (paper) => {
        const reach = Math.max(10, ...rows.flatMap(([, row]) => row.map(Math.abs)));
        const { px } = paper.frame({ x: [-reach, reach], y: [0, 1], yTicks: [], left: 44, right: 16 });
        const height = (row) => 24 + 52 * row;
        rows.forEach(([name], row) => {
          paper.line([[px(-reach), height(row)], [px(reach), height(row)]], "axis");
          paper.text(4, height(row) + 4, name, "start", "label");
        });
        x.forEach((_, i) => {
          paper.line(rows.map(([, row], place) => [px(row[i]), height(place)]), `series-${i}`);
          rows.forEach(([, row], place) => {
            const dot = paper.dot(px(row[i]), height(place), place ? 5 : 8, `series-${i}`);
            if (!place) drag(dot, paper, (at) => ((at - px(0)) / (px(1) - px(0))), values[i]);
          });
        });
      });
      stage.say(
        `μ = ${say(found.mean)}, σ² = ${say(found.variance)}, x̂ = ${found.xHat.map((v) => say(v)).join(", ")}. ` +
          `The largest x̂ is ${say(found.largest)} in size; with four values it cannot exceed √3 = ${say(found.bound)}.`,
      );
    };

    // The upper dots can be dragged, too; the slider of the value follows and does the rest.
    function drag(dot, paper, valueAt, slider) {
      dot.classList.add("handle");
      dot.addEventListener("pointerdown", (down) => {
        down.preventDefault();
        const move = (event) => {
          const left = stage.picture.firstChild.getBoundingClientRect().left;
          slider.set(Math.round(10 * Math.max(-10, Math.min(10, valueAt(event.clientX - left)))) / 10);
          stage.draw();
        };
        const up = () => {
          removeEventListener("pointermove", move);
          removeEventListener("pointerup", up);
          removeEventListener("pointercancel", up);
        };
        addEventListener("pointermove", move);
        addEventListener("pointerup", up);
        addEventListener("pointercancel", up);
      });
    }
  });
})();
