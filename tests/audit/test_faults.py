"""Every fault ends a session of the real command line with a wrong output, and nothing else does."""

import pytest

from audit.faults import FAULTS
from audit.sessions import Setting, check_of, run_session

NOT_CAUGHT = {"int8 weights of feed-forward layers alone"}  # see output_check's docstring
DENSE = Setting("audit-gqa", output_length=16, iterations=1, layers=2)
UP_TO_STEP_43 = Setting("audit-gqa", output_length=44, iterations=1, layers=2)
UP_TO_STEP_103 = Setting("audit-gqa", output_length=104, iterations=1, layers=2)
DEEP_MIXTURE = Setting("audit-deep-mixture", output_length=12, batch_size=4, iterations=1)
MIXTURE = Setting("audit-chunked", output_length=16, iterations=1)
MLA = Setting("audit-mla", output_length=24)
ACT_LATE = {  # what a short session does not reach
    "a slot is overwritten at step 40": UP_TO_STEP_43,
    "nothing is done after 100 calls": UP_TO_STEP_43,
    "nothing is done from the 32nd step after the prompt": UP_TO_STEP_43,
    "one head of one slot is overwritten at step 40": UP_TO_STEP_43,
    "step 100 alone is wrong": UP_TO_STEP_103,
}


def setting_of(name: str) -> Setting:
    return MIXTURE if FAULTS[name].needs == "mixture" else ACT_LATE.get(name, DENSE)


@pytest.mark.parametrize("name", sorted(set(FAULTS) - NOT_CAUGHT))
def test_a_fault_is_a_wrong_output(name):
    code, (cell,) = run_session(setting_of(name), name)
    assert code == 1
    assert cell["status"] == "wrong_output"
    assert check_of(cell)["failures"]


@pytest.mark.parametrize(
    "setting", [UP_TO_STEP_103, DEEP_MIXTURE, MLA, MIXTURE], ids=lambda it: it.model
)
def test_without_a_fault_nothing_is_wrong(setting):
    code, (cell,) = run_session(setting)
    assert check_of(cell)["passed"], check_of(cell)["failures"]
    assert code == 0
