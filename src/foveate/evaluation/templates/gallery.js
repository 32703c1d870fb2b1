// The gallery: a card for each question that the filter lets through. A card is filled when it is scrolled near.

const data = JSON.parse(document.getElementById("questions-data").textContent);
const cards = document.getElementById("cards");
const form = document.getElementById("filters");
const gallery = document.getElementById("gallery");
const PRINTED = 24;
const STOPS = {
  unparsed: "no answer could be read from the reply",
  no_region: "no usable box, so no answer",
  out_of_calls: "called for another crop instead of answering",
};
const chunks = new Map();
let shown = [];

function make(tag, kind, text) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  if (text !== undefined) element.textContent = text;
  return element;
}

function picturesOf(index) {
  const number = Math.floor(index / data.chunk);
  if (!chunks.has(number)) {
    const script = document.getElementById(`pictures-${number}`);
    chunks.set(number, script ? JSON.parse(script.textContent) : []);
  }
  return chunks.get(number)[index % data.chunk] || [null, []];
}

function boxOf([left, top, width, height], kind, run) {
  const box = make("i", `box ${kind}`);
  Object.assign(box.style, { left: `${left}%`, top: `${top}%`, width: `${width}%`, height: `${height}%` });
  if (run === undefined) return box;
  // Boxes of several runs often lie on one another: their numbers stand at different corners.
  const below = run % 4 > 1 ? top + height < 91 : top < 9;
  box.append(make("b", `tag${below ? " below" : ""}${run % 2 || left > 92 ? " leftwards" : ""}`, String(run + 1)));
  return box;
}

function image(url, words) {
  const picture = make("img");
  picture.alt = words;
  picture.addEventListener("load", () => {
    if (Math.max(picture.naturalWidth, picture.naturalHeight) <= 128) picture.classList.add("pixels");
  });
  picture.src = url;
  return picture;
}

function frame(question, index) {
  const holder = make("div", "frame");
  const [url] = picturesOf(index);
  if (url) holder.append(image(url, "What the model saw first"));
  else {
    const missing = make("div", "missing", "No picture was kept");
    if (question.size) missing.style.aspectRatio = `${question.size[0]} / ${question.size[1]}`;
    holder.append(missing);
  }
  question.true.forEach((place) => holder.append(boxOf(place, "true")));
  question.runs.forEach((answer, i) => {
    if (answer) answer.boxes.forEach((place) => holder.append(boxOf(place, `predicted run-${i}`, i)));
  });
  return holder;
}

function named(answer, question) {
  const choice = question.choices.find(([letter]) => letter === answer);
  return choice ? `${answer} (${choice[1]})` : answer;
}

function verdict(answer, question) {
  const line = make("p", `said ${answer.state}`);
  const words = { right: "✓ right", wrong: "✗ wrong" }[answer.state];
  line.append(make("b", "state", words));
  if (answer.answer !== null) line.append(" ", make("span", "answer", named(answer.answer, question)));
  if (STOPS[answer.stop]) line.append(" ", make("span", "hint", STOPS[answer.stop]));
  return line;
}

function placed(answer) {
  const words = { right: "✓ looked in the right place", wrong: "✗ looked in the wrong place" }[answer.place];
  return words ? make("p", `looked ${answer.place}`, words) : null;
}

function reply(answer) {
  const details = make("details", "reply");
  const turns = answer.texts.length;
  details.append(make("summary", "", turns === 1 ? "Its reply" : `Its ${turns} replies`));
  answer.texts.forEach((text) => details.append(make("pre", "", text || "(nothing)")));
  const problems = answer.problems.length ? `; problems: ${answer.problems.join(", ")}` : "";
  details.append(make("p", "hint", `${answer.costs}; ended: ${answer.stop}${problems}`));
  return details;
}

function runBlock(answer, i, question, crops) {
  const block = make("section", "answered");
  const heading = make("h4");
  heading.append(make("span", `badge run-${i}`, String(i + 1)), " ", make("span", "name", data.runs[i]));
  block.append(heading);
  if (!answer) {
    block.append(make("p", "hint", "was not asked this question"));
    return block;
  }
  block.append(verdict(answer, question));
  const place = placed(answer);
  if (place) block.append(place);
  if (answer.attempts > 1) block.append(make("p", "hint", `the first of ${answer.attempts} attempts, ${answer.right} right`));
  if (crops && crops.length) {
    const strip = make("div", "crops");
    crops.forEach((url, n) => strip.append(image(url, `Crop ${n + 1} that run ${i + 1} got`)));
    block.append(strip);
  }
  block.append(reply(answer));
  return block;
}

function fill(card) {
  if (card.firstChild) return;
  const index = Number(card.dataset.index);
  const question = data.questions[index];
  const [, crops] = picturesOf(index);
  const head = make("div", "ask");
  head.append(make("h3", "", question.text));
  if (question.choices.length) {
    const list = make("ul", "choices");
    question.choices.forEach(([letter, text]) => {
      const item = make("li", letter === question.expected ? "expected" : "");
      item.append(make("b", "", letter), ` ${text}`);
      list.append(item);
    });
    head.append(list);
  }
  const facts = make("p", "hint facts");
  facts.append("right answer: ", make("b", "", named(question.expected, question)));
  [question.category, ...question.tags].filter(Boolean).forEach((tag) => facts.append(" ", make("span", "label", tag)));
  const link = make("a", "", `question ${question.id}`);
  link.href = `#${new URLSearchParams({ id: question.id })}`;
  facts.append(" ", link);
  head.append(facts);
  const body = make("div", "body");
  const answers = make("div", "answers");
  question.runs.forEach((answer, i) => answers.append(runBlock(answer, i, question, crops[i])));
  body.append(frame(question, index), answers);
  card.append(head, body);
}

const near = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      fill(entry.target);
    }
  },
  { rootMargin: "1200px 0px" },
);

function show() {
  const filter = parseFilter(location.hash);
  near.disconnect();
  shown = data.questions.flatMap((question, index) => (matches(question, filter) ? [index] : []));
  cards.replaceChildren(
    ...shown.map((index) => {
      const card = make("article", "card");
      card.dataset.index = String(index);
      near.observe(card);
      return card;
    }),
  );
  const count = document.getElementById("shown");
  count.dataset.shown = String(shown.length);
  const all = data.questions.length;
  const number = (value) => value.toLocaleString("en");
  count.textContent = shown.length === all ? `All ${number(all)} questions` : `${number(shown.length)} of ${number(all)} questions`;
  document.getElementById("none").hidden = shown.length > 0;
  for (const control of form.querySelectorAll("[data-filter]")) {
    const asked = filter[control.dataset.filter];
    const value = control.tagName === "SELECT" && asked !== null ? `=${asked}` : asked || "";
    if (control.value !== value) control.value = value;
  }
  const one = document.getElementById("one");
  one.hidden = filter.id === null;
  one.querySelector("b").textContent = filter.id || "";
}

function ask() {
  const filter = parseFilter(location.hash);
  for (const control of form.querySelectorAll("[data-filter]")) {
    const value = control.tagName === "SELECT" ? control.value.slice(1) : control.value;
    filter[control.dataset.filter] = control.value ? value : null;
  }
  filter.id = null;
  const written = writeFilter(filter);
  history.replaceState(null, "", `#${written || "all=1"}`);
  show();
}

function arrive() {
  if (!location.hash.includes("=")) return; // a link to a section
  show();
  gallery.scrollIntoView();
}

let typing;
form.addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(ask, event.target.type === "search" ? 150 : 0);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(ask));
document.getElementById("boxes").addEventListener("change", (event) => {
  gallery.classList.toggle(event.target.value, !event.target.checked);
});
addEventListener("hashchange", arrive);
addEventListener("beforeprint", () => {
  [...cards.children].slice(0, PRINTED).forEach(fill);
  const printed = cards.querySelectorAll(".card:not(:empty)").length;
  cards.dataset.printed = `${document.getElementById("shown").textContent}, of which ${printed} are printed here.`;
});
show();
if (location.hash.includes("=")) gallery.scrollIntoView();
