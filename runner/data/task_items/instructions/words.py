"""Words that instructions are about."""

import random

_WORDS = """
apple arrow autumn bakery basket bell bird blanket boat bottle bread bridge brush bucket
butter button cabin camera candle carpet castle cat chair cheese chimney church circle city
cloud coat coffee corner cotton cow cup curtain desert dinner dog door dream drum duck
eagle ear engine evening farm feather fence field finger fire fish flag flower forest fox
friend fruit garden gate gift glass gold grape guitar hammer harbour hat helmet hill honey
horse hotel ice insect iron island jacket jar journey juice jungle kettle key king kitchen
kite ladder lake lamp leaf lemon letter library lion map market meadow milk mirror money moon
morning mountain museum music nail needle nest night north notebook oak ocean oil onion
orange oven owl paint palace paper pencil piano picture pillow pocket poem pond potato queen
question quilt rabbit radio rain ribbon ring river road roof rope rose sail salt sand
school shadow shelf ship shoe silver snow soap soup spoon spring star station stone storm
street sugar summer table tailor tea temple tent ticket tiger tower train tree tunnel
umbrella uncle valley velvet village violin wagon wall water wheel whistle window winter wolf
yard year zebra
"""
WORDS = tuple(_WORDS.split())
"""Nouns of three letters or more, no one of which is a plural or a form of another."""

_SHORT = "a an as at be by do go he if in is it me my no of on or so to up us we"
SHORT = tuple(_SHORT.split())
"""Words of one and two letters, where words' lengths are given."""

_SENTENCES = (
    "The {} is near the {}.",
    "She found the {} behind the {}.",
    "We saw the {} and then the {}.",
    "He likes the {} more than the {}.",
    "There was no {} beside the old {}.",
)


def sentence(first: str, second: str, chosen: random.Random) -> str:
    """Of 6 to 9 words; ends with the second of the two given ones."""
    return chosen.choice(_SENTENCES).format(first, second)
