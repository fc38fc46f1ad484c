"""One line per patient and assay: how far the numbers can be trusted, from what the run computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from nkinetics.leading import led
from nkinetics.plugins import discover
from nkinetics.results import Context, Results, by_patient
from nkinetics.tables import deviations
from nkinetics.tables._fates import KEY, NAMED_UP_TO, fates, of_samples, unseen_after_tlast
from nkinetics.tables._nca import BY_NAME, OUTSIDE, values
from nkinetics.tables.model_parameters import QUANTITY_NAMES, undetermined
from nkinetics.wording import Words, missing, number_of, profile_name, profiles, significant

BLQ_SHARE = 0.5
"""Where more of a patient's results than this lie below the LLOQ, that is said as a reservation."""
SLOPE = ("lambda_z_n_points", "span_ratio", "r_squared_adj", "auc_extrap_pct")


class Trust:
    """Says it for one patient after the other; the tables are looked through once."""

    def __init__(self, results: Results, context: Context, s: Mapping[str, Any]) -> None:
        self.s, self.words = s, Words(context.language)
        self.kinds = [
            (str(k.assay), str(k.specimen), profile_name(context, str(k.assay), str(k.specimen)))
            for k in profiles(results).itertuples()
        ]
        self.half_life = {
            (assay, specimen): values(results, BY_NAME["half_life"], assay, specimen).set_index("patient_id")
            for assay, specimen, _ in self.kinds
        }
        nca = results.rows("nca", window="overall", parameter=SLOPE)
        self.slope = nca.set_index(["patient_id", "assay", "specimen", "parameter"])["value"].to_dict()
        self.fate = by_patient(of_samples(results).assign(_fate=fates(results)))
        runs = results.table("runs")
        self.refused = set(runs.loc[~runs["accepted"].fillna(False).astype(bool), "run_id"])
        model = led(results, context).settings.models.default
        fits, estimates = results.table("fits"), results.table("estimates")
        self.fits = fits[fits["model"] == model].drop_duplicates(KEY[:3]).set_index(KEY[:3])
        self.loose = undetermined(estimates[estimates["model"] == model])
        self.deviations = deviations.by_patient(results, context)
        self.unseen = {(a, sp): unseen_after_tlast(results, a, sp) for a, sp, _ in self.kinds}
        accepted = runs.set_index(["run_id", "assay"])[["n_levels", "n_levels_within"]]
        outside = accepted["n_levels_within"] < accepted["n_levels"]
        self.outside = set(accepted.index[outside.fillna(False).astype(bool)])
        self.number = number_of(discover("tables")["deviations"], context)

    def of(self, patient: str) -> list[tuple[str, str]]:
        """For each assay that measured the patient: its name, and the line."""
        found, results_of = [], self.fate(patient)
        for assay, specimen, name in self.kinds:
            own = results_of[(results_of["assay"] == assay) & (results_of["specimen"] == specimen)]
            if len(own):
                found.append((name, self._line(patient, assay, specimen, own)))
        return found

    def _line(self, patient: str, assay: str, specimen: str, own: pd.DataFrame) -> str:
        s, key = self.s, (patient, assay, specimen)
        parts = [self._samples(own), self._blq(own), self._runs(own, assay), self._later(key)]
        parts += [self._slope(key), self._model(key), self._deviations(patient)]
        concerns = [concern for _, concern in parts if concern]
        facts = self.words.say("; ", "；").join(fact for fact, _ in parts if fact)
        told = self.words.say("; ", "；").join(concerns)
        return str(s["trust_care"].format(why=told, facts=facts) if concerns else s["trust_none"].format(facts=facts))

    def _samples(self, own: pd.DataFrame) -> tuple[str, str]:
        """Results analysed, those on refused runs, and samples without an analysed result."""
        s, analysed = self.s, own["_fate"] == "analysed"
        fact = s["trust_results"].format(used=int(analysed.sum()), n=len(own))
        on_refused = own[own["run_id"].isin(self.refused)]
        if len(on_refused):
            runs = self.words.join(sorted(set(on_refused["run_id"])))
            fact += self.words.say(", ", "，") + s["trust_refused"].format(n=len(on_refused), runs=runs)
        without = own[own["_fate"].isin(("pending", "failed", "by_rule"))]
        names = list(dict.fromkeys(without["sample_id"]))
        told = self.words.join(names[:NAMED_UP_TO]) + (f" … ({len(names)})" if len(names) > NAMED_UP_TO else "")
        return fact, s["trust_without"].format(samples=told) if names else ""

    def _blq(self, own: pd.DataFrame) -> tuple[str, str]:
        """Share of the analysed results below the LLOQ."""
        used = own[own["_fate"] == "analysed"]
        if not len(used):
            return "", self.s["trust_no_result"]
        below = int(used["status"].isin(("blq", "not_detected")).sum())
        text = self.s["trust_blq"].format(n=below, total=len(used), pct=f"{100 * below / len(used):.0f}")
        return (text, "") if below <= BLQ_SHARE * len(used) else ("", text)

    def _runs(self, own: pd.DataFrame, assay: str) -> tuple[str, str]:
        """Accepted runs whose calibrators do not all read back within their limit."""
        used = set(own.loc[own["_fate"] == "analysed", "run_id"])
        runs = sorted(run for run in used if (run, assay) in self.outside)
        return "", self.s["trust_calibrators"].format(runs=self.words.join(runs)) if runs else ""

    def _later(self, key: tuple[str, str, str]) -> tuple[str, str]:
        """Samples after Tlast that have no result to say whether the cells were still there."""
        patient, assay, specimen = key
        names = self.unseen[assay, specimen].get(patient, [])
        return "", self.s["trust_later"].format(samples=self.words.join(names)) if names else ""

    def _deviations(self, patient: str) -> tuple[str, str]:
        """Protocol deviations that touch the kinetics, counted by kind."""
        kinds = Counter(each.kind for each in self.deviations.get(patient, ()))
        told = self.words.join(f"{kind} {n}" for kind, n in kinds.items())
        return "", self.s["trust_deviations"].format(kinds=told, number=self.number) if kinds else ""

    def _slope(self, key: tuple[str, str, str]) -> tuple[str, str]:
        """Points, span, fit and extrapolation of the terminal slope, and why it is not accepted."""
        s, (patient, assay, specimen) = self.s, key
        row = self.half_life[assay, specimen].loc[patient]
        why = self.words.told(str(row["reason"]))
        if missing(row["value"]):
            return "", s["trust_no_slope"].format(reason=why)
        n, span, fit, beyond = (self.slope.get((*key, name), float("nan")) for name in SLOPE)
        fact = s["trust_slope"].format(
            n="–" if missing(n) else int(n),
            span="–" if missing(span) else significant(span, 2),
            fit="–" if missing(fit) else f"{fit:.2f}",
            pct="–" if missing(beyond) else significant(beyond, 2),
        )
        return fact, s["trust_outside"].format(reason=why) if OUTSIDE in str(row["reason"]) else ""

    def _model(self, key: tuple[str, str, str]) -> tuple[str, str]:
        """Whether the data determine every parameter of the model shown."""
        s = self.s
        if key not in self.fits.index:
            return "", s["trust_no_fit"]
        fit = self.fits.loc[key]
        if missing(fit["converged"]) or not bool(fit["converged"]):
            return "", s["trust_no_fit"]
        names = {q: self.words.pick(title) for q, title in QUANTITY_NAMES.items()}
        loose = [names.get(q, q) for q in self.loose.get(key, ())]
        return ("", s["trust_loose"].format(names=self.words.join(loose))) if loose else (s["trust_determined"], "")
