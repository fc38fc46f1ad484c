"""Qualification: does this installation do what it says, and can a reviewer sign it.

Installation (iq): the environment is the one that the lock names, the code is whole, the command works. Operation (oq):
controls with a known answer, of which some must pass and some must fail, since a check that cannot fail shows nothing.
Performance (pq): the user's own study computed twice, under other circumstances, with equal bytes.
"""

from nkinetics.qualification.control import Control, Outcome, carried_out, table
from nkinetics.qualification.operation import CONTROLS

__all__ = ["CONTROLS", "Control", "Outcome", "carried_out", "table"]
