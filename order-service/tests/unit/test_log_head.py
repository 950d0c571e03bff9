"""How far the log is complete, whatever the transactions that write it do."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from order_service.infrastructure.order_log import LogHead, Look


class Writers(RuleBasedStateMachine):
    """Transactions that write to the log in any order, and readers who look, as PostgreSQL would show it."""

    def __init__(self) -> None:
        super().__init__()
        self.next_transaction = 1
        self.last_ended = 0
        self.running: dict[int, list[int]] = {}
        self.next_position = 1
        self.visible: set[int] = set()
        self.stored_head = 0
        self.heads = [LogHead(), LogHead()]
        self.lost: set[int] = set()

    @initialize()
    def some_run(self) -> None:
        self.begin()

    @rule()
    def begin(self) -> None:
        """Also transactions that have nothing to do with the log."""
        self.running[self.next_transaction] = []
        self.next_transaction += 1

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        assume(self.running)
        self.running[data.draw(st.sampled_from(sorted(self.running)))].append(self.next_position)
        self.next_position += 1

    @rule(data=st.data(), commits=st.booleans())
    def end(self, data: st.DataObject, commits: bool) -> None:
        assume(self.running)
        number = data.draw(st.sampled_from(sorted(self.running)))
        positions = self.running.pop(number)
        self.last_ended = max(self.last_ended, number)
        if commits:
            assert all(position > head.position for position in positions for head in self.heads)
            self.visible.update(positions)
        else:
            self.lost.update(positions)

    @rule(reader=st.sampled_from([0, 1]), rows_max=st.integers(1, 4))
    def look(self, reader: int, rows_max: int) -> None:
        head = self.heads[reader]
        start = max(self.stored_head, head.position)
        seen = sorted(position for position in self.visible if position > start)[:rows_max]
        unbroken = [position for number, position in enumerate(seen, 1) if position == start + number]
        # A snapshot knows only of transactions up to the last that has ended.
        known = [number for number in self.running if number <= self.last_ended]
        look = Look(
            head=start,
            unbroken=max(unbroken, default=None),
            last=max(seen, default=None),
            oldest_running=min(known, default=self.last_ended + 1),
        )
        self.stored_head = max(self.stored_head, head.saw(look))
        if head.doubts(look):
            head.wait(look, self.next_transaction)
            self.last_ended = self.next_transaction
            self.next_transaction += 1

    @rule(reader=st.sampled_from([0, 1]))
    def restart(self, reader: int) -> None:
        self.heads[reader] = LogHead()

    @invariant()
    def nothing_can_appear_below_a_head(self) -> None:
        unwritten = {position for positions in self.running.values() for position in positions}
        assert all(position > head.position for head in self.heads for position in unwritten)

    def teardown(self) -> None:
        """When all have ended, the head reaches the last that is visible."""
        for transaction in list(self.running):
            self.visible.update(self.running.pop(transaction))
        for _ in range(2 * self.next_position + 2):
            self.look(0, 2)
        assert self.heads[0].position >= max(self.visible, default=0)


TestLogHead = Writers.TestCase
TestLogHead.settings = settings(TestLogHead.settings, max_examples=300)  # fewer miss rare orders of events


def look(head: int, *, unbroken: int | None, last: int | None, running: int) -> Look:
    return Look(head=head, unbroken=unbroken, last=last, oldest_running=running)


def test_without_a_missing_position_nobody_is_waited_for() -> None:
    head, seen = LogHead(), look(0, unbroken=7, last=7, running=1)
    assert (head.saw(seen), head.doubts(seen)) == (7, False)


def test_a_missing_position_is_waited_for_until_all_have_ended_who_ran_when_it_was_seen_missing() -> None:
    head = LogHead()

    def position_after(seen: Look, next_transaction: int) -> int:
        position = head.saw(seen)
        if head.doubts(seen):
            head.wait(seen, next_transaction)
        return position

    assert position_after(look(0, unbroken=1, last=3, running=50), 60) == 1
    assert position_after(look(1, unbroken=None, last=9, running=59), 70) == 1
    assert position_after(look(1, unbroken=None, last=9, running=60), 80) == 3
    assert position_after(look(3, unbroken=None, last=9, running=79), 90) == 3
    assert position_after(look(3, unbroken=None, last=9, running=80), 90) == 9


@given(st.integers(0, 9), st.integers(0, 9))
def test_a_head_never_goes_back(here: int, elsewhere: int) -> None:
    head = LogHead(here)
    assert head.saw(look(elsewhere, unbroken=None, last=None, running=1)) == max(here, elsewhere)
