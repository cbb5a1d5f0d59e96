// Light or dark: as the system says, until the button is pressed.
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const told = () => {
    button.textContent = dark() ? "Light colours" : "Dark colours";
    document.dispatchEvent(new Event("theme"));
  };
  try { // a page opened from a file may have no storage
    const kept = localStorage.getItem("l2ljax-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { }
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("l2ljax-theme", root.dataset.theme); } catch { }
    told();
  });
  system.addEventListener("change", told);
  told();
})();
