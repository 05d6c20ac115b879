// Runs before the first paint: a chosen theme must not flash the other one. Without a choice the system's decides.
(() => {
  try {
    const chosen = localStorage.getItem("weir.theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // Storage is closed to this page; the system's theme it is.
  }
})();
