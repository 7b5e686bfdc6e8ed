"""Logs alarms: once when a resource reaches a level, and once when it is below again."""

import structlog

from controller.clock import Clock
from controller.health import capacity
from controller.health.capacity import Level
from controller.state.mirror import Mirror

_INTERVAL = 5.0
"""Seconds between two looks."""

_log = structlog.get_logger()


class AlarmLog:
    """The alarms that this controller has logged."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._said: dict[str, Level] = {}

    async def run(self, clock: Clock) -> None:
        """Log changes of the alarms, until cancelled."""
        while True:
            self.say()
            await clock.sleep(_INTERVAL)

    def say(self) -> None:
        """Log the alarms that are new or have a higher level, and those that are over."""
        raised = {alarm.subject: alarm for alarm in capacity.alarms(self._mirror)}
        for subject, alarm in raised.items():
            before = self._said.get(subject)
            self._said[subject] = alarm.level
            if before is None or (before is Level.WARNING and alarm.level is Level.CRITICAL):
                _log.warning(
                    "nearly exhausted",
                    subject=subject,
                    network=alarm.network,
                    alarm=str(alarm.level),  # not `level`: that is the line's own
                    taken=alarm.supply.taken,
                    total=alarm.supply.total,
                    advice=alarm.advice,
                )
        for subject in self._said.keys() - raised.keys():
            del self._said[subject]
            _log.info("no longer nearly exhausted", subject=subject)
