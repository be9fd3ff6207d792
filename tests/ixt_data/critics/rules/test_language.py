"""Detection of languages."""

import pytest
from sample_texts import MODULE, PROSE

from ixt_data.critics.rules.language import language_of


@pytest.mark.parametrize(
    ("text", "source_id", "language"),
    [
        (PROSE, "", "text"),
        (PROSE, "story.py", "python"),
        (MODULE, "", "python"),
        (MODULE, "module.txt", "text"),
        ("int main(void) {\n  return 0;\n}\n", "", "slash"),
        ("SELECT a\nFROM b;\n-- all of them\nCREATE TABLE c (d int);\n-- e", "", "dash"),
        ("<a/>", "x.XML", "data"),
    ],
)
def test_language_of_sample_texts(text, source_id, language):
    assert language_of(text, source_id) == language
