// The dashboard: asks for the status and the history every five seconds, and shows them. Texts from the network are
// always set as text and never as HTML, so that no name can become markup.
"use strict";

const PERIOD = 5000;
const CHARTS = [
  { title: "Announces per second", figures: [["answered", "announces_answered"], ["refused", "announces_refused"],
    ["answered over UDP", "announces_answered_udp"]] },
  { title: "Peers", figures: [["IPv4", "peers_ipv4"], ["IPv6", "peers_ipv6"], ["seeds", "seeds"]] },
  { title: "Torrents", figures: [["torrents", "torrents"]] },
  { title: "Scrapes and UDP connects per second",
    figures: [["scrapes", "scrapes_answered"], ["refused", "scrapes_refused"], ["UDP connects", "udp_connects"]] },
  { title: "Time of announces in milliseconds", scale: 1000, least: 0.1,
    figures: [["half", "announce_seconds_p50"], ["90 %", "announce_seconds_p90"], ["99 %", "announce_seconds_p99"]] },
  { title: "Connections", figures: [["open", "connections"], ["closed for another, per second", "connections_shed"]] },
];
const COLOURS = ["#2f7ed8", "#d9622b", "#2a9d4a"];
const STATES = { closed: "good", probing: "warn", paused: "warn", open: "bad" };

const byId = (id) => document.getElementById(id);
let step = 5;
let plots = [];

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 ? 2 : 0 });
}

function milliseconds(seconds) {
  return seconds === null ? "–" : `${number(seconds * 1000)} ms`;
}

function time(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB", step === 5 ? {} : { hour: "2-digit", minute: "2-digit" });
}

function period(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

// Replaces only the rows that have changed, and keeps the focus on the same link or button.
function fill(table, rows) {
  const body = byId(table).tBodies[0];
  const focused = body.contains(document.activeElement) ? document.activeElement.textContent : null;
  rows.forEach((cells, n) => {
    const row = element("tr");
    row.append(...cells.map((cell) => (cell instanceof Node ? cell : element("td", cell))));
    const shown = body.rows[n];
    if (!shown) body.append(row);
    else if (!shown.isEqualNode(row)) shown.replaceWith(row);
  });
  while (body.rows.length > rows.length) body.lastElementChild.remove();
  if (focused === null || body.contains(document.activeElement)) return;
  const again = [...body.querySelectorAll("a, button")].find((target) => target.textContent === focused);
  if (again) again.focus({ preventScroll: true });
}

function showStatus(status) {
  byId("about").className = status.is_stopping ? "bad" : "";
  byId("about").textContent = status.is_stopping
    ? "is stopping" : `${status.version}, up for ${period(status.uptime_seconds)}`;
  const notices = byId("notices");
  // Screen readers read the notices aloud when they change.
  if (notices.textContent !== status.notices.join("")) {
    notices.replaceChildren(...status.notices.map((notice) => element("p", notice, "notice")));
  }
  fill("forwarders", status.forwarders.map((forwarder) => {
    const state = element("td", "", "number");
    state.append(element("span", forwarder.state, STATES[forwarder.state] || ""),
      ` for ${period(forwarder.state_for_seconds)}`);
    const error = forwarder.last_error;
    const mean = forwarder.mean_latency_seconds;
    return [
      forwarder.name, state, element("td", number(forwarder.sessions), "number"),
      element("td", mean === null ? "–" : `${number(mean * 1000)} ms`, "number"),
      error ? `${error.text}, ${period(error.seconds_ago)} ago` : "none",
    ];
  }));
  if (!status.forwarders.length) fill("forwarders", [["There are none.", "", "", "", ""]]);
  fill("settings", status.settings.map(({ variable, value, from }) => [variable, value ?? "–", from]));
}

function showLimits(limits) {
  const reached = limits.filter(({ bites }) => bites > 0);
  fill("limits", reached.map(({ limit, variable, value, in_use, bites, remedy }) => [
    variable ? `${limit} (${variable})` : limit,
    ...[value, in_use, bites].map((count) => element("td", number(count), "number")), remedy,
  ]));
  if (!reached.length) fill("limits", [["None.", "", "", "", ""]]);
}

function showZones(status) {
  const zones = Object.entries(status.peers_by_zone);
  byId("zones-section").hidden = !zones.length;
  fill("zones", [...zones, ["in no zone", status.peers_in_no_zone]].map(([name, { seeds, others }]) =>
    [name, ...[seeds, others].map((count) => element("td", number(count), "number"))]));
}

function showTorrents({ torrents }) {
  fill("torrents", torrents.map(({ torrent, complete, incomplete, downloaded }) => {
    const link = element("a", torrent, "hash");
    link.href = `#${torrent}`;
    const cell = element("td");
    cell.append(link);
    return [cell, ...[complete, incomplete, downloaded].map((count) => element("td", number(count), "number"))];
  }));
  if (!torrents.length) fill("torrents", [["There are none.", "", "", ""]]);
}

function showNow(status, latest) {
  const peers = [status.peers.ipv4, status.peers.ipv6];
  const sum = (role) => peers.reduce((total, family) => total + family[role], 0);
  const figures = [
    ["Announces per second", latest ? latest.announces_answered : null],
    ["Refused per second", latest ? latest.announces_refused : null],
    ["Peers", sum("seeds") + sum("others")],
    ["Seeds", sum("seeds")],
    ["Torrents", status.torrents],
    ["Connections", status.connections.open],
    ...["p50", "p90", "p99"].map((name) => [`Announce, ${name}`, milliseconds(status.announce_seconds[name])]),
  ];
  showFigures("now", figures);
}

function showFigures(place, figures) {
  byId(place).replaceChildren(...figures.map(([name, value]) => {
    const figure = element("div");
    figure.append(element("dt", name), element("dd", typeof value === "string" ? value : number(value)));
    return figure;
  }));
}

// Returns the times of the points, and one list of values for each figure.
function columns(history) {
  const count = history.points.length;
  const times = history.points.map((_, n) => history.end - (count - 1 - n) * history.step_seconds);
  const byName = {};
  history.figures.forEach((name, place) => { byName[name] = history.points.map((point) => point[place]); });
  return { times, byName };
}

function makeCharts() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const axis = { stroke: dark ? "#ccc" : "#444", grid: { stroke: "#8883" }, ticks: { stroke: "#8883" } };
  const figures = CHARTS.map((chart) => {
    const figure = element("figure");
    figure.append(element("figcaption", chart.title));
    return figure;
  });
  // The width of a chart is known only when all figure elements are in the page.
  byId("charts").replaceChildren(...figures);
  plots = CHARTS.map((chart, place) => {
    const figure = figures[place];
    const options = {
      width: Math.max(figure.clientWidth - 22, 200), height: 180, cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.1, chart.least ?? 1)] } },
      axes: [{ ...axis, space: 70, values: (_, ticks) => ticks.map(time) }, { ...axis, size: 60, values: (_, ticks) => ticks.map((tick) => number(tick)) }],
      series: [{ label: "at", value: (_, at) => (at === null ? "–" : time(at)) }].concat(chart.figures.map(([label], n) => ({
        label, stroke: COLOURS[n], width: 1.5, points: { show: false }, value: (_, value) => number(value),
      }))),
    };
    return new uPlot(options, [[0], ...chart.figures.map(() => [null])], figure);
  });
}

function showHistory(history) {
  const { times, byName } = columns(history);
  CHARTS.filter(({ scale }) => scale).forEach(({ scale, figures }) => figures.forEach(([, name]) => {
    byName[name] = byName[name].map((value) => (value === null ? null : value * scale));
  }));
  // One point makes no line.
  if (times.length > 1) {
    plots.forEach((plot, n) => plot.setData([times, ...CHARTS[n].figures.map(([, name]) => byName[name])]));
  }
  fill("history", CHARTS.flatMap((chart) => chart.figures.map(([label, name]) => {
    const values = byName[name].filter((value) => value !== null);
    const cell = (value) => element("td", values.length ? number(value) : "–", "number");
    const heading = element("th", `${chart.title}: ${label}`);
    heading.scope = "row";
    return [heading, cell(byName[name].at(-1)), cell(Math.min(...values)), cell(Math.max(...values))];
  })));
}

async function get(path) {
  const reply = await fetch(path, { headers: { Accept: "application/json" } });
  if (!reply.ok) throw new Error(`${path} answers ${reply.status}`);
  return reply.json();
}

async function refresh() {
  try {
    const [status, hour, history, torrents] = await Promise.all([
      get("/api/v1/status"), get("/api/v1/history"), get(`/api/v1/history?step=${step}`),
      get("/api/v1/torrents?limit=10"),
    ]);
    const latest = hour.points.length ? {} : null;
    hour.figures.forEach((name, place) => { if (latest) latest[name] = hour.points.at(-1)[place]; });
    showStatus(status);
    showLimits(status.limits);
    showZones(status);
    showTorrents(torrents);
    showNow(status, latest);
    showHistory(history);
  } catch (error) {
    byId("about").className = "bad";
    byId("about").textContent = `does not answer: ${error.message}`;
  }
}

byId("explain").addEventListener("submit", async (event) => {
  event.preventDefault();
  const query = new URLSearchParams([...new FormData(event.target)].filter(([, value]) => value.trim() !== ""));
  const shown = byId("explanation");
  shown.hidden = false;
  try {
    shown.textContent = await (await fetch(`/explain?${query}`, { headers: { Accept: "text/plain" } })).text();
  } catch (error) {
    shown.textContent = `The tracker does not answer: ${error.message}`;
  }
});
document.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => {
  step = Number(button.dataset.step);
  document.querySelectorAll("[data-step]").forEach(
    (other) => other.setAttribute("aria-pressed", String(other === button)));
  makeCharts();
  refresh();
}));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { makeCharts(); refresh(); });
let resizing;
addEventListener("resize", () => {
  clearTimeout(resizing);
  resizing = setTimeout(() => { makeCharts(); refresh(); }, 200);
});
makeCharts();
refresh();
setInterval(refresh, PERIOD);
