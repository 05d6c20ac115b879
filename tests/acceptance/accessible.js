// What is wrong with the page for people who do not see it well, or at all; an empty list if nothing. Run inside the page.
() => {
  const found = [];
  const complain = (element, what) => found.push(`${what}: <${element.tagName.toLowerCase()} ${element.id || element.getAttribute("class") || ""}> ${(element.textContent || "").trim().slice(0, 60)}`);
  const isShown = (element) => element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && !element.closest(".unseen");
  const all = [...document.body.querySelectorAll("*")].filter((element) => !["SCRIPT", "NOSCRIPT", "STYLE"].includes(element.tagName));

  const nameOf = (element) => {
    const by = (element.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join(" ").trim();
    const label = element.labels ? [...element.labels].map((each) => each.textContent).join(" ").trim() : "";
    return by || element.getAttribute("aria-label") || label || (["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName) ? "" : element.textContent.trim()) || element.title;
  };
  for (const element of document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=img], meter, dialog")) {
    if (!nameOf(element)) complain(element, "no name");
  }
  for (const element of document.querySelectorAll("[aria-describedby], [for], [aria-labelledby]")) {
    for (const name of ["aria-describedby", "for", "aria-labelledby"]) {
      for (const id of (element.getAttribute(name) || "").split(" ").filter(Boolean)) if (!document.getElementById(id)) complain(element, `${name} leads nowhere`);
    }
  }
  const ids = all.map((element) => element.id).filter((id) => id && !id.startsWith("clip") && !id.startsWith("topdefs") && !id.startsWith("defs"));
  for (const id of new Set(ids)) if (ids.filter((each) => each === id).length > 1) found.push(`id twice: ${id}`);
  if (document.querySelectorAll("h1").length !== 1) found.push(`${document.querySelectorAll("h1").length} h1`);
  if (document.querySelectorAll("main").length !== 1 || !document.documentElement.lang || !document.title) found.push("no main, language or title");
  let level = 1;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) complain(heading, "heading skips a level");
    level = next;
  }
  for (const table of document.querySelectorAll("table")) if (!table.caption || !table.querySelector("th[scope=col]")) complain(table, "table without caption or column headers");
  for (const element of document.querySelectorAll("[tabindex]")) if (Number(element.getAttribute("tabindex")) > 0) complain(element, "tabindex above 0");

  // Contrast as WCAG 2.2 computes it: what is written against what lies under it.
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], [x, y, z]) => [r * a + x * (1 - a), g * a + y * (1 - a), b * a + z * (1 - a)];
  const ground = (element) => {
    const layers = [];
    for (let each = element; each; each = each.parentElement) layers.push(rgba(getComputedStyle(each).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  for (const element of all) {
    const isWritten = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    const isField = ["INPUT", "SELECT", "TEXTAREA"].includes(element.tagName);
    if (!(isWritten || isField) || !isShown(element) || element.disabled) continue;
    const below = ground(element), style = getComputedStyle(element);
    const isSvg = element.namespaceURI.endsWith("svg");
    const ratio = contrast(over(rgba(isSvg ? style.fill : style.color), below), below);
    if (ratio < 4.5) complain(element, `contrast ${ratio.toFixed(2)}`);
    if (isField && contrast(over(rgba(style.borderTopColor), below), below) < 3) complain(element, "border of a field below 3");
  }
  if (document.documentElement.scrollWidth > innerWidth) found.push(`wider than the window: ${document.documentElement.scrollWidth} > ${innerWidth}`);
  return found;
}
