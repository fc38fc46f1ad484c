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
  window.addEventListener("hashchange", reveal);
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
  if (location.hash) { reveal(); }
})();
