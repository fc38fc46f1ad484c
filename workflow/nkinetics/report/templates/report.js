(function () {
  "use strict";
  var choice = document.getElementById("chosen");
  var patients = Array.prototype.slice.call(document.querySelectorAll("[data-patient-id]"));
  var chips = Array.prototype.slice.call(document.querySelectorAll(".chips a"));
  function show(id) {
    patients.forEach(function (p) { p.hidden = id !== "" && p.dataset.patientId !== id; });
    chips.forEach(function (a) {
      if (id !== "" && a.textContent === id) { a.setAttribute("aria-current", "true"); } else { a.removeAttribute("aria-current"); }
    });
    choice.value = id;
  }
  /* A link may lead into a hidden patient or a closed drill-down: open what stands around its target. */
  function reveal() {
    var target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) { return; }
    var patient = target.closest("[data-patient-id]");
    if (patient && patient.hidden) { show(patient.dataset.patientId); }
    for (var at = target; at; at = at.parentElement) { if (at.tagName === "DETAILS") { at.open = true; } }
    target.scrollIntoView();
  }
  document.querySelector(".scripted").hidden = false;
  choice.addEventListener("change", function () {
    show(choice.value);
    if (choice.value) { location.hash = "patient-" + choice.value; }
  });
  /* Listings can be sorted by each column. Row heads that stand for several rows are first repeated in each of them. */
  function repeatHeads(body) {
    var rows = Array.prototype.slice.call(body.rows);
    rows.forEach(function (row, i) {
      Array.prototype.slice.call(row.cells).forEach(function (cell, at) {
        var span = cell.rowSpan;
        cell.removeAttribute("rowspan");
        for (var k = 1; k < span; k += 1) {
          if (rows[i + k].className === "more") { rows[i + k].cells[0].colSpan += 1; continue; }
          rows[i + k].insertBefore(cell.cloneNode(true), rows[i + k].cells[at]);
        }
      });
    });
  }
  function keyOf(text) {
    var number = /^[-−<>≤≥ ]*\d[\d.]*(e[-+]?\d+)?/.exec(text);
    return number ? [0, parseFloat(number[0].replace("−", "-").replace(/[<>≤≥ ]/g, "")), text] : [text === "–" || text === "" ? 2 : 1, 0, text];
  }
  function sortBy(table, column, rising) {
    Array.prototype.slice.call(table.tBodies).forEach(function (body) {
      repeatHeads(body);
      var groups = [];
      Array.prototype.slice.call(body.rows).forEach(function (row) {
        if (row.className === "group") { return; }
        if (row.className === "more") { groups[groups.length - 1].rows.push(row); return; }
        groups.push({ rows: [row], key: keyOf(row.cells[column].textContent.trim()) });
      });
      groups.sort(function (a, b) {
        if (a.key[0] !== b.key[0]) { return a.key[0] - b.key[0]; }
        var by = a.key[1] - b.key[1] || (a.key[2] < b.key[2] ? -1 : a.key[2] > b.key[2] ? 1 : 0);
        return rising ? by : -by;
      });
      groups.forEach(function (group) { group.rows.forEach(function (row) { body.appendChild(row); }); });
    });
  }
  document.querySelectorAll("#listings table, table.patients").forEach(function (table) {
    var heads = Array.prototype.slice.call(table.tHead.rows[0].cells);
    heads.forEach(function (head, column) {
      var button = document.createElement("button");
      button.type = "button";
      while (head.firstChild) { button.appendChild(head.firstChild); }
      head.appendChild(button);
      button.addEventListener("click", function () {
        var rising = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        sortBy(table, column, rising);
      });
    });
  });
  window.addEventListener("hashchange", reveal);
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
  if (location.hash) { reveal(); }
})();
