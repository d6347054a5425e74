"""What is wrong with a W&B server, in words and in bounded time."""

import http.client
import re
import ssl
import threading
import urllib.error
import urllib.request


class Messages:
    """Receives what the client would print."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def info(self, message: str) -> None:
        """Ignore it."""

    def warning(self, message: str) -> None:
        """Keep a warning or error, such as that it gave up uploading."""
        self.warnings.append(message)

    error = warning


def unreachable(url: str, limit: float) -> str | None:
    """Why there is no answer from ``url``; None if there is any, even an error."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(url, timeout=limit).close()
            outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except (http.client.BadStatusLine, http.client.LineTooLong) as error:
            lost = isinstance(error, http.client.RemoteDisconnected)
            outcome.append("closes the connection without an answer" if lost else "answers, but not in HTTP")
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                return  # such as one whose name lookup never ends
            known = isinstance(reason, ssl.SSLError)  # the client may know its certificate
            outcome.append(None if known else f"cannot be reached ({getattr(reason, 'strerror', None) or reason})")

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(limit + 1)
    return outcome[0] if outcome else f"does not answer within {limit:g} s"


def first_line(error: Exception) -> str:
    """An error in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def reason_of(error: Exception, url: str, limit: float) -> str:
    """Why the client could not start with the server at ``url`` within ``limit`` seconds."""
    text = str(error)
    if "No API key" in text:
        return f"no API key for {url} was found (wandb login sets one)"
    if re.search(r"\b(HTTP|error|status:?|code:?) ?40[13]\b", text):  # a run's id may hold these digits too
        return f"{url} refuses the API key"
    if "deadline exceeded" in text or isinstance(error, TimeoutError):
        return f"{url} gave no good answer within {limit:g} s"
    return f"{url} cannot be used ({first_line(error)})"
