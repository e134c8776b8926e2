"""A preprocessor of mdBook: links to files outside `docs/` become links to the repository."""
import json
import posixpath
import re
import sys

REPOSITORY = "https://github.com/upcycle-rs/upcycle/blob/main/"


def mend(chapter):
    folder = posixpath.dirname(posixpath.join("docs", chapter["path"] or ""))

    def target(found):
        path = posixpath.normpath(posixpath.join(folder, found[1]))
        return found[0] if path.startswith("docs/") else f"]({REPOSITORY}{path}"

    chapter["content"] = re.sub(r"\]\((\.\.?/[^)#]*)", target, chapter["content"])
    visit(chapter["sub_items"])


def visit(items):
    for item in items:
        if isinstance(item, dict) and "Chapter" in item:
            mend(item["Chapter"])


if sys.argv[1:2] != ["supports"]:
    _, book = json.load(sys.stdin)
    visit(book["items"])
    json.dump(book, sys.stdout)
