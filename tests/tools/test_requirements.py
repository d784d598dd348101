from tests.tools.requirements import README, REQUIREMENTS, guarding_tests, readme_with_table


def test_every_requirement_has_a_test():
    assert REQUIREMENTS.keys() == guarding_tests().keys()


def test_the_table_in_the_readme_is_up_to_date():
    assert readme_with_table() == README.read_text("utf-8"), "run: python -m tests.tools.requirements"
