"""A slow critic that counts the documents it judged."""

import time

from small_stores import Length

from ixt_data.records import Critique, Document


class Counting(Length):
    """A slow critic that lists the texts it judged."""

    def __init__(self, name: str = "length", pause: float = 0.0) -> None:
        super().__init__(name=name)
        self.asked: list[str] = []
        self.pause = pause

    def judge(self, document: Document) -> Critique:
        self.asked.append(document.text)
        time.sleep(self.pause)
        return super().judge(document)
