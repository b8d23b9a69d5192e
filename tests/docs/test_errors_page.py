"""The page of errors: every class with its code, and a test for every fault."""

import inspect
import re

from support.pages import page

from securechat import errors


def test_every_error_is_listed_with_its_code() -> None:
    listed = set(
        re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page("docs/reference/errors.md").text, re.MULTILINE)
    )
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]
    tree = [cls for cls in classes if issubclass(cls, errors.SecureChatError)]
    assert listed == {(cls.__name__, cls.code) for cls in tree}


def test_every_fault_names_a_test_that_proves_it() -> None:
    faults = page("docs/reference/errors.md").text.partition("## Codes")[0]
    rows = [line for line in faults.splitlines() if line.startswith("| ") and "---" not in line]
    rows = [row for row in rows if not row.startswith("| fault")]
    assert len(rows) >= 40
    assert [row for row in rows if "`test_" not in row and "| the same |" not in row] == []
