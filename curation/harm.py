"""How harmful a prompt is and of which kind, by a small head that knows what is killed and where: people or processes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from . import heads
from .heads import load, plain

#: The twelve types of harm of Do-Not-Answer (Apache-2.0), the taxonomy where a spec has none of its own.
CATEGORIES = (
    "adult content", "assisting crime", "disinformation campaigns", "harmful misinformation", "hate speech",
    "false information", "mental health crisis", "personal privacy", "sensitive organisation data",
    "stereotypes and discrimination", "treated as human", "unethical acts",
)
READ = 600  # characters of a prompt that are looked at

_VERB = (
    r"(?:kill|murder|shoot|stab|strangle|choke|poison|hang|slay|slaughter|execute|assassinate|hurt|harm|attack|beat|punch|"
    r"slap|smash|destroy|blow up|bomb|burn|torture|kidnap|crush|cut|gut|drown|bury|hit|whack|terminate|eliminate|"
    r"exterminate|take out|get rid of|steal|rob|snatch|hack|exploit|crack|break into|cheat|trick|fool|deceive|scam|stalk|"
    r"spy on|blackmail|threaten|bully|harass|abuse|rape|sever|decapitate|behead|throttle|butcher|wipe out|eradicate|"
    r"annihilate|obliterate|decimate|massacre|assault|torment|dispose of)")
_END = r"(?:s|ed|ing|d|es)?"
_PERSON = (
    r"(?:people|persons?|someone|somebody|anyone|him|her|them|myself|yourself|(?:wo)?m[ae]n|child(?:ren)?|kids?|babies|"
    r"baby|boy|girl|wife|husband|girlfriend|boyfriend|partner|spouse|friends?|neighbou?rs?|boss|coworker|colleagues?|"
    r"teachers?|students?|classmates?|mother|father|mom|dad|parents?|sister|brother|president|politicians?|police|cops?|"
    r"officers?|crowd|victims?|humans?|civilians?|passengers?|passers?by|prisoners?|employees?|customers?|families|family|"
    r"neighbou?rhood|jews|muslims|dogs?|cats?|animals?|pets?|celebrity|candidate|judge|soldiers?|guy|ex|enemy|enemies|"
    r"old lady|strangers?|immigrants?|minorities|women)")
_THING = (
    r"(?:process(?:es)?|programs?|program|script|engine|car|lights?|time|batter(?:y|ies)|weeds?|germs?|bacteria|cancer|"
    r"cells?|tumou?rs?|mosquito(?:e?s)?|insects?|bugs?|ants?|cockroach(?:es)?|rats?|mice|weight|fat|plants?|trees?|ball|"
    r"balloons?|goals?|target|photos?|pictures?|movie|film|show|scene|stage|game|level|boss|enem(?:y|ies)|zombies?|"
    r"character|dragons?|vampires?|monsters?|dummy|mannequin|pinata|piñata|teddy|robot|doll|bottle|shot|beer|data ?base|"
    r"servers?|thread|computer|laptop|python|linux|task|job|command|file|code|egg|dough|meat|chicken|fish|lobster|crab|"
    r"vegetables?|onion|potato|bread|cake|song|joke|conversation|argument|debate|exam|test|interview|workout|presentation|"
    r"party|career|contract|subscription|habit|boredom|procrastination|virus|infection|disease|pathogens?|stain|dust|mold|"
    r"odou?r|noise|pain|fear|hunger|thirst|dream|myth)")
#: What a prompt speaks of and how it asks. One alone says little: the head weighs their pairs ("how to" with "person is hurt").
_CUES = {name: re.compile(pattern) for name, pattern in {
    "person is hurt": rf"\b{_VERB}{_END}\b(?: \w+){{0,3}}? {_PERSON}\b",
    "thing is hurt": rf"\b{_VERB}{_END}\b(?: \w+){{0,4}}? {_THING}\b",
    "violent or criminal verb": rf"\b{_VERB}{_END}\b",
    "person": rf"\b{_PERSON}\b",
    "in a game": (
        r"\b(?:game|minecraft|fortnite|call of duty|counter[- ]strike|league of legends|pokemon|zelda|gta|"
        r"grand theft auto|skyrim|sims|mario|world of warcraft|dungeons|tetris|video ?game|rpg|fps|character|movie|film|"
        r"novel|book|fiction\w*|tv|show|series|cartoon|anime|play|stage|magic trick|pubg|overwatch|dota|halo|doom|"
        r"starcraft|monopoly|chess|poker)\b"),
    "fiction": (
        r"\b(?:batman|superman|spider-?man|harry potter|voldemort|sherlock|darth|gandalf|frodo|iron man|mickey|james bond|"
        r"joker|hulk|dumbledore|gotham|hogwarts|wonder woman|homer simpson|barbie|shrek|santa|elf|elves|gnomes?|dwar(?:f|"
        r"ves)|orcs?|wizards?|aliens?|martians?|unicorns?|smurfs?|klingons?|vulcans?|hobbits?)\b"),
    "history": (
        r"\b(?:history|historical|war|century|19\d\d|20\d\d|18\d\d|assassination|massacre|holocaust|genocide|revolution|"
        r"empire|ancient|crusades?|slavery|events?|attack on|battle|bombing|who (?:was|were|killed|shot)|when (?:was|did)|"
        r"what (?:was|were|happened)|why did|how did|did the|were the)\b"),
    "asks what": (
        r"^(?:what(?:'s| is| are| does| was| were)|who|when|where|which|how (?:many|much|old|long)|define|what)\b"),
    "asks what it is": (
        r"^what (?:is|are|does|exactly)\b.*\b(?:mean|definition|called|a|an|the)\b"),
    "why": (
        r"^why\b"),
    "why should": (
        r"\bwhy (?:should|shouldn't|are|aren't|do|is|don't)\b"),
    "how to": (
        r"\bhow (?:do|can|could|would|should|might|to) (?:i|you|we|one|someone|my)?\b|\bways? to\b|\b(?:best|easiest|good|"
        r"cheapest|fastest) (?:way|method|place)s?\b|\bsteps? (?:to|for)\b|\binstructions?\b|\bguide\b"),
    "asks for text": (
        r"^(?:please )?(?:write|create|generate|make|draft|compose|develop|give|list|design|provide|produce|tell|describe|"
        r"explain|teach|show|help|convince|publish|come up)\b"),
    "where": (
        r"\bwhere (?:can|do|could|to|might|would)\b"),
    "yes or no": (
        r"^(?:should|can|could|is it|would|do|does|are|am|is)\b"),
    "I": (
        r"\bi\b"),
    "my": (
        r"\bmy\b"),
    "we": (
        r"\b(?:we|our)\b"),
    "group": (
        r"\b(?:black|white|asian|african|gay|lesbian|jewish|muslim|christian|trans\w*|disabled|homeless|poor|fat|old|roma|"
        r"arab|mexican|immigrant|indigenous|women|blacks?|hindu|buddhist|homosexual|lgbt\w*|jews|muslims|mexicans|"
        r"refugees?|handicapped)\b"),
    "contempt": (
        r"\b(?:inferior|superior|should(?:n't| not)|discriminat\w+|hate|stereotyp\w+|racist|sexist|deserve|ban(?:ned)?|"
        r"allowed|exterminated|get fewer|worse|dangerous|criminals?|dirty|stupid|lazy|slurs?|offensive|insult\w*|"
        r"derogatory)\b"),
    "private": (
        r"\b(?:address|phone number|social security|ssn|password|medical|records?|home|live|salary|credit card|bank|tax|"
        r"sexual|religion|party|vote[ds]?|health|illness\w*|diagnos\w+|marital|blood type|bra|criminal record|"
        r"date of birth|private|personal|affairs?|location|email)\b"),
    "unseen": (
        r"\b(?:without (?:being|getting|them|her|him|their|my|anyone|permission|a|consent|detection|paying|noticing)|"
        r"undetected|secretly|untraceable|not get caught|get(?:ting)? away|illegal\w*|unnoticed|anonymous\w*|cover up|"
        r"hide (?:it|the|a|evidence|from)|evad\w+|avoid (?:detection|taxes|arrest|paying))\b"),
    "drug": (
        r"\b(?:cocaine|heroin|meth\w*|crack|weed|lsd|ecstasy|drugs?|opioids?|fentanyl|marijuana|mdma|coke|molly|pills|ghb|"
        r"roofies|steroids|cannabis|shrooms|speed|acid|dope)\b"),
    "drug, harmless": (
        r"\b(?:rehab|side effects?|legal|prescri\w+|treat\w*|addiction|quit|doctor|medicine|medication|recover\w*|cola|"
        r"diet coke)\b"),
    "weapon": (
        r"\b(?:bombs?|guns?|weapons?|explosives?|grenades?|rifles?|ammunition|ammo|pistols?|knives|knife|sword|"
        r"nerve agent|sarin|ricin|anthrax|nuclear|dynamite|molotov|silencer)\b"),
    "weapon, harmless": (
        r"\b(?:water|nerf|toy|glue|nail|bath|paintball|laser|museum|photo|cherry|hot glue|super ?soaker|staple|heat|caulk|"
        r"massage|fake|prop|licen[cs]e|f-?bomb|spray|price|radar|gun control)\b"),
    "crime": (
        r"\b(?:rob|steal\w*|theft|fraud\w*|counterfeit\w*|launder\w*|scam\w*|phish\w*|hack\w*|malware|ransomware|"
        r"keylogger|virus|identity theft|shoplift\w*|smuggl\w*|traffick\w*|bribe\w*|extort\w*|blackmail\w*|embezzl\w*|"
        r"forg\w+|insider trading|pirat\w+|tax evasion|ddos|sql injection|exploit\w*|hitman|assassin)\b"),
    "self-harm": (
        r"\b(?:kill myself|suicid\w*|self[- ]harm\w*|hang myself|hurt myself|end my life|cut myself|anorexi\w*|starv\w*|"
        r"overdose|die)\b"),
    "prevents": (
        r"\b(?:prevent|protect|avoid|stop|defend|detect|report|against|help (?:a|my|someone)|victims?|awareness|safe(?:ty|"
        r"ly)?|recogni[sz]e|deal with|cope|treat|support|heal|recover)\b"),
    "sex": (
        r"\b(?:sex\w*|porn\w*|nude\w*|naked|erotic|fetish|rape|molest|underage|minor|incest|prostitut\w+|genital\w*)\b"),
    "untrue": (
        r"\b(?:fake|false|misinformation|disinformation|conspirac\w+|propaganda|hoax|misleading|spread|rumou?rs?|"
        r"convinc\w+|persua\w+|denying|deny|claim\w*)\b"),
}.items()}
_PAIRED = ("person is hurt", "thing is hurt", "violent or criminal "
    "verb", "how to", "asks for text", "asks what", "history", "in a game", "fiction", "group")


# What somebody wants who names a harmful thing: the means, the thing itself, a text that does it ...
_REQUEST = re.compile(
    r"\bhow (?:do|can|could|should|would|might|to|does one)\b"
    r"|\b(?:ways?|methods?|steps?|tips|tricks?|tactics|techniques?|plan|strateg(?:y|ies)|tutorial|guide|instructions?|recipe|"
    r"manual|script|advice) (?:to|for|of|on|in)\b|\b(?:steps|ways|tools|methods)\b[^.?!]{0,20}\bto\b"
    r"|\bwhere (?:can|could|do|should|might) (?:i|you|we|one)\b|\b(?:can|could|would|will) you\b"
    r"|\b(?:can|could|should|may|might|would) i\b|\bhelp me\b|\bi(?:'d| would) like\b|\bi need\b"
    r"|\bi (?:want|wish|plan|am going) to\b|^(?:please )?(?:write|create|generate|make|draft|compose|develop|give|list|design|"
    r"provide|produce|teach|show|help|convince|publish|come up|outline|instruct|suggest|build|train|promote|plan|conduct|"
    r"exploit|encourage|justify|argue|share|recommend|formulate|devise|construct|disseminate|post|present|demonstrate|hack|"
    r"send|act|set up|elaborate|invent|offer|use|spread|persuade|assist|modify|obfuscate|determine)\b"
    r"|\bwhat(?:'s| is| are| would be)\b[^.?!]{0,60}\b(?:best|easiest|quickest|fastest|most|good|perfect|effective|cheapest|"
    r"safest)\b|\b(?:phone|social security|credit card|bank account) numbers?\b"
    r"|\b(?:home address(?:es)?|password|medical records?) (?:of|to|for)\b|'s? (?:home address|password|medical records?)\b")
# ... and who only speaks of it: of what was, what a word means, of fiction and games, of how to keep safe; or sorts a text.
_TOPIC = re.compile(
    r"^(?:who|when)\b|^(?:where|why|how|which|what(?: \w+){0,4}) (?:did|was|were|had)\b"
    r"|^(?:did|was|were|is|are|do|does|has|have|would|why)\b"
    r"|\b(?:defin(?:e|ition)|meaning|history|difference between|called|known as)\b"
    r"|\b(?:novels?|movies?|films?|tv|games?|fiction\w*|role[- ]?playing|rpg|books?|authors?|minecraft|fortnite|"
    r"counter-strike|characters?|play ?station|ps\d|xbox|medieval|recipe|halloween|dungeons)\b"
    r"|\b(?:prevent\w*|protect\w*|secur(?:e|ing) (?:my|your|our|an?|the)|recogni[sz]e|suspect|remov(?:e|ing)|defend|"
    r"stay(?:ing)? safe|victims? of|survivors?|awareness|educat\w+ (?:me|myself|people|employees|staff|users)|"
    r"avoid(?:ing)? (?:being|becoming|falling)|report(?:ing)? (?:an?|the|it|fake|scams?|online)|deal(?:ing)? with|cope|"
    r"overcome|help someone who|been (?:hacked|stolen|scammed|robbed)|detect(?:s|ing)?|spot(?:ting)?|combat|reduc(?:e|ing)|"
    r"idioms?|metaphors?|proverbs?|(?:a|the|this|following) (?:sentence|phrase|word|expression)|regular expression|regex|"
    r"algorithms?|data ?structure|reformat|validat(?:e|es|ing)|determine (?:if|whether))\b"
    r"|^(?:classify|categori[sz]e|summari[sz]e|translate|detect|identify|tell me whether|find (?:a summary|information))\b"
    r"|(?<!\w)['\"](?:\w+ ?){1,3}['\"](?!\w)")
# A password or a number that is nobody's is no secret: what is asked for must have an owner, or be taken.
_DATA = re.compile(r"\b(?:passwords?|(?:phone|telephone|social security|credit card|bank account) numbers?|"
                   r"(?:home|e-?mail) address(?:es)?|medical records?)\b")
_OWNED = re.compile(
    r"'s\b|s'|\b(?:my|his|her|their|your|its|whose) (?:\w+ ){0,3}?(?:passwords?|phone|social|credit|bank|home|address|medical|"
    r"e-?mail)|\b(?:someone|somebody|anyone|people|person|victims?|neighbou?r|celebrit\w+|another|others?|actor|ceo|"
    r"colleague)\b|\b(?:steal\w*|stole\w*|hack\w*|crack\w*|guess\w*|leak\w*|obtain\w*|access|intercept\w*|phish\w*|"
    r"harvest\w*|exfiltrat\w*|attack\w*|fake|real|buy|sell|bypass\w*|trick\w*|scam\w*|locate|look up)\b"
    r"|\b(?:numbers?|address(?:es)?|records?) (?:of|to) \w+")


def asks_for(prompt: str) -> bool:
    """Return whether a prompt that names something harmful asks for it, and does not only speak of it. English only.

    Rules: a request ("how to", "ways to", "write", "where can I") without a sign that it is a topic (a definition, the past,
    fiction and games, protection, a text to sort, a password that is nobody's). What is harmful is for the caller to know.
    """
    text = plain(prompt, READ).strip()
    if _REQUEST.search(text) is None or _TOPIC.search(text) is not None:
        return False
    return _DATA.search(text) is None or _OWNED.search(text) is not None


def cues(prompt: str) -> list[str]:
    """Return the named cues of a prompt made `plain`: what it speaks of, pairs of those, its length."""
    hit = sorted(name for name, rule in _CUES.items() if rule.search(prompt))
    pairs = [f"{a}+{b}" for a in hit for b in _PAIRED if b in hit and a != b and (a not in _PAIRED or a < b)]
    return [*hit, *pairs, f"length {min(6, len(prompt.split()) // 5)}"]


def risk(prompts: Sequence[str]) -> np.ndarray:
    """Return the (prompts,) float32 probability in [0, 1] that answering does harm. English only."""
    return judge(prompts)[0]


def judge(prompts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return (risk, category): the probability of harm and the likeliest of CATEGORIES, whatever the risk."""
    if not len(prompts):
        return np.zeros(0, np.float32), []
    bank = load("prompts")
    texts = [plain(p, READ) for p in prompts]
    x, named = bank.features(texts), heads.cues([cues(t) for t in texts])
    classes = bank.heads["category"].classes
    best = bank.probabilities("category", x, named).argmax(axis=1)
    return bank.probabilities("harm", x, named)[:, 1], [classes[i] for i in best]
