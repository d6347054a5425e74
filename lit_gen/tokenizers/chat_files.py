"""Which form of conversations a configuration names: a text, a file, or what a tokenizer's folder holds."""

import json
from pathlib import Path
from typing import Any

from lit_gen.core.errors import UserError
from lit_gen.tokenizers.chat import PLAIN, ChatFormat, from_json
from lit_gen.tokenizers.stored import TextTokenizer


def read_chat(template: str | None, folder: Path | None, tokenizer: TextTokenizer) -> ChatFormat:
    """The form of conversations that a configuration names.

    Args:
        template: a text with ``{prompt}``, or a file of a Jinja template; None: that of the folder, else `PLAIN`.
        folder: the tokenizer's, if it is one; its ``tokenizer_config.json`` says what ``bos_token`` and the like are.
        tokenizer: what encodes.

    Raises:
        UserError: if a file is damaged, or is no template.
    """
    config = _config(folder / "tokenizer_config.json") if folder is not None else {}
    variables = {name: found for name, value in config.items() if name.endswith("_token")
                 and isinstance(found := value.get("content") if isinstance(value, dict) else value, str)}  # fmt: skip
    path, source = None, None
    if template is not None and "{prompt}" not in template:
        path = Path(template).expanduser()
    elif template is None and folder is not None and (folder / "chat_template.jinja").is_file():
        path = folder / "chat_template.jinja"
    elif template is None and folder is not None and config.get("chat_template") is not None:
        path, source = folder / "tokenizer_config.json", _chosen(config["chat_template"], folder)
    if path is None:
        return ChatFormat(PLAIN if template is None else template, tokenizer)
    if source is None:
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
            raise UserError(f"data.template: {path} was found, a text with {{prompt}} or a file with a Jinja template "
                            f"is expected ({reason})") from None  # fmt: skip
    return ChatFormat(source, tokenizer, jinja=True, variables=variables, name=str(path))


def agreed(found: ChatFormat, stored: str) -> ChatFormat:
    """A checkpoint's form of conversations, if it is the configured one.

    Args:
        found: what is configured.
        stored: what the checkpoint's `ChatFormat.to_json` gave.

    Raises:
        UserError: if it is another one.
    """
    theirs = from_json(stored, found.tokenizer)
    if (theirs.template, theirs.variables) != (found.template, found.variables):
        here, there = (f"{form.template[:40]!r} of {form.name}" for form in (found, theirs))
        raise UserError(f"data.template: {here} was found, but the checkpoint's model was trained with {there}")
    return found


def _chosen(found: Any, folder: Path) -> str:
    """A template, or of several the default one."""
    if isinstance(found, list):
        found = next((t.get("template") for t in found if isinstance(t, dict) and t.get("name") == "default"), None)
    if not isinstance(found, str):
        raise UserError(f"{folder / 'tokenizer_config.json'}: chat_template is no text, and none of several that is "
                        f"called default")  # fmt: skip
    return found


def _config(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            return {}
        if file.stat().st_size > 64 << 20:
            raise ValueError("it has more than 64 MiB")
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({error})") from None
    return content
