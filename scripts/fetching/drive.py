"""Google Drive answers for a large file with a page that asks to confirm; its form holds the way on."""

from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from .problems import MirrorFailed

# A confirm page is a few kB.
LONGEST_PAGE = 1 << 20
BROWSER = "download it in a browser and give it with --from"


class Form(HTMLParser):
    """The action and the hidden fields of the form `download-form`."""

    def __init__(self):
        super().__init__()
        self.action, self.fields, self._within = None, {}, False

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "form" and attrs.get("id") in ("download-form", "downloadForm"):
            self.action, self._within = attrs.get("action"), True
        elif tag == "input" and self._within and attrs.get("type") == "hidden" and attrs.get("name"):
            self.fields[attrs["name"]] = attrs.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "form":
            self._within = False


def confirmed(reply):
    """The address behind the confirm page that came as `reply`, and the cookies for it. Raises MirrorFailed where there
    is none."""
    page = b""
    for chunk in reply.body():
        page += chunk
        if len(page) > LONGEST_PAGE:
            break
    page = page.decode("utf-8", "replace")
    form = Form()
    try:
        form.feed(page)
        target = urljoin(reply.url, form.action or "")
        host = urlsplit(target).hostname or ""
    except (ValueError, AssertionError, NotImplementedError):
        # Markup or an address that Python's own readers stumble over.
        form.action = None
    if form.action:
        own = host == urlsplit(reply.url).hostname
        if own or host.endswith((".google.com", ".googleusercontent.com")):
            return target + ("&" if "?" in target else "?") + urlencode(form.fields), reply.cookies if own else []
        raise MirrorFailed("its confirm page leads to another host: refused")
    page = page.lower()
    if "quota" in page or "too many users" in page:
        raise MirrorFailed(f"Google Drive's daily quota for this file is used up: try tomorrow, or {BROWSER}")
    if "accounts.google.com" in page and "sign in" in page:
        raise MirrorFailed(f"Google Drive wants you signed in: {BROWSER}")
    raise MirrorFailed(f"it sent a web page where the file should be: {BROWSER}")
