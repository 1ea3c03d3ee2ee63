"""How texts name an option: the words before and behind its letter, by language. Data for `data.reading.rules`.

Patterns of `re`. A letter and a word of another script are separated by a space before they are read: "选B" as "选 B".
"""

from __future__ import annotations

IS = (
    r"\b(?:\s*(?:is|are|was|were|would\s+be|should\s+be|must\s+be|ist|est|es|sería|è|é)\b"
    r"|\s*(?:应该?|應該?|是|为|為|选|選|は|은|는|이|가|هو|هي|คือ|है|[:=→–—-]+>?))*"
)
OPTION = (
    r"option|choice|letter|选项|選項|選択肢|선택지|옵션|보기|вариант|опция|الخيار|ตัวเลือก|ข้อ|विकल्प"
    r"|opción|opzione|opção"
)
FINAL = r"\bfinal\s+(?:answer|choice)|最[终終]答案|最終的な答え|최종\s*(?:답변?|정답)|окончательный\s+ответ"
STATED = (
    r"\b(?:answer|ans|(?:correct|right|best)\s+(?:option|choice|one)"
    r"|i(?:\s+would|\s+will|\s+am\s+going\s+to|['’]d|['’]ll)?\s+(?:choose|pick|select|go\s+with|go\s+for|opt\s+for|say))"
    r"|答案|[选選][择擇]?|答え|正解|回答|정답|답|ответ|выбираю|الإجابة|الإجابة\s+الصحيحة|الجواب|คําตอบ|ตอบ|उत्तर"
    r"|\b(?:antwort|réponse|respuesta|resposta|risposta)"
)
DENIED = (
    r"(?:\b(?:not|never|neither|nor|except|than|instead\s+of)|n['’]t|不是?|非|не|ليست?)"
    r"(?:\s+(?:choose|pick|select|go\s+with|say|be|the|an?|(?:correct|right)\s+answer))*"
    rf"\s*(?:{OPTION}|[选選][择擇]?)?\s*[(\['‘]*$"
)
"""What stands before a letter that is ruled out: "not B", "不选B"."""
DENIED_BEHIND = (
    r"[\s)\].]*(?:(?:is|was|seems|would\s+be)(?:n['’]t\b|\s+(?:not|never|wrong|incorrect|false|invalid|impossible|out)\b)"
    r"|can(?:not|['’]t)\b|(?:选项|選項|是|は|은|는|이|가)*\s*(?:不对|不對|不是|不正确|不正確|错|錯|間違い|誤り|正しくな|틀|неверн|неправильн|خط|ผิด|गलत))"
)
"""What stands behind a letter that is ruled out: "A is wrong", "A不对"."""
ALSO = (
    r"(?:[,、/&+;|→–—-]|\b(?:and|or|to|through|vs|versus|und|oder|et|ou|y|o|e)\b"
    r"|和|或者?|与|與|及|跟|と|または|と|와|과|또는|или|и|أو|و|และ|หรือ|और|या)"
)
"""What stands between two letters that are both named."""
BEHIND = r"is|was|because|since|as|for|which|and|or|but|with|would|seems|looks|instead|to(?=\s+[A-Z]\b)"
"""Words that may follow an option's letter where an article is out of the question."""
PILLAR = r"柱"
"""A car has an A pillar ("A柱")."""
NO_NOUN = (
    r"(?:The|There|It|This|These|Those|They|We|You|No|None|Not|Yes|In|On|At|To|From|Both|All|Because|Since|Keep|Slow"
    r"|Accelerate|Decelerate|Proceed|Continue|Maintain|Go|Steer|Merge|Wait|Follow|Remain|Stay|Reduce|Increase|Make|Do"
    r"|Turn\s+(?:left|right|around)|(?!(?:Build|Cross|Park|Warn|Rail|Cloth|Boe|R|K|W|Th|Str|Spr|Sw)ing\b)[A-Z][a-z]+ing)\b"
)
"""Words with a capital that no article stands before, so that the "A" before them is an option: "A Going ahead"."""
