"""Generates training texts: opinions as reviewers word them, and short news, combined from phrases.

Like ``scenes``: texts come in families that differ in one part, so that praise is next to blame of the same
thing, and news next to other news of the same subject. The phrases were written for this project.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_GOOD = (
    "warm|witty|tender|thrilling|graceful|inventive|haunting|riveting|sly|sincere|vivid|intelligent|"
    "exciting|heartfelt|lovely|hypnotic|compelling|compassionate|playful|sharp|dazzling|affecting|bold|"
    "poetic|lively|refreshing|splendid|amusing|enjoyable|fascinating|wise|luminous|spirited|fun|uplifting|"
    "terrific|superb|memorable|insightful|elegant|exhilarating|sweet|remarkable|impressive|imaginative|"
    "sensitive|stylish|perceptive|rousing|sublime|masterful|suspenseful|original|humane|gorgeous|delicate|"
    "energetic|authentic"
)
_BAD = (
    "dreary|stale|sloppy|lazy|pointless|contrived|dismal|inept|murky|muddled|tiresome|wooden|listless|"
    "trite|crude|lame|dumb|soulless|derivative|heavy-handed|overlong|incoherent|unconvincing|vulgar|"
    "grating|drab|formulaic|laughable|aimless|plodding|cynical|joyless|sappy|manipulative|disjointed|"
    "mediocre|empty|ugly|ridiculous|insulting|amateurish|cold|dated|sluggish|unoriginal|mean-spirited|"
    "sentimental|thin|repetitive|uninspired|unfocused|offensive|dreadful|depressing|lukewarm|superficial|"
    "gimmicky|stilted|obvious|bloated"
)
_PART = (
    "story|comedy|drama|film|movie|picture|script|dialogue|performance|cast|thriller|romance|satire|"
    "portrait|tale|direction|score|photography|plot|ending|sequel|remake|adventure|documentary|farce|fable|"
    "love story|character study|biography|mystery|cartoon|musical|war film|horror flick|action film|"
    "adaptation|debut|romantic comedy|science fiction|family film|coming of age story|crime story|"
    "concert film|epic"
)
_PRAISE = (
    "a film that stays with you|you will laugh and cry|it grabs you at once|it earns every tear|"
    "the actors shine|it never loses its way|it works on every level|an evening well spent|see it at once|"
    "it has heart , wit and style|it makes you think and feel|it is hard to resist|"
    "it surprises at every turn|the best thing about it is its honesty|there is much to admire|"
    "one leaves with a smile|it is a treat|the jokes land|it holds your attention to the last minute|"
    "it brings its people to life|pure pleasure|the chemistry between the leads is real|"
    "it has an infectious energy|it finds beauty in small things"
)
_BLAME = (
    "you have seen it all before|it goes nowhere|it wears out its welcome|nobody seems to care|"
    "i checked my watch|the jokes fall flat|it never comes to life|save your money|"
    "it collapses in the second half|it feels twice as long|the actors are wasted|"
    "it drowns in its own cleverness|there is no reason to see it|it makes no sense at all|"
    "it is neither funny nor scary|it runs out of steam|it takes itself far too seriously|"
    "wait for the video|it leaves you cold|it is all surface|it insults your intelligence|"
    "the characters never convince|it lacks wit , warmth and a point|too little happens too slowly|"
    "it fails to engage|it is a chore to sit through"
)
_LEAD = (
    "for all its flaws ,|despite a strong cast ,|as a whole ,|at its best ,|in the end ,|like its hero ,|"
    "unlike the original ,|from start to finish ,|even for fans ,|to be fair ,|against all odds ,|sadly ,|"
    "happily ,|as directed by a newcomer ,|for a first film ,|with all that talent ,|surprisingly ,|"
    "at two hours ,|as entertainment ,|for grown-ups ,|for children ,|in its own way ,|as usual ,"
)
_MUCH = (
    "||||very|quite|truly|deeply|rather|a bit|hardly|never|not|often|not exactly|far from|less than|so|"
    "more than a little|surprisingly|consistently|only occasionally|undeniably|almost|by no means|too"
)
# News by subject: who, what, and how it goes on.
_NEWS = (
    (
        (
            "the software maker|the search company|a chip maker|researchers|the phone company|hackers|"
            "engineers|the space agency|astronomers|a start-up|the music service|the game maker|scientists|"
            "the browser maker"
        ),
        (
            "unveils a faster processor|patches a flaw in its operating system|launches a music player|"
            "sends a probe to Saturn|sues a rival over a patent|warns of a new computer worm|"
            "opens its source code|plans a video service for mobile phones|"
            "releases a test version of its browser|finds water on Mars|shows a flat screen television|"
            "joins the fight against spam|maps the genome of a plant|delays its console"
        ),
        (
            "users can download the program from the web|the chips will go on sale next year|"
            "analysts call it a threat to its rival|the spacecraft will reach orbit in January|"
            "the flaw lets attackers take over a computer|the service will cost ten dollars a month|"
            "the discovery was published in a journal"
        ),
    ),
    (
        (
            "the airline|the retailer|the central bank|the oil company|shares of the drug maker|"
            "the car maker|crude oil|the dollar|stocks|the insurer|the telephone company|the treasury|"
            "a steel maker|consumers|the bank"
        ),
        (
            "posts a quarterly loss|raises its forecast|files for bankruptcy protection|"
            "cuts four thousand jobs|rises to a record above fifty dollars a barrel|"
            "agrees to buy a competitor for cash|falls against the euro|settles charges of fraud|"
            "lifts interest rates by a quarter point|ends lower on profit worries|"
            "names a new chief executive|reports weaker sales|recalls a painkiller|plans to sell its unit"
        ),
        (
            "earnings were below what analysts expected|the shares fell five percent in early trading|"
            "the deal needs the approval of regulators|higher fuel prices hurt the results|"
            "investors worry about inflation|the company blamed the weak economy|"
            "unemployment claims fell last week"
        ),
    ),
    (
        (
            "the striker|the champion|the quarterback|the home team|the coach|a rookie pitcher|the swimmer|"
            "the sprinter|the golfer|the goalkeeper|the league|the defending champions|the captain|"
            "the cyclist|the tennis star"
        ),
        (
            "scores twice in the second half|wins gold in the final|"
            "is out for the season with a knee injury|throws three touchdown passes|"
            "hits a home run in the ninth inning|beats the favourite in straight sets|"
            "signs a three year contract|fails a drug test|takes a one shot lead|ends a losing streak|"
            "is fired|reaches the semi-finals|breaks the world record|draws at home"
        ),
        (
            "the victory puts them at the top of the table|it was their fifth win in a row|"
            "fans cheered until the end|he will have surgery next week|they play again on Sunday|"
            "the title was decided in extra time|it was the first loss of the season"
        ),
    ),
    (
        (
            "world leaders|rebels|ministers|gunmen|diplomats|police|the neighbours|troops|villagers|voters|"
            "opposition parties|aid workers|judges|members of parliament|militants|insurgents|storms|"
            "peacekeepers"
        ),
        (
            "call for a cease-fire|kill at least nine people in the capital|reject the peace plan|"
            "meet for talks on the nuclear program|free two hostages|go to the polls|"
            "are charged with war crimes|storm a rebel town|accuse the government of fraud|"
            "pull out of the disputed region|threaten sanctions|resign after protests|"
            "leave thousands without homes|seize weapons near the border"
        ),
        (
            "a spokesman denied the report|dozens were wounded in the attack|"
            "the vote was postponed until March|the talks broke down on Friday|"
            "the army sealed off the area|the government declared a state of emergency|"
            "observers called the election unfair"
        ),
    ),
)
_PLACES = (
    "London|Baghdad|Washington|New York|Moscow|Beijing|Jerusalem|Athens|Tokyo|San Francisco|Paris|Sydney|"
    "Kabul|Darfur|Berlin|Madrid|Delhi|Cairo|Seoul|Boston|Chicago|Toronto|Geneva|Nairobi"
)
_SAID = (
    "officials said on Monday|according to a report|the company said on Thursday|a source said|"
    "witnesses said|the newspaper reported|the agency said yesterday|after months of talks|"
    "for the second time this year|in the third quarter|a week before the deadline|amid growing pressure|"
    "as expected|late on Tuesday"
)


_FEELINGS = f"{_GOOD}|{_BAD}"
_CLAIMS = f"{_PRAISE}|{_BLAME}"
_JOINED = "and|but|, yet|, if|as well as|rather than|, never"
_FRAMES: tuple[tuple[str, ...], ...] = (
    ("a|this|one|such a|hardly a|not a", _MUCH, _FEELINGS, _PART),
    (
        "a|this is a",
        _FEELINGS,
        ",",
        _FEELINGS,
        _PART,
        "|about family|about love|about war|about growing up|for all ages",
    ),
    ("the", _PART, "is|was|remains|feels|seems", _MUCH, _FEELINGS),
    ("the", _PART, "is", _FEELINGS, _JOINED, _FEELINGS),
    ("", _LEAD, "the", _PART, "is", _MUCH, _FEELINGS),
    ("", _LEAD, _CLAIMS),
    ("", _CLAIMS),
    ("", _MUCH, _FEELINGS, _JOINED, _FEELINGS),
    ("a", _FEELINGS, _PART, "in which|where|, and", _CLAIMS),
    (
        "i|we|critics|audiences",
        "loved|hated|enjoyed|disliked|admired|could not stand|laughed at|forgot",
        "the",
        _PART,
        "|, but",
        _CLAIMS,
    ),
)
_NEWS_SHARE = 0.35


def reviews(seed: int, count: int) -> Iterator[str]:
    """Yields texts in families of one to four; the same seed gives the same texts."""
    choose = random.Random(seed)
    made = 0
    while made < count:
        slots = [slot.split("|") for slot in _slots(choose)]
        parts = [choose.choice(slot) for slot in slots]
        for _ in range(min(choose.randint(1, 4), count - made)):
            yield " ".join(part for part in parts if part)
            made += 1
            changed = choose.choice([place for place, slot in enumerate(slots) if len(slot) > 1])
            parts[changed] = choose.choice(slots[changed])


def _slots(choose: random.Random) -> Sequence[str]:
    """Returns the phrases to choose from, a string per part of the text."""
    if choose.random() >= _NEWS_SHARE:
        return choose.choice(_FRAMES)
    who, does, further = choose.choice(_NEWS)
    headline = (who, does)
    if choose.random() < 0.3:
        return headline
    place = (_PLACES, "-") if choose.random() < 0.5 else ()
    story = (*headline, ", " + _SAID.replace("|", "|, "), ".", further, ".")
    return (*place, *story) if choose.random() < 0.6 else (*headline, ".", *place, *story)
