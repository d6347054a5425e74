"""Text without secrets: people share run directories."""

import re

_SMALL = r"(?i:(?:[\w.-]*[_.-])?(?:(?:api|access|auth)[_-]?(?:key|token)|secret|password))"
_SECRET = rf"(?:[\w.-]*(?:KEY|TOKEN|SECRET|PASSWORD)|{_SMALL})"
_QUOTED = r"\"(?:\\.|[^\"\\])*\"|'[^']*'"
_ASSIGNMENT = re.compile(
    rf"(?<![\w.-])({_SECRET}[\"']?\]?(?:"
    rf"[:+?]?=(?![=\s])|:-|"  # of a shell: one word
    rf"(\s*(?:[:+?]?=(?!=)|:(?=[\s\"']))\s*)))"  # of YAML and the like: what is quoted, or the rest of the line
    rf"(?(2)({_QUOTED}|\S.*)|((?:{_QUOTED}|\$\([^)]*\)|[^\s\"']|[\"'])+))"
)
_OPTION = re.compile(rf"--{_SECRET}")
_LOGIN = re.compile(r"(?<=://)[^/\s\"']+@")
HIDDEN = "REDACTED"


def redacted(text: str) -> str:
    """Text without the values of KEY, TOKEN, SECRET and PASSWORD, and without logins in addresses.

    For names that end in these, and ``api_key``, ``access_token``, ``secret``, ``password`` in lower case, the value on
    the same line is replaced: ``export WANDB_API_KEY=...``, ``api_key: ...``, ``os.environ["HF_TOKEN"] = "..."``. A
    value on another line, or under another name, is not recognized.
    """

    def hide(match: re.Match[str]) -> str:
        value = match[3] or match[4]
        quote = value[0] if value[0] in "\"'" else ""
        return f"{match[1]}{quote}{HIDDEN}{quote}"

    return without_login(_ASSIGNMENT.sub(hide, text))


def without_login(text: str) -> str:
    """Text with ``http://host`` for ``http://name:password@host``."""
    return _LOGIN.sub("", text)


def redacted_words(words: list[str]) -> list[str]:
    """A command line whose secrets are redacted, also those that follow their option as a separate word."""
    after = [False, *(_OPTION.fullmatch(word) is not None for word in words)]
    return [HIDDEN if follows else redacted(word) for word, follows in zip(words, after, strict=False)]
