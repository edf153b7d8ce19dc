"""What tools measure, in the documents that show it."""


def between(text, marks, measured, where):
    """The text with that between its two marks, and the rest as it was; `where` it is from, for people."""
    before, mark, rest = text.partition(marks[0])
    _, other_mark, after = rest.partition(marks[1])
    if not (mark and other_mark):
        raise SystemExit(f"{where} has no {marks[0]} and {marks[1]} after it")
    return f"{before}{marks[0]}\n\n{measured}\n\n{marks[1]}{after}"
