"""How bash is told what completes a word."""

from __future__ import annotations

from click.shell_completion import BashComplete, CompletionItem


class ColonBash(BashComplete):
    """Bash takes a colon for a word of its own: here "domain:cub" is one word, and bash is told what replaces "cub"."""

    def get_completion_args(self) -> tuple[list[str], str]:
        words, last = super().get_completion_args()
        joined: list[str] = []
        for word in (*words, last):
            if joined and (word == ":" or joined[-1].endswith(":")):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[:-1], joined[-1]

    def format_completion(self, item: CompletionItem) -> str:
        _, replaced = super().get_completion_args()
        _, last = self.get_completion_args()
        kept = last.removesuffix("" if replaced == ":" else replaced)
        return f"{item.type},{item.value.removeprefix(kept)}"
