// How search results are ranked: chapters teach, so they come before the symbols of the code.
// Sphinx's own numbers, but for objects of the code, which count less than a word in a title;
// and what stands on the pages on the code, or in the tables of all claims, comes last.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) =>
    /^chapters\/(api|claims|this-build|bibliography)/.test(docname) ? score - 100 : score,
  objNameMatch: 4,
  objPartialMatch: 1,
  objPrio: { 0: 1, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
