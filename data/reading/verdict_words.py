"""How languages say yes and no, true and false. Data for `data.reading.rules.extract_yes_no`; patterns of `regex`.

Another language is another row. English has a pattern of its own, since "not" and "is" decide there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tongue:
    """One language.

    `yes` and `no` answer by themselves: as the first word, or alone between marks. `true` and `false` are said of a
    statement, and may also stand behind it. `endings` may follow either.
    """

    yes: str
    no: str
    true: str
    false: str
    endings: str = ""
    spaces: bool = True
    """Whether the language puts spaces between words."""


TONGUES = (
    Tongue(  # Chinese, simplified and traditional
        yes="是|对|對|真|有|会|會|可以|能|应该|應該|需要|必须|必須|√|✓|✔|✅|☑",
        no="否|不|不是|不对|不對|错|錯|假|没有|沒有|无|無|不会|不會|不可以|不能|不应该|不應該|不应|不需要|不必|×|✗|✘|❌|✖|❎",
        true="(?:是|为|為)?(?:正确|正確|属实|屬實|成立|没错|沒錯|无误|無誤)|[是为為](?:对|對|真)"
        "|(?:并|並)?[不非](?:是|为|為)?(?:错误|錯誤|错|錯|假)",
        false="(?:是|为|為)?(?:错误|錯誤|虚假|虛假)|[是为為](?:错|錯|假)|说错|說錯|有误|有誤"
        "|(?:并|並)?[不非](?:是|为|為)?(?:正确|正確|真|对|對|属实|屬實|成立)",
        endings="[的地了啊呀嘛哦呢吧]{1,2}",
        spaces=False,
    ),
    Tongue(  # Japanese
        yes="はい|ええ|うん|そう|○|◯",
        no="いいえ|いえ|いや|ちがう|違う|違い|ちがい|×",
        true=r"正しい|(?:正解|本当|(?<![\p{Han}])真)(?!では|じゃ|的)|その通り|(?:間違い|誤り|偽)(?:では|じゃ)(?:ない|ありません)",
        false=r"正しくは?(?:ない|ありません)|間違い(?!では|じゃ)|間違って(?:いる|います)|誤り(?!では|じゃ)|誤って(?:いる|います)|不正解|不正確|嘘"
        r"|(?<![\p{Han}])偽(?!では|じゃ)|(?:真|本当|正解)(?:では|じゃ)(?:ない|ありません)",
        endings="(?:(?:です|ます|である|だ|でした|だった)(?:ね|よ|が)?)?(?:と(?:言え|思い)ます|と思う)?",
        spaces=False,
    ),
    Tongue(  # Korean
        yes="예|네|응|그렇습니다|그렇다|그래요|맞습니다|맞아요|맞다|있습니다|있다|가능합니다",
        no="아니요|아니오|아뇨|아니|아닙니다|아니다|없습니다|없다|불가능합니다",
        true="참|사실(?=입|이)|진실|맞습니다|맞다|맞아요|옳습니다|옳다|정확합니다|올바릅니다"
        "|(?:틀리|그르)지 않(?:습니다|다|아요)"
        "|거짓이 아(?:닙니다|니다|니에요)",
        false="거짓|틀립니다|틀렸습니다|틀리다|틀렸다|틀려요|잘못(?:되었습니다|됐습니다|입니다)|오류|부정확합니다"
        "|(?:참|사실|진실)(?:이|은)? 아(?:닙니다|니다|니에요)|(?:맞|옳|올바르|정확하)지 않(?:습니다|다|아요)",
        endings="입니다|이다|이에요|예요|임|이며|이므로|요",
    ),
    Tongue(  # Russian
        yes="да|ага|конечно|правильно",
        no="нет|неправильно",
        true=r"(?:явля[ею]тся\s+)?(?:верно|верн[аы]|верен|верн(?:ым|ой|ый|ая|ое)|истинн?(?:а|о|ым|ой|ый|ая|ое)?|правда|правдив\w+)"
        r"|не\s+(?:явля[ею]тся\s+)?(?:ложь|ложно|ложн\w+|неверно|неверн\w+)",
        false=r"(?:явля[ею]тся\s+)?(?:не\s?верно|не\s?верн[аы]|неверен|не\s?верн(?:ым|ой|ый|ая|ое)|не\s?правда|ложь"
        r"|ложн\w+|ложен|ошибочн\w+)|не\s+явля[ею]тся\s+(?:верн\w+|истинн\w+|правд\w+)|не\s?истинн\w+|не\s?правильно",
    ),
    Tongue(  # Arabic
        yes="نعم|أجل|بلى",
        no="لا|كلا",
        true="صحيح[ةا]?|صح|صواب|حقيقي[ة]?|ليست? (?:خاطئ[ةا]?|خطأ)",
        false="خطأ|خطا|خاطئ[ةا]?|خاطىء|(?:غير|ليست?) (?:صحيح[ةا]?|حقيقي[ة]?)|كاذب[ة]?|زائف[ة]?",
    ),
    Tongue(  # Thai
        yes="ใช่|มี|ได้|ควร",
        no="ไม่ใช่|ไม่|ไม่มี|ไม่ได้|ไม่ควร|เปล่า",
        true="(?:เป็น)?(?:ความ)?จริง|ถูกต้อง|ถูก(?!ต้อง)|ไม่(?:ผิด|เท็จ)",
        false="(?:เป็น)?เท็จ|ผิด|ไม่(?:เป็น)?(?:ความ)?จริง|ไม่ถูกต้อง|ไม่ถูก",
        endings="(?:ครับ|ค่ะ|คะ|นะ)",
        spaces=False,
    ),
    Tongue(  # Hindi
        yes="हाँ|हां|जी हाँ|जी हां|जी",
        no="नहीं|जी नहीं|ना",
        true="(?:सही|सत्य|सच)(?! नहीं)|गलत नहीं|ग़लत नहीं|असत्य नहीं",
        false="(?:गलत|ग़लत|असत्य|झूठ)(?! नहीं)|(?:सही|सत्य|सच) नहीं",
        endings=" (?:है|हैं|था|थी)",
    ),
    Tongue(
        "ja|jawohl|richtig",
        "nein|unrichtig",
        "wahr|korrekt|nicht falsch",
        "falsch|unwahr|nicht (?:wahr|richtig|korrekt)",
    ),
    Tongue("oui", "non", "vraie?", "fausse|faux|pas vraie?"),
    Tongue(
        "sí",
        "no",
        "verdader[ao]|ciert[ao]|correct[ao]",
        "fals[ao]|incorrect[ao]|no es (?:verdad|ciert[ao]|correct[ao])",
    ),
    Tongue("sì|sim", "não", "ver[ao]|corrett[ao]|verdadeir[ao]", "non è ver[ao]|errad[ao]|não é verdadeir[ao]"),
)

TRUE_WORDS = "true|correct|accurate|factual|right"
FALSE_WORDS = "false|incorrect|untrue|inaccurate|wrong"
YES_WORDS, NO_WORDS = "yes|yeah|yep|yup|affirmative", "no|nope|nah"
BE = (
    r"(?:(?<![\w'])(?:is|are|was|were|isn't|aren't|wasn't|weren't|ain't|seems?|appears?(?:\s+to\s+be)?|remains?|sounds?"
    r"|looks?|must\s+be|ha(?:s|ve)\s+to\s+be|to\s+be|cannot\s+be|can't\s+be|can\s+not\s+be|could(?:n't|\s+not)\s+be)|'s|'re|[是为為])"
)
THING = "(?:statement|claim|assertion|assumption|description|conclusion)"
NOT = r"(?:not|never|no\s+longer|hardly|anything\s+but|far\s+from(?:\s+being)?)"
SURELY = (
    r"(?:definitely|almost\s+certainly|certainly|clearly|indeed|actually|really|also|therefore|thus|probably|most|very|likely|obviously"
    r"|in\s+fact|just|absolutely|completely|entirely|totally|undoubtedly|even|at\s+all|factually|logically|generally)"
)
HEDGES = (
    r"(?:not\s+(?:entirely|completely|fully|quite|totally|necessarily|always|strictly|exactly|wholly|absolutely|100\s?%)"
    r"|partly|partially|half|somewhat|mostly|possibly|maybe|perhaps|sometimes|(?P<both>neither|both))"
)
UNCLEAR = (
    "(?:部分|基本|不完全|不全|不太|大致|大体|可能|也许|或许|未必|不一定)上?是?(?:正确|正確|对|對|真|属实|错误|錯誤|错|錯|假)|"
    "是因[为為]|是否|是不是|对不对|對不對|对错|真假|正误|是非|有没有|会不会|能不能|可不可以|是吗|对吗|对吧|正确与否|正确吗"
    r"|no\s+(?:idea|clue)"
)
"""What looks like a verdict and is none."""

OR = r"\s*(?:\bor\b|/|\||还是?|還是?|或[者是]?|または|か|또는|или|أو|หรือ|या|oder|ou|o)\s*(?:is\s+it\s+)?"
AND = r"\s*(?:\band\b|&|\bnor\b|和|与|又|且|と|и|و|และ|और)\s*"
"""What stands between two verdicts that are named as a pair."""
BECAUSE = (
    r"because|since|as|given|due|based|when|while|for|in|here|by|at|according|and|but|or|although|though|so|considering|rather|instead|"
    r"потому|так\s+как|поскольку|ведь|لأن|بسبب|क्योंकि|왜냐하면|weil|denn|da|car|parce|porque|ya|pois|perché"
)
BECAUSE_UNSPACED = "因为|因為|由于|由於|因|なぜなら|เพราะ|เนื่องจาก"
ANSWER = (
    r"\b(?:answer|verdict)\s*(?:is|:|=|would\s+be|should\s+be)?\s*:?\s*|(?:答案|回答|答え|答)(?:应?该?是|应?为|は|:|:)?\s*:?\s*"
    r"|(?:ответ|정답은|정답|답은|답|الجواب|الإجابة|คําตอบ|उत्तर|antwort|réponse|respuesta|resposta|risposta)"
    r"\s*(?:هو|هي|คือ|है|ist|est|es|è|é)?\s*[:—–-]?\s*"
)
STATEMENT = (
    r"\b(?:statement|claim|assertion|proposition|sentence|description|hypothesis|conclusion|answer|assumption|premise)s?\b"
    r"|说法|說法|陈述|陳述|描述|表述|命题|命題|判断|判斷|句|结论|結論|観察|記述|文は|진술|문장|설명|утверждени|предложени"
    r"|العبارة|البيان|ข้อความ|कथन|वाक्य|aussage|affirmation|afirmación|affermazione|afirmação"
)
"""What a verdict is about."""
ITSELF = (
    r"^\W*(?:(?:well|so|and|but|hence|thus|therefore|i\s+(?:think|believe|would\s+say)|no|yes)\W+)*(?:that\s+)?"
    r"(?:it|that|this|which)\s*$|^\W*(?:这|這|那|它|これは|それは|이것은|это|эта|هذا|هذه|यह|das|c'|esto|questo|isso)\s*$"
)
CONDITION = (
    r"^\W*(?:if|whether|unless|assuming|如果|假如|若|もし|만약|если|إذا|अगर|wenn|si|se)\b"
    r"|\b(?:if|whether)\s+(?:it|this|that|the\s+\w+)\s*$"
    r"|\b(?:doubt\w*|unlikely|unclear|unsure|uncertain|nothing|none|only|opposite|reverse|contrary)\b"
    r"|\bnot\s+(?:clear|sure|certain|known)\b|\b(?:cannot|can't|can\s+not|unable\s+to|hard\s+to)\s+(?:tell|determine|say)\b"
    r"|不(?:能)?确定|无法|難以|难以"
)
"""What keeps a clause from saying that something is true."""
DENIED = (
    r"\b(?:do\s+not|don't|cannot|can't|can\s+not|would\s+not|wouldn't)\s+(?:think|believe|say|agree|consider|conclude|find)\b"
    r"|\bnot\s+the\s+case\s+that\b|不认为|不認為|不觉得|不覺得|не\s+(?:думаю|считаю)"
)
CONJUNCTION = "say|and|or|but|so|then|therefore|thus|hence"
CONJUNCTION_UNSPACED = "所以|因此|故|那么|认为|認為|觉得|覺得|判断为|应为|よって"
