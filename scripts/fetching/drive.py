"""Google Drive answers for a large file with a page that asks to confirm; its form holds the way on."""

from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from .problems import MirrorFailed

# A confirm page is a few kB.
LONGEST_PAGE = 1 << 20


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


def confirmed(page, url):
    """The address behind the confirm page that `url` answered with. Raises MirrorFailed where there is none."""
    form, host, own = Form(), "", urlsplit(url).hostname
    try:
        form.feed(page)
        target = urljoin(url, form.action or "")
        host = urlsplit(target).hostname or ""
    except (ValueError, AssertionError, NotImplementedError):
        # Markup or an address that Python's own readers stumble over.
        form.action = None
    if form.action:
        if host == own or host.endswith((".google.com", ".googleusercontent.com")):
            return target + ("&" if "?" in target else "?") + urlencode(form.fields)
        raise MirrorFailed("its confirm page leads to another host: refused")
    text = page.lower()
    if "quota" in text or "too many users" in text:
        raise MirrorFailed(
            "Google Drive's daily quota for this file is used up: try tomorrow, or download it in a browser and give it with --from"
        )
    if "accounts.google.com" in text and "sign in" in text:
        raise MirrorFailed("Google Drive wants you signed in: download it in a browser and give it with --from")
    raise MirrorFailed("it sent a web page where the file should be: download it in a browser and give it with --from")
