"""Chat templates of others, in Jinja, rendered as the library transformers does, but bounded.

A template is a program of whoever made the model. It runs in Jinja's sandbox, sees only strings, reads no file, and may
take a limited number of turns and calls and write a limited text; what one operation takes, such as a format of a large
width, is not limited. What depends on the day (``strftime_now``) is not
offered, since a run would see other data tomorrow; templates ask whether it is there.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from lit_gen.core.errors import UserError
from lit_gen.core.terminal import one_line

LONGEST_TEMPLATE = 1 << 18
"""Characters; published ones have up to 20,000."""
LONGEST_TEXT = 1 << 24
"""Characters of what a template writes."""
MOST_TURNS = 1_000_000
"""Turns of all its loops and calls, for one conversation."""

Render = Callable[[Sequence[Mapping[str, str]], bool], str]
"""From messages, and whether the beginning of an answer follows them, to a text."""


def compiled(source: str, variables: Mapping[str, str], where: str) -> Render:
    """What renders conversations by a template.

    Args:
        source: the template.
        variables: further strings that it may use, ``bos_token`` and the like.
        where: the file it is from, for messages.

    Returns:
        A function, which raises a `UserError` as well.

    Raises:
        UserError: for a template that is too long, or no template; names the file.
    """
    import jinja2  # only conversations need it; torch depends on it

    if len(source) > LONGEST_TEMPLATE:
        raise UserError(f"{where}: a template of {len(source):,} characters was found, at most {LONGEST_TEMPLATE:,} "
                        f"are expected")  # fmt: skip
    left = [0]  # turns of loops, and calls
    environment = _environment(left)
    environment.filters["_turns"] = lambda items: _turns(items, left)
    environment.filters["_joined"] = _joined
    try:
        tree = environment.parse(source)
        for loop in list(tree.find_all(jinja2.nodes.For)):
            if loop.recursive:
                raise ValueError(f"a recursive loop, line {loop.lineno}, is not taken")
            loop.iter = jinja2.nodes.Filter(loop.iter, "_turns", [], [], None, None, lineno=loop.lineno)
        for text in list(tree.find_all(jinja2.nodes.Concat)):
            parts = jinja2.nodes.List(text.nodes, lineno=text.lineno)
            text.nodes = [jinja2.nodes.Filter(parts, "_joined", [], [], None, None, lineno=text.lineno)]
        template = jinja2.Template.from_code(environment, environment.compile(tree), environment.make_globals(None))
    except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError, OverflowError) as error:
        raise UserError(f"{where} is no chat template ({_told(error)})") from None

    def render(messages: Sequence[Mapping[str, str]], begun: bool) -> str:
        left[0] = MOST_TURNS
        values = {"messages": [dict(message) for message in messages], "tools": None, "documents": None}
        try:
            return _limited(template.generate({**values, "add_generation_prompt": begun, **variables}))
        except Exception as error:  # it is a program: it may raise anything
            raise UserError(f"{where}: the chat template failed ({_told(error)})") from None

    return render


def _told(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    return f"{one_line(str(error) or type(error).__name__)}{f', line {line}' if line else ''}"


def _limited(pieces: Iterator[str]) -> str:
    found, length = [], 0
    for piece in pieces:
        found.append(piece)
        if (length := length + len(piece)) > LONGEST_TEXT:
            raise ValueError(f"it writes more than {LONGEST_TEXT:,} characters")
    return "".join(found)


def _turns(items: Iterable[Any], left: list[int]) -> Iterator[Any]:
    for item in items:
        _count(left)
        yield item


def _count(left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise ValueError(f"its loops and calls take more than {MOST_TURNS:,} turns")


def _joined(parts: Sequence[Any]) -> str:
    """What ``~`` joins."""
    texts = [str(part) for part in parts]
    _bounded(sum(map(len, texts)))
    return "".join(texts)


def _bounded(length: int) -> None:
    if length > LONGEST_TEXT:
        raise ValueError(f"a text or list of {length:,} parts, more than {LONGEST_TEXT:,}")


def _environment(turns: list[int]) -> Any:
    """Jinja's sandbox with the settings of ``transformers/utils/chat_template_utils.py``; ``turns`` are left."""
    from jinja2 import TemplateError, ext, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(ext.Extension):
        """The tag ``generation`` around an answer, whose content is written as it is."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    class Sandbox(ImmutableSandboxedEnvironment):
        """With calls counted, and sums, products and powers bounded, which may take all memory."""

        intercepted_binops = frozenset(("+", "*", "**"))

        def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
            _count(turns)
            for x in arguments:  # the width of center()
                _bounded(abs(x) if isinstance(x, int) else 0)
            return super().call(context, function, *arguments, **named)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            sizes = [len(x) if isinstance(x, (str, list, tuple)) else abs(x) for x in (left, right)]
            if operator == "+":
                _bounded(0 if isinstance(left, (int, float)) else sum(sizes))
                return super().call_binop(context, operator, left, right)
            if max(sizes) > MOST_TURNS or (operator == "**" and sizes[1] > 64):
                raise ValueError(f"a number or text beyond {MOST_TURNS:,} stands before or after {operator}")
            if (
                operator == "*"
                and sizes[0] * sizes[1] > LONGEST_TEXT
                and not all(isinstance(x, (int, float)) for x in (left, right))
            ):
                raise ValueError(f"a product of more than {LONGEST_TEXT:,} characters")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def to_json(x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
                sort_keys: bool = False) -> str:  # fmt: skip
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def dictionary(*arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols])
    environment.filters["tojson"] = to_json
    environment.globals.update(raise_exception=raise_exception, dict=dictionary)
    del environment.globals["lipsum"]
    return environment
