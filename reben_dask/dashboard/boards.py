"""What jobs have told of themselves, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from typing import Any

TOPIC = "reben"
"""Of the events that jobs log, which anyone may read too (``client.get_events("reben")``); the page has its name."""

JOBS_KEPT = 8
"""Of more jobs than this, the scheduler forgets the oldest."""

GONE = "its client is gone; the same command goes on"


@dataclass
class Board:
    """One job.

    Parameters
    ----------
    facts : dict
        What does not change: ``recipe``, ``out``, number of ``tiles``, ``client``.
    begun : float
        Seconds since 1970.
    stages : list of dict
        Each with ``title``, ``group`` (of Dask's tasks), ``done`` and ``total``.
    changes : list of tuple of str
        Name, new state and remark of tiles, in the order in which they were told. A tile that has none is waiting.
    ended : str or None
        How the job ended: empty if well, ``None`` while it runs.
    end : float or None
        When it ended.
    """

    facts: dict[str, Any]
    begun: float
    stages: list[dict[str, Any]] = field(default_factory=list)
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    ended: str | None = None
    end: float | None = None

    def stop(self, how: str) -> None:
        """Take note of the end; the first one counts."""
        if self.ended is None:
            self.ended, self.end = how, time()


class Boards:
    """All jobs that a scheduler has heard of, by their ids, the latest last."""

    def __init__(self) -> None:
        self._boards: dict[str, Board] = {}

    def hear(self, message: object) -> None:
        """Take note of one event; what is not a job's own is ignored, for anyone may log anything.

        Parameters
        ----------
        message : dict
            ``job``, and some of ``begin`` (facts), ``stages``, ``tiles`` (changes), ``end`` (how it ended).
        """
        if not isinstance(message, Mapping) or "job" not in message:
            return
        job = str(message["job"])
        if "begin" in message:
            self._boards[job] = Board(dict(message["begin"]), time())
            for old in list(self._boards)[:-JOBS_KEPT]:
                del self._boards[old]
        if board := self._boards.get(job):
            board.stages = list(message.get("stages", board.stages))
            board.changes += [(name, state, remark) for name, state, remark in message.get("tiles", ())]
            if "end" in message:
                board.stop(message["end"])

    def lost(self, client: str) -> None:
        """A client has gone, and with it its job, unless that had ended."""
        for board in self._boards.values():
            if board.facts.get("client") == client:
                board.stop(GONE)

    def since(self, seen: Mapping[str, int]) -> list[dict[str, Any]]:
        """What a page has to show, the latest job first.

        Parameters
        ----------
        seen : mapping of str to int
            How many changes of each job's tiles the page knows already.

        Returns
        -------
        list of dict
            As JSON knows them: fields of :class:`Board`, with ``job``, and only those changes that come after ``seen``.
        """
        return [
            {
                "job": job,
                **{name: value for name, value in board.facts.items() if name != "client"},
                "seconds": (board.end or time()) - board.begun,
                "stages": board.stages,
                "known": min(seen.get(job, 0), len(board.changes)),
                "changes": board.changes[seen.get(job, 0) :],
                "ended": board.ended,
            }
            for job, board in reversed(self._boards.items())
        ]
