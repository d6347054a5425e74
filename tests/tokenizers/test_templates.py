"""A chat template is a program of others: it is bounded, and its failure is one sentence that names the file."""

import pytest

from lit_gen.core.errors import UserError
from lit_gen.tokenizers import templates
from lit_gen.tokenizers.templates import compiled

SAID = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(("reason", "source"), [
    ("no user; use roles", "{{ raise_exception('no user; use roles') }}"),
    ("unsafe", "{{ ''.__class__.__mro__ }}"),
    ("unsafe", "{{ messages.append(1) }}"),
    ("undefined", "{{ lipsum() }}"),
    ("undefined", "{{ strftime_now('%d') }}"),
    ("its loops and calls take more than 1,000,000 turns",
     "{% set r = range(2000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}"),
    ("it writes more than 10,000 characters", "{% for a in range(3000) %}hello{% endfor %}"),
    ("stands before or after **", "{{ 9 ** 9 ** 9 }}"),
    ("a product of more than", "{{ 'x' * 9000 * 9000 }}"),
    ("a text or list of 12,000 parts", "{% set a = 'x' * 6000 %}{{ (a ~ a)|length }}"),
    ("a text or list of 12,000 parts", "{% set a = 'x' * 6000 %}{{ (a + a)|length }}"),
    ("a text or list of 500,000,000 parts", "{{ 'x'.center(500000000)|length }}"),
    ("its loops and calls take more than", "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}"
     "{% endmacro %}{{ f(30) }}"),
    ("no loader", "{% include '/etc/passwd' %}"),
    ("recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
])  # fmt: skip
def test_what_a_template_may_not_do_is_one_sentence(monkeypatch, reason, source):
    monkeypatch.setattr(templates, "LONGEST_TEXT", 10_000)
    render = compiled(source, {}, "gpt2/chat_template.jinja")
    with pytest.raises(UserError) as refused:
        render(SAID, True)
    message = str(refused.value)
    assert message.startswith("gpt2/chat_template.jinja: the chat template failed (")
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize(("reason", "source"), [
    ("line 2", "\n{% for %}"),
    ("a recursive loop, line 1", "{% for x in messages recursive %}{{ loop(messages) }}{% endfor %}"),
    ("Encountered unknown tag 'oops'", "{% oops %}"),
])  # fmt: skip
def test_what_is_no_template_names_the_file(reason, source):
    with pytest.raises(UserError) as refused:
        compiled(source, {}, "a.jinja")
    assert str(refused.value).startswith("a.jinja")
    assert reason in str(refused.value)
    with pytest.raises(UserError, match=r"a.jinja: a template of 524,288 characters was found, at most 262,144 are"):
        compiled("x" * (1 << 19), {}, "a.jinja")


def test_the_turns_of_loops_are_counted_for_each_conversation():
    render = compiled(
        "{% for a in range(600000) %}{% endfor %}{% for m in messages %}{{ loop.length }}{% endfor %}", {}, "a"
    )
    with pytest.raises(UserError, match="Range too big"):
        render(SAID, False)
    render = compiled(
        "{% for a in range(99999) %}{% endfor %}{% for m in messages %}{{ loop.length }}{{ loop.last }}{% endfor %}",
        {},
        "a",
    )
    assert [render(SAID, False) for _ in range(12)] == ["1True"] * 12
