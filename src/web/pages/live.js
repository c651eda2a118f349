// What the dashboard does more with a script. Nothing needs it: every page is whole as the server sends it.
"use strict";

// A run's page follows its run.
(() => {
  const part = document.querySelector("[data-live]");
  if (!part || !window.EventSource) return;
  const address = part.dataset.live;
  const told = document.createElement("p");
  told.className = "unseen";
  told.setAttribute("role", "status");
  part.after(told);
  let busy = false;
  let wanted = false;
  let shown = "";

  const key = (element) => element.id || element.getAttribute("href");
  const sideways = () => [...part.querySelectorAll(".scroll")].map((one) => one.scrollLeft);

  function swap(text) {
    if (text === shown) return;
    shown = text;
    const page = new DOMParser().parseFromString(text, "text/html");
    const focused = part.contains(document.activeElement) ? key(document.activeElement) : null;
    const scrolled = sideways();
    const before = part.querySelector(".reason")?.textContent;
    part.replaceChildren(...page.body.childNodes);
    part.querySelectorAll(".scroll").forEach((one, at) => { one.scrollLeft = scrolled[at] ?? 0; });
    if (focused) [...part.querySelectorAll("[id], [href]")].find((one) => key(one) === focused)?.focus({ preventScroll: true });
    const reason = part.querySelector(".reason")?.textContent;
    if (reason !== before) told.textContent = reason;
  }

  async function refresh() {
    wanted = true;
    if (busy) return;
    busy = true;
    while (wanted) {
      wanted = false;
      try {
        const answer = await fetch(address + "/part", { credentials: "same-origin", redirect: "error" });
        if (answer.ok) swap(await answer.text());
      } catch {
        part.classList.remove("is-live");
      }
      if (!part.querySelector("[data-refresh]")) {
        source.close();
        location.reload();
        return;
      }
      await new Promise((resolve) => { setTimeout(resolve, 1000); });
    }
    busy = false;
  }

  const source = new EventSource(address + "/changes");
  source.addEventListener("open", () => { part.classList.add("is-live"); refresh(); });
  source.addEventListener("change", refresh);
  source.addEventListener("error", () => part.classList.remove("is-live"));
})();

// Commands can be copied.
(() => {
  if (!navigator.clipboard) return;
  for (const command of document.querySelectorAll(".commands code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not allowed";
      }
    });
    command.after(button);
  }
})();
