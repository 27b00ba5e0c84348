"""What fails in a cell becomes that cell's row; the session goes on with the others."""

from collections.abc import Callable

from inference_benchmark.parallel.ranks import PeerFailed, Ranks
from inference_benchmark.session.live import LiveCell, failure


def guarded(ranks: Ranks, cell: LiveCell, action: Callable[[LiveCell], None]) -> None:
    """Run action(cell); what fails on any rank fails the cell on all of them."""
    try:
        action(cell)
        ranks.all_gather()
    except PeerFailed as error:
        cell.fail(error.status, str(error))
    except Exception as error:
        cell.fail(*failure(error))
        ranks.report(failure(error))
