"""Long stories of credit, told by a seeded chance: longer than hypothesis would tell them."""

import random
from collections.abc import Callable, Sequence
from decimal import Decimal

from models.rules.burndown import Policy
from tests.integration.credit_decisions import Decisions
from tests.integration.credit_machine import PLACES, Place, Terms

MERGE = 60
"""Steps before two accounts become one: until then each has a life of its own."""


class Storyteller:
    """Plays the machine, and looks at every step whether all is as the model has it."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._machine = Decisions()

    def tell(self, steps: int) -> None:
        machine, chance = self._machine, self._chance
        policies = (chance.choice(list(Policy)), chance.choice(list(Policy)))
        machine.begin(policies, [(self.place(), self.amount(15), self.terms()) for _ in range(8)])
        for step in range(steps):
            if step == MERGE:
                machine.merge(0)
            chance.choices(self._verbs(), weights=(3, 4, 4, 5, 3, 4, 2, 2, 1))[0]()
            machine.the_books_are_sound()
            machine.every_account_says_what_the_model_says()
            machine.every_batch_has_what_the_model_says()

    def place(self) -> Place:
        return self._chance.choice([PLACES[0], *PLACES])

    def amount(self, most: int) -> Decimal:
        return Decimal(self._chance.randint(1, most))

    def terms(self) -> Terms:
        chance = self._chance
        return Terms(
            chance.randint(-1, 1), chance.choice([None, None, 1]), chance.choice([None, 1, 1, 2])
        )

    def pause(self) -> int:
        return self._chance.choice([0, 0, 0, 0, 0, 0, 1, 1, -1])

    def _verbs(self) -> Sequence[Callable[[], None]]:
        machine, chance, pause = self._machine, self._chance, self.pause()
        return (
            lambda: machine.grant(self.place(), pause, self.amount(15), self.terms()),
            lambda: machine.use(
                self.place(), pause, self.amount(9), afterwards=chance.random() < 0.4
            ),
            lambda: machine.reserve(self.place(), pause, self.amount(7), chance.choice([1, 4, 6])),
            self._end_hold,
            self._refund,
            lambda: machine.sweep(pause, holds=chance.random() < 0.3),
            lambda: machine.exchange(pause, chance.randint(1, 3)),
            lambda: machine.adjust(self.place(), pause, self.amount(5), up=chance.random() < 0.4),
            lambda: machine.revoke(self.place(), pause, chance.randrange(100)),
        )

    def _end_hold(self) -> None:
        if self._machine.holds:
            ways = ["refuse", "take_available", "overdraft", "release"]
            actual = self._chance.choice([None, *range(12)])
            pick, how = self._chance.randrange(100), self._chance.choice(ways)
            self._machine.end_hold(pick, self.pause(), actual, how)

    def _refund(self) -> None:
        if self._machine.uses:
            amount = self._chance.choice([None, self.amount(4), self.amount(4)])
            self._machine.refund(self._chance.randrange(100), self.pause(), amount)
