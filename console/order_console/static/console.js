// What moves on a page. Without it every page can be read, and every form works.

import { Chart } from "./charts.js";

const HISTORY_MILLISECONDS = 905_000;
const OFFLINE_AFTER_MILLISECONDS = 5_000;

/** Parts of the page are replaced as the server sends them anew, and charts get their next samples. */
function follow(parts, charts) {
  const history = { flow: [], backlog: [] };
  let source = null;
  let offline = null;

  function open() {
    const since = Math.min(history.flow.at(-1)?.at ?? 0, history.backlog.at(-1)?.at ?? 0);
    source = new EventSource(`/console/live?parts=${encodeURIComponent(parts)}&since=${since}`);
    source.addEventListener("message", ({ data }) => {
      clearTimeout(offline);
      offline = null;
      say(false);
      take(JSON.parse(data));
    });
    source.addEventListener("error", () => {
      offline ??= setTimeout(() => say(true), OFFLINE_AFTER_MILLISECONDS);
      if (source.readyState === EventSource.CLOSED) setTimeout(reopen, 5_000); // it was answered, but by no stream
    });
  }

  function reopen() {
    source.close();
    if (!document.hidden) open();
  }

  function take({ parts, flow, backlog }) {
    for (const [name, html] of Object.entries(parts)) replace(name, html);
    history.flow = extended(history.flow, flow);
    history.backlog = extended(history.backlog, backlog);
    draw();
  }

  function draw() {
    const seconds = Number(document.querySelector("[name=window]:checked")?.value ?? 300);
    for (const [source, chart] of charts) chart.show(history[source], seconds);
  }

  document.querySelectorAll("[name=window]").forEach((choice) => choice.addEventListener("change", draw));
  // A browser opens six connections to a host, over all its tabs: a tab that is not seen gives its own back.
  document.addEventListener("visibilitychange", reopen);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", ({ persisted }) => persisted && reopen());
  if (!document.hidden) open();
}

function extended(points, more) {
  const last = points.at(-1)?.at ?? 0;
  const all = [...points, ...more.filter(({ at }) => at > last)];
  return all.filter(({ at }) => at > all.at(-1).at - HISTORY_MILLISECONDS);
}

function replace(name, html) {
  const place = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
  if (!place || place.contains(document.activeElement)) return;
  place.innerHTML = html;
  const state = place.querySelector("[data-state]")?.dataset.state;
  if (state !== undefined) tellState(place, state);
}

/** Another state has other buttons; whoever listens instead of looking hears of it, and not of every figure. */
function tellState(place, state) {
  if (place.dataset.told === state) return;
  place.dataset.told = state;
  const announced = document.querySelector("[data-announced]");
  if (announced) announced.textContent = place.querySelector("p").textContent;
  for (const dependent of document.querySelectorAll("[data-shown-when]")) {
    dependent.hidden = !dependent.dataset.shownWhen.split(" ").includes(state);
  }
}

function say(isOffline) {
  const place = document.querySelector("[data-offline]");
  if (place.hidden === isOffline) place.hidden = !isOffline;
}

/** One box picks all on the page; the buttons that need a choice say how many are chosen. */
function picking(all) {
  const boxes = [...document.querySelectorAll("[name=id]")];
  const count = document.querySelector("[data-picked]");
  function tell() {
    const picked = boxes.filter((box) => box.checked).length;
    all.checked = picked > 0 && picked === boxes.length;
    all.indeterminate = picked > 0 && picked < boxes.length;
    count.textContent = picked ? ` ${picked}` : "";
  }
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    tell();
  });
  for (const box of boxes) box.addEventListener("change", tell);
  all.closest("[hidden]")?.removeAttribute("hidden");
  tell();
}

/** A form is sent once, however often its button is pressed. */
function sentOnce(form) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
    event.submitter?.setAttribute("aria-disabled", "true");
  });
  addEventListener("pageshow", () => {
    sent = false;
    form.querySelectorAll("[aria-disabled]").forEach((button) => button.removeAttribute("aria-disabled"));
  });
}

/** What a form was answered with must not be asked for anew: loading the page again leads to another place. */
function shownOnce({ dataset }) {
  window.history.replaceState(null, "", dataset.shownOnce);
}

const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => [figure.dataset.chart, new Chart(figure)]);
const parts = document.body.dataset.parts;
if (parts) follow(parts, charts);

document.querySelector(".places [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
document.querySelectorAll("[data-pick-all]").forEach(picking);
document.querySelectorAll("form[method=post]").forEach(sentOnce);
document.querySelectorAll("[data-shown-once]").forEach(shownOnce);
