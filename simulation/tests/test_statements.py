"""Each model was written for the SQL that it stands for: when the SQL changes, the model is looked at."""

import pytest

import simulation.run  # noqa: F401, registers all statements
from simulation.database.statements import STATEMENTS, Statement, digest_of


@pytest.mark.parametrize("statement", STATEMENTS.values(), ids=lambda statement: statement.name)
def test_the_sql_is_the_one_that_the_model_was_written_for(statement: Statement) -> None:
    assert digest_of(statement.sql) == statement.digest, "look at the model, then write the new digest there"
