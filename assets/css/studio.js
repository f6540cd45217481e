// The little that the browser decides itself: which page is shown, keys, copying. Everything else is drawn on the server.
(() => {
  const pages = ["model", "data", "train", "align", "export", "chat"];
  const root = document.documentElement;

  function go() {
    const wanted = location.hash.slice(1);
    const page = pages.includes(wanted) ? wanted : "model";
    const changed = root.dataset.stPage && root.dataset.stPage !== page;
    root.dataset.stPage = page;
    mark();
    if (changed) window.scrollTo(0, 0);
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

  function fill(button) {
    const field = document.querySelector(button.dataset.stFill + " textarea, " + button.dataset.stFill + " input");
    if (!field) return;
    field.value = button.dataset.stText;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    field.focus();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("[data-st-copy],[data-st-press],[data-st-fill]");
    if (!button) return;
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
  }, true);

  window.addEventListener("hashchange", go);
  new MutationObserver(mark).observe(root, { childList: true, subtree: true });
  go();
})();
