"""Generates training texts: short sentences about everyday scenes, opinions and news, combined from phrases.

Wikipedia tells of people, places and dates. What people do with their hands, what they think of a film
and what a headline sounds like it does not tell. The sentences come in families: one scene, told again
with one of its parts exchanged, so that near meanings are among them and those that share words only. The
phrases were written for this project.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

_WHO = (
    "a man|a woman|a boy|a girl|two men|two women|a child|children|a group of people|an old man|"
    "a young woman|a dog|two dogs|a cat|a black cat|a brown dog|a horse|a bird|a baby|a little girl|"
    "three people|a crowd|a player|a chef|a teacher|a doctor|a nurse|a farmer|a soldier|a police officer|"
    "a driver|a singer|a band|a dancer|students|workers|a couple|friends|my brother|her mother|a person|"
    "someone|people|kids|a lady|a guy|a toddler|a monkey|an elephant|sheep|cows|a cyclist|a runner|a swimmer|"
    "a skier|a surfer|a climber|a fisherman|a painter|a scientist|an actor|a tourist"
)
_DOES = (
    "is playing the guitar|is playing the piano|is playing a flute|is playing the drums|is playing football|"
    "is playing chess|is playing with a ball|is cutting an onion|is slicing tomatoes|is peeling potatoes|"
    "is cooking rice|is frying an egg|is baking bread|is pouring water into a glass|"
    "is stirring soup in a pot|is mixing flour and eggs|is eating an apple|is drinking coffee|"
    "is washing dishes|is riding a horse|is riding a bicycle|is riding a motorcycle|is driving a car|"
    "is running|is walking|is jumping over a fence|is swimming|is dancing|is singing|is talking on the phone|"
    "is reading a book|is writing a letter|is drawing a picture|is painting a wall|is sleeping|"
    "is sitting on a bench|is standing|is lying in the grass|is looking at a map|is taking a photo|"
    "is climbing a rock|is climbing a tree|is throwing a ball|is catching a frisbee|is kicking a ball|"
    "is chasing a ball|is fishing|is rowing a boat|is surfing a wave|is skiing down a hill|"
    "is lifting weights|is doing exercises|is fixing a bike|is cutting wood|is planting flowers|"
    "is feeding the birds|is brushing her hair|is putting on make-up|is shaving|is opening a box|"
    "is folding paper|is typing on a keyboard|is shooting a gun|is holding a baby|is carrying a bag|"
    "is waiting for a bus|is getting off a train|is crossing the street|is pushing a cart|is shopping|"
    "is laughing|is crying|is smiling|is waving a flag|is posing for a picture|is watching television|"
    "is barking|is licking its paw|is flying a kite|is hugging a friend|is fighting|is running through snow|"
    "is playing in the water"
)
_WHERE = (
    "in the park|on the beach|in a kitchen|on the street|in a field|in the snow|near a lake|by the river|"
    "at the table|on a stage|in front of a house|in the garden|on a couch|in a room|at night|in the rain|"
    "in the city|on a mountain|in the woods|under a tree|on the grass|at a market|in a stadium|next to a car|"
    "in a swimming pool|on a boat|on a bridge|at home|in an office|at school|outside|indoors|behind a fence|"
    "on the sidewalk|with a friend|in front of a crowd"
)
_LOOK = (
    "in a red shirt|wearing a hat|in a black dress|with a white jacket|in blue jeans|wearing sunglasses|"
    "with long hair|in a yellow coat|with a backpack|in uniform|holding an umbrella|in a green sweater"
)
_THING = (
    "a red car|a blue car|a white bus|a double decker bus|a yellow train|an old train|an airplane|"
    "a motorcycle|a bicycle|a wooden boat|a sailboat|a laptop|a computer|a television|a white couch|"
    "a wooden table|a cup of coffee|a plate of food|a pizza|a bowl of fruit|a birthday cake|a bottle of wine|"
    "a clock|a lamp|a pair of shoes|a brown cow|a black and white dog|a flock of birds|a bunch of flowers|"
    "a stop sign|a brick building|a tall tower|a church|a small house|a living room|a bathroom with a toilet|"
    "a bedroom with a large bed|a kitchen with a stove|a road|a snowy mountain"
)
_STATE = (
    "is parked on the street|is standing in a field|is on the table|is driving down the road|"
    "is flying in the sky|sits next to a window|is on the tracks|is near the water|is on the floor|"
    "is in front of a building|under a blue sky|with trees in the background|in black and white|"
    "seen from above|on a sunny day|waits at the station|lies on the grass"
)
_WORK = (
    "the film|this movie|the story|the plot|the acting|the script|the cast|the comedy|the drama|the director|"
    "the lead actor|the dialogue|the ending|the thriller|the documentary|the music|the sequel|"
    "the performance|the humor|the book|the romance|the horror film|the characters|the special effects|"
    "the show|the restaurant|the hotel|the service|the phone|the game|the album|the food|this product"
)
_GOOD = (
    "wonderful|moving|funny|charming|brilliant|touching|delightful|smart|warm|beautiful|gripping|fresh|"
    "clever|inspired|powerful|honest|entertaining|hilarious|engaging|subtle|a joy|a triumph|a masterpiece|"
    "worth seeing|full of heart|a pleasure from beginning to end|one of the best of the year|"
    "surprisingly good|absorbing|rich and satisfying"
)
_BAD = (
    "boring|dull|awful|terrible|predictable|silly|tedious|lifeless|a mess|a waste of time|badly written|flat|"
    "stupid|annoying|shallow|painfully unfunny|a disappointment|too long|clumsy|pretentious|hollow|tired|"
    "cheap|a disaster|forgettable|bland|full of clichés|impossible to care about|"
    "one of the worst of the year|pointless|confusing|weak"
)
_HOW = (
    "really|very|simply|often|never|not|hardly|always|at times|rather|utterly|almost|far from|anything but|"
    "too"
)
_ACTOR = (
    "the president|the prime minister|the government|the police|the company|the central bank|the court|"
    "the opposition|scientists|doctors|the union|rebels|the army|the team|the coach|the airline|"
    "the software maker|oil prices|the stock market|shares|the dollar|voters|protesters|the champion|"
    "investors|the minister|officials|researchers|the bank|the chip maker|an earthquake|a bomb|a storm|"
    "gunmen|a court|the search engine|the car maker|the space agency|regulators"
)
_ACTED = (
    "announces new plan|rejects the proposal|resigns|wins the election|cuts jobs|reports record profit|"
    "reports a loss|falls sharply|rises|hits a record high|kills ten people|injures dozens|is arrested|"
    "releases a new version|launches a satellite|signs a contract|loses the final|beats the rivals|"
    "strikes over pay|warns of a crisis|agrees to peace talks|attacks a village|raises interest rates|"
    "buys a rival for two billion dollars|is sued over patents|finds a new planet|discovers a virus|"
    "calls for sanctions|visits the region|denies the charges|is sentenced to prison|recalls cars|"
    "goes on trial|slumps after weak earnings|fixes a security hole|scores twice|breaks the world record|"
    "meets European leaders"
)
_PLACE = (
    "in Iraq|in Syria|in China|in Paris|in London|in the United States|in Russia|in Egypt|in India|"
    "in Pakistan|in Germany|in Japan|on Monday|on Friday|this week|last year|in the third quarter|"
    "after the game|ahead of elections|near the border|in the capital|at the Olympics|over trade|"
    "on Wall Street|in Washington|in Israel|in Afghanistan|in Ukraine"
)
_ASKED = (
    "how do i cook rice|how long should eggs be boiled|what is the best way to learn a language|"
    "how can i lose weight|should i buy a new laptop|why does my computer crash|"
    "what is a good book about history|how do you train a dog|is it safe to eat raw fish|"
    "how do i remove a stain from a shirt|what camera should i buy|how do i become a better writer|"
    "can i freeze cheese|what is the difference between jam and jelly|how do airplanes fly|"
    "why is the sky blue|how do i fix a leaking tap|is it better to rent or to buy|"
    "how should i prepare for an interview|what causes headaches"
)
# Most texts end in a full stop or without punctuation.
_FRAMES = ("{}.", "{}", "{}, I think.", "I am not sure, but {}.", "It depends: {}.", "{}?")


def scenes(seed: int, count: int) -> Iterator[str]:
    """Returns texts in families of one to four; the same seed gives the same texts."""
    choose = random.Random(seed)
    makers = (_action, _action, _action, _object, _opinion, _opinion, _headline, _headline, _question)
    made = 0
    while made < count:
        maker = choose.choice(makers)
        parts = maker(choose)
        for _ in range(min(choose.randint(1, 4), count - made)):
            yield _describe_scores(parts, choose)
            made += 1
            other = maker(choose)
            place = choose.randrange(len(parts))
            if len(other) == len(parts):
                parts = [*parts[:place], other[place], *parts[place + 1 :]]


def _describe_scores(parts: list[str], choose: random.Random) -> str:
    text = " ".join(part for part in parts if part)
    text = choose.choice(_FRAMES[:2] if choose.random() < 0.9 else _FRAMES[2:]).format(text)
    return text[0].upper() + text[1:] if choose.random() < 0.6 else text


def _pick(phrases: str, choose: random.Random, share: float = 1.0) -> str:
    """Returns one of the phrases, or an empty text."""
    return choose.choice(phrases.split("|")) if choose.random() < share else ""


def _action(choose: random.Random) -> list[str]:
    return [_pick(_WHO, choose), _pick(_LOOK, choose, 0.2), _pick(_DOES, choose), _pick(_WHERE, choose, 0.5)]


def _object(choose: random.Random) -> list[str]:
    return [_pick(_THING, choose), _pick(_STATE, choose)]


def _opinion(choose: random.Random) -> list[str]:
    second = _pick(_GOOD if choose.random() < 0.5 else _BAD, choose)
    joined = f"{choose.choice(('and', 'but', ','))} {second}" if choose.random() < 0.4 else ""
    first = _pick(_GOOD if choose.random() < 0.5 else _BAD, choose)
    return [_pick(_WORK, choose), "is", _pick(_HOW, choose, 0.3), first, joined]


def _headline(choose: random.Random) -> list[str]:
    return [_pick(_ACTOR, choose), _pick(_ACTED, choose), _pick(_PLACE, choose, 0.5)]


def _question(choose: random.Random) -> list[str]:
    return [_pick(_ASKED, choose), _pick(_WHERE, choose, 0.3)]
