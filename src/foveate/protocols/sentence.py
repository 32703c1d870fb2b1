"""Whether a short sentence plainly says what something is: "The car is red.", not "I see a red car."."""

from __future__ import annotations

import re

_LONGEST = 120
_MOST_WORDS = 16
UNLIKE = re.compile(
    r"\b(?:not|no|never|neither|nor|without|except|instead|rather|than|unlike|or|either|whether|if|but|maybe|might"
    r"|could|may|with|used to|hardly|barely|far|almost|nearly|quite|once|lacks?|over|under|sure|certain|confident"
    r"|perhaps|possibly|more|less|most|while|whereas|cannot|unless|vs|versus)\b|n't\b|\?|不|没|無|无|非|或|还是|和",
    re.IGNORECASE,
)
"""What keeps a sentence from plainly saying what it names."""
UNFIT = (
    r"wrong|incorrect|false|bad|worst|worse|least|less|unlikely|improbable|impossible|other|another|alternative|opposite"
    r"|previous|earlier|former|initial|first|second|third|next|last|old|example|sample|possible|potential|tempting"
    r"|misleading|distractor|decoy|trap|eliminated|rejected|excluded|remaining|runner-up|expected|wanted|common|rest"
)
"""What a thing is called that is not the one asked for, or not the answer given."""
_ASIDE = (
    r"(?:(?:so|thus|therefore|hence|well|okay|ok|yes|finally|overall|clearly|then|here|now|and|answer|reason|on closer"
    r" inspection|zooming in|looking closely|looking at (?:the|this) \w+|(?:based on|from|in|given) (?:the|this) \w+)"
    r"(?:[,:] | ))?"
    r"(?:(?:i|we)(?:'d| would| do)? (?:think|believe|say|guess)(?: that)? )?"
)
_NOT_A_NOUN = (
    rf"{UNFIT}|background|question|questions|caption|title|says?|said|thinks?|thought|believes?|claims?|tells?|told|asks?"
    r"|calls?|wants?|knows?|it|he|she|they|you|we|who|that|which|what|is|are|was|were|be|so|idea|assumption|guess"
)
_NAME = rf"(?:(?!(?:{_NOT_A_NOUN})\b)[\w'-]+)"
_SUBJECT = (
    rf"(?:it|this|that|he|she|they|(?:the|this|that|its|his|her|their|my) {_NAME}(?: {_NAME}){{0,2}}?"
    rf"(?: (?:of|in|on|at) (?:the|this|an?|his|her) {_NAME}(?: {_NAME})?){{0,2}}?)"
)
_IS = (
    r"(?:'s| is| are| appears to be| appear to be| seems to be| looks like| looks| appears| seems| must be| contains"
    r"| points| faces| costs)"
)
_SAYING = (
    r"(?:it|the (?:sign|label|logo|text|word|board|clock|jersey|plate|display|screen|badge)) (?:says|reads|shows):?"
)
_DOING = (
    r"(?: (?:rated|made|called|named|labell?ed|painted|located|colou?red|taken|set|shot|best described|pointing|facing"
    r"|heading|moving|carrying|holding|wearing|riding|driving))?"
)
_WHERE = r"(?: (?:on|in|at|of|as|to|by|from))?"
_ABOUT = (
    r"(?: (?:an?|the|about|approximately|around|roughly|likely|clearly|actually|probably|exactly|indeed|definitely))*"
)
_ONLY = r" [\"'(#]{0,2}∎[\"')]{0,2}"
_AFTER = (
    r"(?: (?:in|on|of) (?:the|this) (?:image|picture|photo|photograph|crop|scene))?"
    r"(?: here| to me| in colou?r| o'clock)?"
    r"(?:,? (?:i (?:think|believe|guess|suppose|would say)|(?:because|since|as) .*))?"
)
_PLACE = r"(?: side)?(?: (?:of )?the [\w'-]+(?: [\w'-]+)?)?"
"""After what says a place: "to the left of the bus", "above the plate"."""
_NOUN = r" [^\W\d_]{3,}(?: (?:in|on|at) (?:the|this) [\w'-]+)?"
_PLAIN = re.compile(
    rf"{_ASIDE}(?:{_SUBJECT}{_IS}{_DOING}{_WHERE}{_ABOUT}|{_SAYING}|looks like(?: an?| the)?"
    rf"|(?:i|we)(?:'d| would) say|the (?:photo|picture|image) was (?:taken|shot|set){_WHERE}{_ABOUT}"
    rf"|i count(?:ed)?|total:|the answer(?: would be| is|:){_ABOUT})"
    rf"{_ONLY}{_AFTER}[.!\"' ]*"
    r"|[\"']?∎[\"']? (?:is|would be) (?:my|the (?:correct |right |best )?)(?: ?(?:answer|choice|option))[.! ]*"
    r"|(?:the )?∎ one[.! ]*|(?:it|the [\w'-]+) ∎[.! ]*",
    re.IGNORECASE,
)
_PLACED = re.compile(
    rf"{_ASIDE}(?:{_SUBJECT}{_IS}{_DOING}{_WHERE}|on|to|at|in)(?: the)? ∎{_PLACE}{_AFTER}[.! ]*",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    rf"{_ASIDE}(?:(?:there (?:is|are|appears? to be)|i (?:can )?(?:see|count(?:ed)?)|{_SUBJECT}{_IS}){_ABOUT} )?∎"
    rf"(?: of them|{_NOUN})?(?: (?:is|are) (?:in|on|at) .*)?{_AFTER}[.! ]*",
    re.IGNORECASE,
)
_EASTERN = re.compile(r"[^a-z\n]*(?:是|为|為|は|은|는|이|가) ?[\"']? ?∎[^a-z∎]{0,8}", re.IGNORECASE)
_FILLER = re.compile(r"\b(?:a|an|the|one|it|about|approximately|around|roughly|current|of|total|people)\b|\W+", re.I)


def is_filler(masked: str) -> bool:
    """Whether a sentence says nothing beside the option's text, which stands in it as "∎"."""
    return not _FILLER.sub("", masked.replace("∎", ""))


def plainly_says(masked: str, *, number: bool, place: bool) -> bool:
    """Whether a short sentence plainly says that what it is about is ∎, which stands for an option's text.

    Only a statement of identity is plain, with ∎ as its end: what follows could make it a part of something else ("a
    red herring", "Apple Bank"). What is only mentioned, shown, or seen need not be what was asked for.

    Args:
        masked: the sentence, one blank at a time.
        number: whether ∎ is a number, after which stands what is counted.
        place: whether ∎ says a place, after which stands whose.
    """
    if len(masked) > _LONGEST or len(masked.split()) > _MOST_WORDS or UNLIKE.search(masked):
        return False
    return bool(
        _PLAIN.fullmatch(masked)
        or (number and _COUNTED.fullmatch(masked))
        or (place and _PLACED.fullmatch(masked))
        or _EASTERN.fullmatch(masked)
    )
