(() => {
  "use strict";
  const all = (what) => [...document.querySelectorAll(what)];
  const choice = document.getElementById("chosen"), patients = all("[data-patient-id]"), chips = all(".chips a");
  const show = (id) => {
    patients.forEach((p) => { p.hidden = id !== "" && p.dataset.patientId !== id; });
    chips.forEach((a) => {
      if (id !== "" && a.textContent === id) { a.setAttribute("aria-current", "true"); } else { a.removeAttribute("aria-current"); }
    });
    choice.value = id;
  };
  /* A link may lead into a hidden patient or a closed drill-down: open what stands around its target. */
  const reveal = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) { return; }
    const patient = target.closest("[data-patient-id]");
    if (patient && patient.hidden) { show(patient.dataset.patientId); }
    for (let at = target; at; at = at.parentElement) { if (at.tagName === "DETAILS") { at.open = true; } }
    target.scrollIntoView();
  };
  document.querySelector(".scripted").hidden = false;
  choice.addEventListener("change", () => {
    show(choice.value);
    if (choice.value) { location.hash = "patient-" + choice.value; }
  });
  /* Listings can be sorted by each column. Row heads that stand for several rows are first repeated in each of them. */
  const repeatHeads = (rows) => rows.forEach((row, i) => [...row.cells].forEach((cell, at) => {
    const span = cell.rowSpan;
    cell.removeAttribute("rowspan");
    rows.slice(i + 1, i + span).forEach((below) => {
      if (below.className === "more") { below.cells[0].colSpan += 1; } else { below.insertBefore(cell.cloneNode(true), below.cells[at]); }
    });
  }));
  const keyOf = (text) => {
    const number = /^[-−<>≤≥ ]*\d[\d.]*(e[-+]?\d+)?/.exec(text);
    return number ? [0, parseFloat(number[0].replace("−", "-").replace(/[<>≤≥ ]/g, "")), text] : [/^–?$/.test(text) ? 2 : 1, 0, text];
  };
  const sortBy = (body, column, sign) => {
    const groups = [];
    repeatHeads([...body.rows]);
    [...body.rows].forEach((row) => {
      if (row.className === "more") { groups[groups.length - 1].rows.push(row); }
      else if (row.className !== "group") { groups.push({ rows: [row], key: keyOf(row.cells[column].textContent.trim()) }); }
    });
    groups.sort(({ key: a }, { key: b }) => a[0] - b[0] || sign * (a[1] - b[1] || (a[2] > b[2]) - (a[2] < b[2])));
    groups.forEach((group) => body.append(...group.rows));
  };
  all("#listings table, table.patients").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        [...table.tBodies].forEach((body) => sortBy(body, column, rising ? 1 : -1));
      });
    });
  });
  addEventListener("hashchange", reveal);
  addEventListener("beforeprint", () => all("details").forEach((d) => { d.open = true; }));
  if (location.hash) { reveal(); }
})();
