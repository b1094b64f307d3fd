"""Numbers and addresses as people read them."""

from urllib.parse import urlsplit


def size(count):
    """153 MB; powers of ten, as disks and hosts count."""
    if count is None:
        return "size not published"
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= step:
            value = count / step
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{count} bytes"


def duration(seconds):
    """1:05 or 2:03:04."""
    seconds = max(0, int(seconds + 0.5))
    hours, rest = divmod(seconds, 3600)
    text = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else text


def address(url):
    """A url without user, password or query: safe to print."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def printable(text, longest=200):
    """A name or phrase from outside without control characters, and not too long."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    return text if len(text) <= longest else text[:longest] + "..."
