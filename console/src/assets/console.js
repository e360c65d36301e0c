// What a page can do besides being read: keep itself fresh, follow a run, judge a manifest while one types, keys, and the theme.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;

  const ready = (begin) => document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();

  const turnTheme = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const shown = root.dataset.theme || (dark ? "dark" : "light");
    root.dataset.theme = shown === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };

  // The page is fetched again, and what it says takes the place of what it said. Never while somebody is writing or reading on.
  const keepFresh = (seconds) => setInterval(async () => {
    const main = document.querySelector("main");
    const busy = main.contains(document.activeElement) && document.activeElement !== main;
    if (document.hidden || busy || main.querySelector("details[open]") || getSelection().toString()) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok || answer.redirected) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.querySelector("main").childNodes);
    } catch { /* the server is away; the next round may find it */ }
  }, seconds * 1000);

  const line = (said) => {
    const div = document.createElement("div");
    if (said.from === "stderr") div.className = "err";
    const at = document.createElement("time");
    at.dateTime = said.at;
    at.textContent = said.at.slice(11, 23).replace("Z", "");
    div.append(at, said.text);
    return div;
  };

  // A run that is under way: its log as it grows, and the page anew once its state changes.
  const follow = (log) => {
    const source = new EventSource(log.dataset.events);
    let state = log.dataset.state, fresh = true;
    source.addEventListener("log", (event) => {
      if (fresh) { log.replaceChildren(); fresh = false; }
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
      log.append(line(JSON.parse(event.data)));
      if (atEnd) log.scrollTop = log.scrollHeight;
    });
    source.addEventListener("run", (event) => {
      const run = JSON.parse(event.data);
      const said = document.querySelector("[data-progress]");
      if (said && run.running) said.textContent = [run.running.fraction != null ? Math.round(run.running.fraction * 100) + " %" : "", run.running.message || ""].join(" ").trim();
      if (run.state !== state && run.state !== "waiting") state = run.state;
    });
    source.addEventListener("error", () => { fresh = true; });
    source.addEventListener("end", () => { source.close(); location.reload(); });
  };

  // A manifest is judged half a second after the last key.
  const judge = (area) => {
    const verdict = document.querySelector(area.dataset.verdict);
    let timer;
    area.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const say = (wrong, lines) => {
          verdict.className = wrong ? "wrong" : "said";
          verdict.replaceChildren(...lines.map((text) => Object.assign(document.createElement("div"), { textContent: text })));
        };
        let manifest;
        try { manifest = JSON.parse(area.value); } catch (problem) { return say(true, ["This isn't JSON yet: " + problem.message]); }
        const answer = await fetch("/api/v1/apply", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ manifests: [manifest], dryRun: true }) });
        const reply = await answer.json();
        if (answer.ok) say(false, ["Valid: nothing is wrong with it."]);
        else say(true, (reply.problems || []).length ? reply.problems.map((problem) => problem.field + ": " + problem.message) : ["failed to " + reply.detail]);
      }, 500);
    });
  };

  const PLACES = { n: "/", j: "/jobs", p: "/plan", q: "/queues", d: "/letters", f: "/backfills", b: "/buckets", a: "/audit" };
  const keys = () => {
    let going = false;
    document.addEventListener("keydown", (event) => {
      const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
      if (event.key === "Escape" && typing) return document.activeElement.blur();
      if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
      if (going && PLACES[event.key]) { location.href = PLACES[event.key]; return; }
      going = event.key === "g";
      if (event.key === "/") {
        const search = document.querySelector("input[type=search]");
        if (search) { event.preventDefault(); search.focus(); search.select(); } else location.href = "/jobs";
      }
      if (event.key === "t") turnTheme();
    });
  };

  ready(() => {
    document.querySelectorAll("[data-theme-turn]").forEach((button) => button.addEventListener("click", turnTheme));
    document.querySelectorAll("form[data-sure]").forEach((form) => form.addEventListener("submit", (event) => { if (!confirm(form.dataset.sure)) event.preventDefault(); }));
    document.querySelectorAll("[data-events]").forEach(follow);
    document.querySelectorAll("textarea[data-verdict]").forEach(judge);
    if (document.body.dataset.refresh) keepFresh(Number(document.body.dataset.refresh));
    keys();
  });
})();
