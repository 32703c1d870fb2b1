// What the part of the address behind "#" asks for, and which questions that are. Knows nothing of the page.

const FILTERS = ["run", "answer", "place", "stop", "category", "text", "id"];

/** "#answer=right&place=wrong" as {run: null, answer: "right", ...}; null where nothing is asked for. */
function parseFilter(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  return Object.fromEntries(FILTERS.map((name) => [name, asked.get(name)]));
}

/** The other way round; without "#". */
function writeFilter(filter) {
  const asked = new URLSearchParams();
  for (const name of FILTERS) if (filter[name] !== null) asked.set(name, filter[name]);
  return asked.toString();
}

/** Whether one run's answer is what is asked for. */
function answerMatches(answer, filter) {
  if (!answer) return false;
  if ((filter.answer === "right" || filter.answer === "wrong") && answer.state !== filter.answer) return false;
  if (filter.place !== null && answer.place !== filter.place) return false;
  return filter.stop === null || answer.stop === filter.stop;
}

/** Whether the runs disagree: one is right and one wrong. */
function differs(question) {
  const states = new Set(question.runs.map((answer) => answer && answer.state));
  return states.has("right") && states.has("wrong");
}

function textOf(question) {
  const said = question.runs.flatMap((answer) => (answer ? [answer.answer || "", ...answer.texts] : []));
  const choices = question.choices.map((choice) => choice[1]);
  return [question.id, question.text, question.expected, ...choices, ...question.tags, ...said].join("\n").toLowerCase();
}

/** Whether a question is shown: its own words fit, and one run (the one that is named, else any) fits all the rest. */
function matches(question, filter) {
  if (filter.id !== null && question.id !== filter.id) return false;
  if (filter.category !== null && question.category !== filter.category) return false;
  if (filter.answer === "differ" && !differs(question)) return false;
  const runs = filter.run === null ? question.runs : [question.runs[Number(filter.run) - 1]];
  if (!runs.some((answer) => answerMatches(answer, filter))) return false;
  return !filter.text || textOf(question).includes(filter.text.toLowerCase());
}
