// @ts-check

/**
 * Tabs as the ARIA practices have them: arrow keys move, the chosen panel alone is there.
 * @param {HTMLElement[]} tabs
 * @param {(tab: HTMLElement) => void} chosen
 * @returns {(tab: HTMLElement) => void} choose one
 */
export function tabList(tabs, chosen) {
  /** @param {HTMLElement} tab */
  function choose(tab) {
    for (const each of tabs) {
      const selected = each === tab;
      each.setAttribute("aria-selected", String(selected));
      each.tabIndex = selected ? 0 : -1;
      const panel = document.getElementById(each.getAttribute("aria-controls") ?? "");
      if (panel) panel.hidden = !selected;
    }
    chosen(tab);
  }
  /** @type {Record<string, number>} */
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  tabs.forEach((tab, index) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      choose(next);
    });
  });
  return choose;
}
