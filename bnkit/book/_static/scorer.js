// How search results are ranked: chapters teach, so they come before the symbols of the code.
// Sphinx's own numbers, but for objects of the code, which count less than a word in a title; pages on which the words
// occur often come first (search.js counts them); and the pages on the code, and the tables of all claims, come last.
var Scorer = {
  score: ([docname, title, anchor, descr, score, filename]) =>
    /^chapters\/(api|claims|this-build|bibliography)/.test(docname)
      ? score - 100
      : score + (typeof wordsFound === "function" ? wordsFound(docname) : 0),
  objNameMatch: 4,
  objPartialMatch: 1,
  objPrio: { 0: 1, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
