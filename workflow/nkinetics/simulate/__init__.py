"""A trial with known truth, written as the instruments would have written it.

>>> from nkinetics import simulate
>>> trial = simulate.study(seed=1)
>>> trial.design.study_id, len(trial.patients)
('NCT07366658', 9)
"""

from nkinetics.simulate.bundle import files, write
from nkinetics.simulate.design import NCT07366658, Design
from nkinetics.simulate.observed import Observed, observations
from nkinetics.simulate.trial import Simulated, study

__all__ = ["NCT07366658", "Design", "Observed", "Simulated", "files", "observations", "study", "write"]
