// The view of one torrent: `/dashboard#HASH`. It asks `/api/v1/torrents/HASH` every five seconds, and shows the reply.
"use strict";

const HASH = /^#([0-9a-f]{40}|[0-9a-f]{64})$/i;
let chosen = null;

// A button that puts a peer's address into the form.
function addressCell(address) {
  const button = element("button", address, "hash");
  button.type = "button";
  button.title = "Explain what this client gets";
  button.addEventListener("click", () => {
    const field = document.querySelector("[name=as]");
    field.value = address;
    field.focus();
  });
  const cell = element("td");
  cell.append(button);
  return cell;
}

function remarks(peer) {
  const found = [
    [peer.is_expired, "has expired"], [peer.is_second_address, "second address"], [peer.is_claimed, "claimed with ip="],
  ];
  return found.filter(([applies]) => applies).map(([, remark]) => remark).join(", ");
}

function showPeers(swarm) {
  const counts = swarm || { complete: 0, incomplete: 0, downloaded: 0, peers: [], not_shown: 0 };
  showFigures("torrent-now", [
    ["Seeds", counts.complete], ["Others", counts.incomplete], ["Downloads", counts.downloaded],
  ]);
  fill("peers", counts.peers.map((peer) => [
    addressCell(peer.address), peer.zone ?? "", element("td", peer.role, "number"),
    peer.client ?? "",
    element("td", `${period(peer.silent_for_seconds)} ago`, "number"), remarks(peer),
  ]));
  if (!counts.peers.length) fill("peers", [["There are none here now.", "", "", "", "", ""]]);
  byId("peers-more").textContent = counts.not_shown ? `And ${number(counts.not_shown)} more, which are not shown.` : "";
}

function notKept(left) {
  const reasons = [
    [left.own_clients, "our own clients"], [left.repeats, "repeats"], [left.unusable, "unusable"],
    [left.too_many, "too many"],
  ];
  return reasons.filter(([count]) => count).map(([count, reason]) => `${number(count)} ${reason}`).join(", ") || "none";
}

function due(torrent) {
  if (torrent.exchanges_under_way) return "under way";
  const seconds = torrent.next_announce_in_seconds;
  if (seconds === null) return "–";
  return seconds === 0 ? "now due" : `in ${period(seconds)}`;
}

function showSources(forwarders) {
  fill("sources", forwarders.map(({ name, state, is_hidden, last_error, torrent }) => {
    const cell = element("td", "", "number");
    cell.append(element("span", state, STATES[state] || ""));
    if (last_error) cell.title = last_error;
    if (is_hidden) return [name, cell, "not announced there: only or except", "", "", ""];
    if (!torrent) return [name, cell, "0", "–", "–", "–"];
    const list = torrent.list;
    return [
      name, cell, element("td", number(torrent.clients), "number"), element("td", due(torrent), "number"),
      list ? element("td", number(list.peers), "number") : "no list",
      list ? notKept(list.left_out) : "–",
    ];
  }));
  if (!forwarders.length) fill("sources", [["There are none.", "", "", "", "", ""]]);
}

// Screen readers read a status aloud whenever it is set, so a status that does not change is not set again.
function say(text) {
  if (byId("torrent-state").textContent !== text) byId("torrent-state").textContent = text;
  byId("torrent-figures").hidden = text !== "";
}

async function refreshTorrent() {
  const torrent = chosen;
  if (!torrent) return;
  try {
    const reply = await fetch(`/api/v1/torrents/${torrent}`, { headers: { Accept: "application/json" } });
    const shown = reply.ok ? await reply.json() : null;
    const problem = reply.ok ? "" : await reply.text();
    if (torrent !== chosen) return;
    say(problem);
    if (!shown) return;
    showPeers(shown.swarm);
    showSources(shown.forwarders);
  } catch (error) {
    if (torrent === chosen) say(`The tracker does not answer: ${error.message}`);
  }
}

// Shows the view that the address of the page names: a torrent or the overview.
function choose() {
  const found = HASH.exec(location.hash);
  const before = chosen;
  chosen = found ? found[1].toLowerCase() : null;
  document.body.classList.toggle("one-torrent", chosen !== null);
  byId("torrent").hidden = chosen === null;
  byId("explanation").hidden = true;
  if (chosen) {
    document.title = `retracker: torrent ${chosen.slice(0, 8)}…`;
    byId("torrent-hash").textContent = chosen;
    document.querySelector("[name=torrent]").value = chosen;
    fill("peers", []);
    fill("sources", []);
    say("Loading…");
    scrollTo(0, 0);
    byId("torrent-title").focus({ preventScroll: true });
    refreshTorrent();
  } else if (before) {
    document.title = "retracker: dashboard";
    // Charts that were made while they were hidden have no width, so they are made again.
    makeCharts();
    refresh();
    const link = [...document.querySelectorAll("#torrents a")].find((one) => one.hash === `#${before}`);
    if (link) link.focus({ preventScroll: true });
  }
}

addEventListener("hashchange", choose);
setInterval(refreshTorrent, PERIOD);
choose();
