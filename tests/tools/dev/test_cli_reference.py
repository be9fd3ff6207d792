"""The command line is a promise: a verb or an option that changes must change the reference."""

from cli_reference import PAGE, page, verbs


def test_the_reference_is_current() -> None:
    assert PAGE.read_text() == page(), "docs/cli.md is old; run: make docs"


def test_every_verb_and_option_says_what_it_does() -> None:
    for name, command in verbs():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


def test_every_verb_of_a_store_can_be_asked_for_json() -> None:
    for name, command in verbs():
        options = {flag for parameter in command.params for flag in parameter.opts}
        assert "--output" in options, name
