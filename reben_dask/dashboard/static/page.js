"use strict";

const EVERY_MS = 1000;
const STATES = {
  done: "done",
  rejected: "rejected for its quality",
  working: "in progress",
  again: "failed, to be retried",
  failed: "failed",
  waiting: "waiting",
};
const WHAT_HAPPENS = { again: "will be retried", failed: "failed", working: "is being retried" };

/** Each job: its article, and each of its tiles by name. */
const jobs = new Map();

const number = new Intl.NumberFormat("en");

function duration(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return parts.map((part, place) => String(part).padStart(place ? 2 : 1, "0")).join(":");
}

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

function begin(job) {
  const article = document.getElementById("job").content.cloneNode(true).firstElementChild;
  const tiles = article.querySelector(".tiles");
  // Ten thousand tiles fit on a screen too.
  tiles.style.setProperty("--side", job.tiles > 2000 ? "6px" : job.tiles > 200 ? "10px" : "18px");
  for (let count = 0; count < job.tiles; count++) tiles.append(element("i", "", "waiting"));
  const pointed = article.querySelector(".pointed");
  tiles.addEventListener("pointerover", (event) => {
    if (event.target.dataset.name) {
      pointed.textContent = `${event.target.dataset.name}: ${STATES[event.target.className]}`;
    }
  });
  return { article, squares: [...tiles.children], tiles: new Map(), known: 0 };
}

function change(shown, [name, state, remark]) {
  let tile = shown.tiles.get(name);
  if (!tile) {
    tile = { square: shown.squares[shown.tiles.size] ?? element("i"), remark: "" };
    tile.square.dataset.name = name;
    shown.tiles.set(name, tile);
  }
  tile.state = state;
  tile.remark = remark || tile.remark;
  tile.square.className = state;
}

function showFacts(article, job) {
  article.querySelector("h2").textContent = job.out;
  const end = job.ended === null ? "running" : job.ended === "" ? "finished" : job.ended;
  article.querySelector(".facts").textContent =
    `${job.recipe}, ${number.format(job.tiles)} ${job.tiles === 1 ? "tile" : "tiles"}, ${duration(job.seconds)}: ${end}`;
}

function showStages(article, job) {
  const rows = job.stages.filter((stage) => stage.total).map((stage) => {
    const row = element("tr");
    const head = element("th", stage.title);
    head.scope = "row";
    const bar = element("div", "", "bar");
    const full = element("div");
    full.style.width = `${(100 * stage.done) / stage.total}%`;
    full.style.background = stage.colour;
    bar.append(full);
    const cell = element("td");
    cell.append(bar);
    row.append(head, cell, element("td", `${number.format(stage.done)} of ${number.format(stage.total)}`));
    return row;
  });
  article.querySelector(".stages tbody").replaceChildren(...rows);
}

function showTiles(shown, job) {
  const counts = { done: 0, rejected: 0, working: 0, again: 0, failed: 0, waiting: job.tiles - shown.tiles.size };
  for (const tile of shown.tiles.values()) counts[tile.state] += 1;
  const there = Object.entries(counts).filter(([, count]) => count > 0);
  const legend = there.map(([state, count]) => element("li", `${number.format(count)} ${STATES[state]}`, state));
  shown.article.querySelector(".legend").replaceChildren(...legend);
  const said = there.map(([state, count]) => `${count} ${STATES[state]}`).join(", ");
  shown.article.querySelector(".tiles").setAttribute("aria-label", `Tiles: ${said}`);
  const failures = [...shown.tiles].filter(([, tile]) => tile.remark && tile.state !== "done");
  const section = shown.article.querySelector(".failures");
  section.hidden = failures.length === 0;
  const rows = failures.flatMap(([name, tile]) => [
    element("dt", `${name} ${WHAT_HAPPENS[tile.state]}`, tile.state),
    element("dd", tile.remark),
  ]);
  section.querySelector("dl").replaceChildren(...rows);
}

function show(job) {
  let shown = jobs.get(job.job);
  // A scheduler that was restarted counts from 0.
  if (shown && job.known < shown.known) {
    shown.article.remove();
    shown = undefined;
  }
  if (!shown) {
    shown = begin(job);
    jobs.set(job.job, shown);
  }
  for (const each of job.changes) change(shown, each);
  shown.known = job.known + job.changes.length;
  showFacts(shown.article, job);
  showStages(shown.article, job);
  showTiles(shown, job);
  return shown.article;
}

/** Articles are moved only when a job has come or gone: what is pointed at or selected stays so. */
function place(articles) {
  const main = document.getElementById("jobs");
  const isSame = articles.length === main.children.length && articles.every((each, at) => each === main.children[at]);
  if (articles.length && !isSame) main.replaceChildren(...articles);
}

async function look() {
  const seen = new URLSearchParams([...jobs].map(([job, shown]) => ["seen", `${job}:${shown.known}`]));
  try {
    const answer = await fetch(`reben/jobs.json?${seen}`);
    if (!answer.ok) throw new Error(answer.statusText);
    const found = (await answer.json()).jobs;
    for (const job of [...jobs.keys()].filter((name) => !found.some((each) => each.job === name))) jobs.delete(job);
    place(found.map(show));
    document.getElementById("lost").hidden = true;
  } catch {
    document.getElementById("lost").hidden = false;
  }
  setTimeout(look, EVERY_MS);
}

look();
