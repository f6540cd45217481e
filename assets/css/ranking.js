// Ranks are given here and sent with Save: keys, clicks, dragging. What is saved and in which order answers are shown is the server's.
(() => {
  const root = document.documentElement;
  const NAMES = ["", "1st", "2nd", "3rd", "4th"];
  const view = () => root.dataset.stPage === "feedback" ? document.querySelector("[data-st-ranking]") : null;
  const cards = (box) => [...box.querySelectorAll(".st-rank-card")];
  const byPlace = (box) => cards(box).sort((a, b) => a.dataset.stPlace - b.dataset.stPlace);
  const rank = (card) => Number(card.dataset.stRank || 0);
  const area = (card) => card.querySelector(".st-rank-edit");
  const edited = (box) => cards(box).map(area).find((field) => !field.hidden && field.value.trim() && field.value.trim() !== field.defaultValue.trim());

  function set(card, value) {
    if (value) card.dataset.stRank = value; else delete card.dataset.stRank;
  }

  // Ranks have no gaps: 1, 3 becomes 1, 2.
  function close(box) {
    const used = [...new Set(cards(box).map(rank).filter(Boolean))].sort((a, b) => a - b);
    cards(box).forEach((card) => set(card, rank(card) && used.indexOf(rank(card)) + 1));
  }

  function show(box) {
    const bad = box.dataset.stBad === "yes", all = cards(box), better = edited(box);
    all.forEach((card) => {
      const mine = rank(card), tied = mine && all.filter((other) => rank(other) === mine).length > 1;
      card.querySelector("[data-st-rank-now]").textContent = bad ? "bad" : mine ? NAMES[mine] + (tied ? ", equal" : "") : "";
      card.querySelectorAll("[data-st-rank-set]").forEach((b) => b.setAttribute("aria-pressed", String(Number(b.dataset.stRankSet) === mine)));
    });
    box.querySelector("[data-st-rank-bad]").setAttribute("aria-pressed", String(bad));
    box.querySelector('[data-st-name="ranks"]').value = byPlace(box).map(rank).join(",");
    box.querySelector('[data-st-name="bad"]').value = bad ? "yes" : "";
    box.querySelector('[data-st-name="edited"]').value = better ? better.value : "";
    const ready = bad || Boolean(better) || all.some(rank);
    box.querySelector("[data-st-rank-save]").disabled = !ready || box.dataset.stSent === "yes";
    const left = all.filter((card) => !rank(card)).length;
    const said = [];
    if (box.dataset.stTie === "yes") said.push("The next one is equal to the last.");
    if (better) said.push("What you wrote is kept as the best answer.");
    if (bad) said.push("All are bad.");
    else if (all.some(rank) && left) said.push(left === 1 ? "The one without a rank comes last." : `The ${left} without a rank share the last place.`);
    box.querySelector("[data-st-rank-said]").textContent = said.join(" ");
  }

  function clear(box) {
    cards(box).forEach((card) => set(card, 0));
    box.dataset.stBad = box.dataset.stTie = "";
    box.dataset.stLast = "";
  }

  // The next rank for a card; pressed again it loses it.
  function next(box, card) {
    box.dataset.stBad = "";
    if (rank(card)) {
      set(card, 0);
      close(box);
    } else {
      const most = Math.max(0, ...cards(box).map(rank));
      const tie = box.dataset.stTie === "yes" && Number(box.dataset.stLast);
      if (tie) set(card, tie);
      else set(card, most + 1);
      box.dataset.stLast = rank(card);
    }
    box.dataset.stTie = "";
  }

  function edit(box, card) {
    const opening = area(card).hidden;
    cards(box).forEach((other) => {
      const here = other === card && opening;
      if (!here) area(other).value = area(other).defaultValue;
      area(other).hidden = !here;
      other.querySelector(".st-rank-text").hidden = here;
      const button = other.querySelector("[data-st-rank-edit]");
      button.textContent = here ? "Leave it" : "Edit";
      button.setAttribute("aria-expanded", String(here));
    });
    if (opening) {
      area(card).style.height = area(card).scrollHeight + 4 + "px";
      area(card).focus();
    }
  }

  function save(box) {
    const button = box.querySelector("[data-st-rank-save]");
    if (button.disabled) return;
    button.click();
  }

  document.addEventListener("click", (event) => {
    const box = view(), hit = event.target.closest?.("[data-st-ranking] button");
    if (!box || !hit) return;
    const card = hit.closest(".st-rank-card");
    if (hit.dataset.stRankSet) {
      const wanted = Number(hit.dataset.stRankSet);
      box.dataset.stBad = "";
      set(card, rank(card) === wanted ? 0 : wanted);
      box.dataset.stLast = rank(card) || "";
    } else if (hit.dataset.stRankEdit !== undefined) edit(box, card);
    else if (hit.dataset.stRankClear !== undefined) clear(box);
    else if (hit.dataset.stRankBad !== undefined) { const on = box.dataset.stBad === "yes"; clear(box); box.dataset.stBad = on ? "" : "yes"; }
    else if (hit.dataset.stRankSave !== undefined) {
      // It is drawn anew once it is kept; where it was not, it can be pressed again after a while.
      const sample = box.dataset.stRanking;
      box.dataset.stSent = "yes";
      setTimeout(() => { if (view() === box && box.dataset.stRanking === sample) { box.dataset.stSent = ""; show(box); } }, 3000);
    } else return;
    if (event.detail) hit.blur(); // so that Enter saves after a click of the mouse
    show(box);
  });

  document.addEventListener("input", (event) => { const box = view(); if (box && event.target.matches?.(".st-rank-edit")) show(box); });

  document.addEventListener("keydown", (event) => {
    const box = view();
    if (!box || event.altKey || document.querySelector("[role=alertdialog]")) return;
    const writing = event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (event.target.matches?.(".st-rank-edit")) {
      if (event.key === "Escape") edit(box, event.target.closest(".st-rank-card"));
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); save(box); }
      show(box);
      return;
    }
    if (writing || event.ctrlKey || event.metaKey) return;
    const pressing = event.target.closest?.("button, a, summary");
    const card = /^[1-4]$/.test(event.key) && byPlace(box)[event.key - 1];
    if (card) next(box, card);
    else if (event.key === "0" || event.key === "Backspace" || event.key === "Delete") clear(box);
    else if (event.key === "=" || event.key === "t") box.dataset.stTie = box.dataset.stLast && box.dataset.stTie !== "yes" ? "yes" : "";
    else if (event.key === "b") { const on = box.dataset.stBad === "yes"; clear(box); box.dataset.stBad = on ? "" : "yes"; }
    else if (event.key === "Enter" && !pressing) save(box);
    else return;
    event.preventDefault();
    show(box);
  });

  // Keys of the other buttons of the page.
  document.addEventListener("keydown", (event) => {
    if (root.dataset.stPage !== "feedback" || event.altKey || event.ctrlKey || event.metaKey || event.key.length > 1) return;
    if (event.target.closest?.("input, textarea, select, [contenteditable]") || document.querySelector("[role=alertdialog]")) return;
    const button = document.querySelector(`#st-page-feedback [data-st-hotkey="${CSS.escape(event.key)}"]`);
    if (!button?.offsetParent || button.disabled) return;
    button.click();
    button.disabled = true; // one press, one decision: the next one is drawn anew
    setTimeout(() => { button.disabled = false; }, 3000);
  });

  // Dragging by the dots puts the cards into order; then each has the rank of its place.
  let held = null;
  document.addEventListener("dragstart", (event) => {
    held = event.target.matches?.(".st-grip") ? event.target.closest(".st-rank-card") : null;
    if (!held) return;
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", "");
    event.dataTransfer.setDragImage(held, 20, 20);
    held.classList.add("st-held");
  });
  document.addEventListener("dragover", (event) => {
    const over = held && event.target.closest?.(".st-rank-card");
    if (!over) return;
    event.preventDefault();
    if (over === held || over.parentNode !== held.parentNode) return;
    const all = cards(view());
    if (all.indexOf(over) > all.indexOf(held)) over.after(held); else over.before(held);
  });
  document.addEventListener("drop", (event) => { if (held) event.preventDefault(); });
  document.addEventListener("dragend", () => {
    if (!held) return;
    held.classList.remove("st-held");
    held = null;
    const box = view();
    if (!box) return;
    box.dataset.stBad = box.dataset.stTie = "";
    cards(box).forEach((card, place) => set(card, place + 1));
    show(box);
  });
})();
