// The little that the browser decides itself: which page is shown, keys, copying. Everything else is drawn on the server.
(() => {
  const pages = ["model", "data", "train", "align", "feedback", "evaluate", "lab", "export", "chat", "disk"];
  const root = document.documentElement;

  function go() {
    const wanted = location.hash.slice(1);
    const page = pages.includes(wanted) ? wanted : "model";
    const changed = root.dataset.stPage && root.dataset.stPage !== page;
    root.dataset.stPage = page;
    mark();
    if (changed) window.scrollTo(0, 0);
    unroll();
    warm();
  }

  function mark() {
    document.querySelectorAll(".st-nav").forEach((link) => {
      const here = link.getAttribute("href") === "#" + root.dataset.stPage;
      if (here && link.getAttribute("aria-current") !== "page") {
        link.setAttribute("aria-current", "page");
        const rail = link.closest(".st-rail");
        if (rail && rail.scrollWidth > rail.clientWidth) rail.scrollLeft = link.offsetLeft - 24;
      } else if (!here) link.removeAttribute("aria-current");
    });
  }

  function copy(button) {
    navigator.clipboard.writeText(button.dataset.stCopy).then(() => {
      const label = button.textContent;
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = label; }, 1200);
    });
  }

  // A run's recipe is written when it is asked for: the browser keeps the file, or what stands in the way is said beside
  // the button.
  async function save(link) {
    const said = link.parentElement.querySelector("[data-st-said]");
    said.textContent = "Writing it…";
    const reply = await fetch(link.href).catch(() => null);
    if (!reply?.ok) {
      const words = reply?.headers.get("content-type")?.startsWith("text/plain") && await reply.text();
      said.textContent = words || "Studio did not answer. Is it still running?";
      return;
    }
    const made = document.createElement("a");
    made.href = URL.createObjectURL(await reply.blob());
    made.download = link.dataset.stSave;
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 60000);
    said.textContent = "";
  }

  function fill(button) {
    const field = document.querySelector(button.dataset.stFill + " textarea, " + button.dataset.stFill + " input");
    if (!field) return;
    field.value = button.dataset.stText;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  }

  // A drawn control says what was done with it: its message goes into a hidden field, whose handler reads it.
  let sent = 0;
  function write(field, message) {
    field.value = JSON.stringify({ ...message, sent: `${Date.now()} ${++sent}` });
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  function send(control) {
    const field = document.querySelector(`#${control.dataset.stTo} :is(textarea, input)`);
    if (!field) return;
    const message = JSON.parse(control.dataset.stSend);
    if (control.tagName !== "BUTTON") message.value = control.value;
    else message.values = Object.fromEntries([...(control.closest("[data-st-group]")?.querySelectorAll("[data-st-name]") || [])]
      .map((named) => [named.dataset.stName, named.value]));
    write(field, message);
    if (control.dataset.stPageGo) location.hash = control.dataset.stPageGo;
    if (control.dataset.stThen) then = { place: control.dataset.stThen, until: Date.now() + 5000 };
    if (control.dataset.stGo) document.querySelector(control.dataset.stGo)?.scrollIntoView({ block: control.dataset.stGo.endsWith(".st-fold") ? "start" : "nearest" });
  }

  // What a control brings is drawn a little later, and may be out of sight.
  let then = null;
  function bring() {
    const box = then && document.querySelector(then.place);
    if (then && Date.now() > then.until) then = null;
    if (!then || !box?.offsetParent) return;
    then = null;
    if (box.getBoundingClientRect().top > innerHeight - 120) box.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  // What went wrong, or is asked first, may be drawn out of sight of the click that it answers.
  let clicked = 0, alerts = new Set(), alerted = "";
  document.addEventListener("click", () => { clicked = Date.now(); }, true);
  function alarm() {
    const page = root.dataset.stPage, moved = alerted !== page;
    const here = [...document.querySelectorAll(`#st-page-${page} :is([role=alert], [role=alertdialog])`)].filter((box) => box.offsetParent);
    const fresh = here.find((box) => !alerts.has(box.textContent));
    alerts = new Set(here.map((box) => box.textContent));
    alerted = page;
    if (!fresh || moved || Date.now() - clicked > 8000) return;
    const { top, bottom } = fresh.getBoundingClientRect();
    if (bottom < 100 || top > innerHeight - 60) fresh.scrollIntoView({ block: "center", behavior: "smooth" });
  }

  // A form is kept when one of its fields was left or ticked: a little later, when Gradio knows what was written.
  ["focusout", "change"].forEach((kind) => document.addEventListener(kind, (event) => {
    const field = event.target.closest?.(".st-keeps")?.querySelector(".st-keep :is(textarea, input)");
    if (!field || field === event.target || !event.target.matches("input, textarea")) return;
    clearTimeout(field.stKeeping);
    field.stKeeping = setTimeout(() => write(field, {}), 150);
  }));

  // A control that is drawn anew while it has the focus gets it back.
  const name = (control) => control && control.matches?.("[data-st-send]") ? control.ariaLabel || control.textContent : "";
  let held = "";
  document.addEventListener("focusin", (event) => { held = name(event.target); });
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest("[data-st-send]")) held = ""; });
  function hold() {
    if (!held || document.activeElement !== document.body) return;
    const again = [...document.querySelectorAll("[data-st-send]:not([disabled])")].find((c) => name(c) === held);
    if (again) again.focus({ preventScroll: true });
  }

  // Gradio 6.31 leaves the list of a box open that is left by Tab with a text of one's own: leaving it again closes it.
  document.addEventListener("focusout", (event) => {
    const box = event.target.matches?.("[role=combobox]") && event.target;
    if (box) setTimeout(() => {
      if (box.ariaExpanded !== "true" || document.activeElement === box) return;
      const here = document.activeElement;
      box.focus({ preventScroll: true });
      box.blur();
      here?.focus?.({ preventScroll: true });
    }, 600);
  });

  // Who starts a run far down the page is taken to where it is drawn.
  let started = 0, shown = "";
  document.addEventListener("click", (event) => { if (event.target.closest?.("#st-train-start, #st-align-start")) started = Date.now(); });
  function follow() {
    const now = document.querySelector(`#st-page-${root.dataset.stPage} [data-st-run]`)?.dataset.stRun || "";
    if (now === shown) return;
    shown = now;
    if (Date.now() - started < 10000) window.scrollTo({ top: 0, behavior: "smooth" });
  }

  // What is wrong with a setting is drawn beside Start; it is said at its field, too.
  function blame() {
    const wrong = new Map([...document.querySelectorAll("[data-st-wrong]")].map((said) => [said.dataset.stWrong, said.textContent]));
    document.querySelectorAll("[data-st-problem]").forEach((field) => { if (!wrong.has(field.id)) say(field, ""); });
    wrong.forEach((text, id) => { const field = document.getElementById(id); if (field && field.dataset.stProblem !== text) say(field, text); });
  }
  function say(field, text) {
    const input = field.querySelector("input, textarea");
    if (text) field.dataset.stProblem = text; else delete field.dataset.stProblem;
    if (text) input?.setAttribute("aria-invalid", "true"); else input?.removeAttribute("aria-invalid");
  }

  // A run that ends while nobody looks is told in the tab's title, and as a notification where that was allowed.
  let going = [], before = "";
  const allowed = () => { root.dataset.stNotify = window.Notification ? Notification.permission : "none"; };
  function announce() {
    const told = document.querySelector("[data-st-going]");
    if (!told || told.dataset.stGoing === before) return;
    before = told.dataset.stGoing;
    const now = JSON.parse(before), over = JSON.parse(told.dataset.stOver);
    const said = going.filter((id) => !now.includes(id)).map((id) => over[id]).filter(Boolean);
    going = now;
    if (!said.length || (document.hasFocus() && !document.hidden)) return;
    document.title = said[0] + " · Studio";
    if (window.Notification && Notification.permission === "granted") new Notification("Studio", { body: said.join("\n") });
  }
  const seen = () => { if (!document.hidden && document.title !== "Studio") document.title = "Studio"; };
  window.addEventListener("focus", seen);
  document.addEventListener("visibilitychange", seen);
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("[data-st-notify]")) Notification.requestPermission().then(allowed);
  });

  // In a list of rows the arrows go from one to the next; Tab goes past it.
  document.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const rows = by && event.target.closest?.("[data-st-rows]");
    if (!rows) return;
    const buttons = [...rows.querySelectorAll(".st-row-name")];
    const next = buttons[buttons.indexOf(event.target) + by];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });

  // A long row opens where something is learned, a little above it.
  function unroll() {
    document.querySelectorAll(".st-tokens:not([data-st-seen])").forEach((box) => {
      const first = box.querySelector(".st-learned");
      if (!box.offsetParent || !first) return;
      box.dataset.stSeen = "";
      const depth = first.getBoundingClientRect().top - box.getBoundingClientRect().top;
      if (depth > box.clientHeight - 48) box.scrollTop = depth - 72;
    });
  }

  document.addEventListener("change", (event) => {
    if (event.target.matches?.("select[data-st-send], input[data-st-send]")) send(event.target);
  });
  document.addEventListener("input", (event) => {
    const shown = event.target.matches?.("input[type=range][data-st-send]") && event.target.nextElementSibling;
    if (shown) shown.textContent = Number(event.target.value).toFixed(2);
  });

  // The chat's weights are loaded when its page is opened; the field for it may be drawn a little later.
  let warmed = false;
  function warm() {
    if (root.dataset.stPage !== "chat") { warmed = false; return; }
    const field = !warmed && document.querySelector("#st-chat-do textarea, #st-chat-do input");
    if (!field) return;
    warmed = true;
    write(field, { do: "open" });
  }

  // Of a token that is pointed at or reached by the arrow keys the line below tells the numbers.
  function says(event) {
    const line = event.target.closest?.(".st-looked")?.querySelector(".st-says");
    if (line) line.textContent = event.target.dataset?.stSays || (event.target.closest(".st-heat") ? line.textContent : line.dataset.stDefault);
  }
  document.addEventListener("mouseover", says);
  document.addEventListener("focusin", says);
  document.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const token = by && event.target.closest?.("[data-st-roving] > *");
    const next = token && (by > 0 ? token.nextElementSibling : token.previousElementSibling);
    if (!next) return;
    event.preventDefault();
    token.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  // Who opened a ranking, or saved one, goes on from the next with Tab.
  let ranking = "";
  function rank() {
    const box = root.dataset.stPage === "feedback" && document.querySelector("[data-st-ranking]");
    const now = box ? box.dataset.stRanking : "";
    if (now === ranking) return;
    ranking = now;
    if (box && document.activeElement === document.body) box.focus({ preventScroll: true });
  }

  // When a vote is asked for, the keys 1 to 4 are free for it, unless somebody has begun to write.
  let asking = false;
  function ask() {
    const vote = document.querySelector("#st-page-chat .st-vote");
    const fresh = vote && !asking, here = document.activeElement;
    asking = Boolean(vote);
    if (fresh && here?.closest?.("#st-chat-input") && !here.value) vote.focus({ preventScroll: true });
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest
      && event.target.closest("[data-st-copy],[data-st-press],[data-st-fill],[data-st-save],:is(button,a)[data-st-send]");
    if (!button) return;
    if (button.dataset.stSave !== undefined) { event.preventDefault(); return save(button); }
    if (button.ariaExpanded) button.ariaExpanded = String(button.ariaExpanded !== "true"); // not to wait for the server
    if (button.dataset.stSend !== undefined) return send(button);
    if (button.dataset.stCopy !== undefined) copy(button);
    else if (button.dataset.stFill !== undefined) fill(button);
    else document.getElementById(button.dataset.stPress)?.click();
  });

  document.addEventListener("keydown", (event) => {
    if (root.dataset.stPage !== "chat") return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      event.stopPropagation();
      document.getElementById("st-chat-send")?.click();
    } else if (event.key === "Escape") document.getElementById("st-chat-stop")?.click();
    const typing = event.target.closest?.("input:not([type=range]):not([type=checkbox]), textarea, select, [contenteditable]");
    if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && /^[1-4]$/.test(event.key))
      document.querySelector(`#st-page-chat [data-st-vote="${event.key}"]`)?.click();
  }, true);

  window.addEventListener("hashchange", go);
  new MutationObserver(() => { mark(); hold(); unroll(); blame(); follow(); bring(); alarm(); announce(); warm(); ask(); rank(); }).observe(root, { childList: true, subtree: true });
  allowed();
  go();
})();
