"""Lemmas, and the word lists of the meso level: function, light and code words, verbs, names.

The lists are plain knowledge of English, written down here: what these words do in an instruction,
not how often they occur. Other languages have no lists; there the bounds on how many samples may
hold a unit do the work.
"""

from __future__ import annotations

from collections.abc import Callable


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Skipped inside a phrase: "write a short story" and "write your short story" hold the same unit.
TRANSPARENT = _words(
    "a an the this that these those my your his her its our their some any each every another "
    "such given following"
)

#: Joins two nouns inside a phrase: "area of a rectangle".
JOINERS = _words("of")

#: A verb or a clause follows: says that the next word is no noun.
BEFORE_VERBS = _words(
    "to will would can could should shall may might must cannot not never i you he she it we "
    "they who let please do does did be been am is are was were"
)

#: A noun follows, more often than not.
PREPOSITIONS = _words(
    "in on at by for with about against between into through during from onto within without "
    "toward towards among amongst across along behind beside besides beyond despite near per via "
    "versus throughout underneath"
)

_MORE_FUNCTION = _words(
    "me him us them myself yourself himself herself itself ourselves themselves mine yours hers "
    "ours theirs what which whom whose where when why how whatever whichever whoever and or but "
    "nor so yet if then else than because since although though unless until while whereas "
    "whether as before after above below up down out off over under again further once upon "
    "around except vs inside outside being has have had having doing done get gets got getting "
    "gotten become becomes became there here both few more most other others no only own same too "
    "very just also even ever still already always often sometimes usually rarely almost quite "
    "rather really perhaps maybe now soon later ago instead however therefore thus hence "
    "otherwise meanwhile moreover furthermore additionally all many much several enough either "
    "neither one ones none something anything nothing everything someone anyone everyone nobody "
    "everybody somebody anybody somewhere anywhere everywhere yes ok okay oh hi hello hey dear "
    "thanks thank sorry mr mrs ms dr sir etc eg ie two three four five six seven eight nine ten "
    "eleven twelve thirteen fifteen twenty thirty forty fifty sixty hundred thousand million "
    "billion dozen half twice first second third fourth fifth last next ain aren couldn didn "
    "doesn don hadn hasn haven isn mightn mustn needn shan shouldn wasn weren won wouldn gonna "
    "wanna lol im dont according due able unable likely apart regardless including based using st "
    "nd rd th vol pp al"
)
#: Ends a phrase. No unit begins, ends or goes on across one of these.
FUNCTION = BEFORE_VERBS | PREPOSITIONS | _MORE_FUNCTION

#: May stand inside a phrase, says nothing alone; nor does a phrase made of nothing else.
LIGHT = _words(
    "able accept access accord account accurate accurately achieve act actual actually add "
    "additional advance advantage affect affirmative afternoon afterwards agree ahead aim allow "
    "alone alright amount answer anyway apparently appear apply approach appropriate arrange "
    "arrive ask asked aspect assist assistant assume attempt author available avoid aware away "
    "back bad base basic basically bear beautiful become began begin begun believe belong "
    "beneficial benefit best bet better big bit bottom boy break bring brought bunch busy buy "
    "call called came capable care carry case catch cause cents certain certainly chance change "
    "character check children choice choose class clear clearly close combine come command common "
    "commonly complete completely concern condition confirm consider considered consist console "
    "constantly contain content context continue contribute cool correct correctly couple course "
    "cover crazy create cup current currently cut dad day days dead deal dear decide deep define "
    "definitely depend describe description design desire detail detailed determine develop "
    "difference different difficult direct directly discover discuss display doctor document "
    "dollars double doubt draw drop dry due early easily easy effect effective effectively eight "
    "emphasize empty enable enabled encourage end enjoy ensure enter entire entirely equal "
    "especially essential evening event eventually exact exactly example excellent exist expect "
    "experience explain explanation explore express extra extremely eye face fact fail fair fall "
    "false familiar famous far fast favorite feature feel feeling feet felt few field figure fill "
    "final finally find fine finish fit fix follow following foot force form former forward found "
    "free frequently fresh friend full fully fun future gain general generally generate girl give "
    "glad go goal gone good great greatly group grow guess guide guideline guy hand handle happen "
    "happy hard hardly hate have head hear heavy held help helpful high highly hint hit hold home "
    "hope hot hour hours huge idea ideal identify imagine immediately impact important improve "
    "inch inches include incorrect increase incredible indeed indicate individual information "
    "initial input insert instance instruction intend interest interested interesting involve "
    "issue item job join keep kept key kilometer kind know known lack large largely last lastly "
    "late lately latter laugh lead learn leave led left length less let level lie life lift like "
    "line list literally little live local located log logic logical long look loop lose lot loud "
    "love lovely low lucky made main mainly major make man manage mark match matter max maximum "
    "mean meaning meant media medium meet member men mention mere merely meter middle mile "
    "million min mind minimum minute minutes miss mistake modern mom moment month months morning "
    "mostly move multiple name named natural nearly necessary need negative new nice night "
    "nonsense nonsensical nope normal normally notable note notice number numerous object obtain "
    "obvious obviously occur odd offer old open opinion opportunity opposite option order "
    "original output overall overview page pair paragraph paraphrase paraphrased part particular "
    "particularly partly pass passage past patient pay people percent percentage perfect "
    "perfectly perform period person personal perspective phrase pick piece place plan plausible "
    "play plenty plus point poor popular position positive possess possibility possible possibly "
    "potential pound practice prefer prepare present pretty prevent previous previously primarily "
    "print private probably problem proceed process produce proper properly protected prove "
    "provide public pull purpose push put quality query question quick quickly quiet quote raise "
    "random range rare rate reach read reader ready real realize reason reasonable receive recent "
    "recently recognize recommend reduce refer reference regard regular relate related relatively "
    "relevant remain remember remind remove repeat replace reply report represent require "
    "requirement resource respect respective respectively respond response rest result return "
    "reveal right role root rule run sad safe said sample say scale scenario scene search second "
    "section see seek seem seen select sell send sense sentence separate series serious seriously "
    "serve set share short show side sign significant significantly silly similar similarly "
    "simple simply single sit situation six size slightly slow slowly small smile snippet solid "
    "solution soon sort sound space specific specifically specify spend spot spread stand "
    "standard start state statement static stay stem step stick stop store strong structure stuff "
    "stupid style sub subject succeed success successful suddenly suffer suggest suit suitable "
    "sum support suppose sure surely surprise surround suspect take taken talk tall task teach "
    "tell ten tend tendency term terrible test text theme thick thing think thirty thought throw "
    "time times tiny tip tired title today together told tomorrow tonight took tool top topic "
    "total totally touch tough track trip true truly truth try turn type typical typically "
    "ultimately undergo understand unfortunately unique unit unlike use used useful user usual "
    "valid value variable various vary verify version view visible visit wait walk want watch way "
    "wear week weekend weeks weird well went white whoever whole wide widely wise wish woman "
    "women wonder wonderful word work world worry worth write wrong yeah year years yep yesterday "
    "young zero"
)

#: What an instruction tells to do. With its object it is a unit ("write story"), alone it is not.
TASK_VERBS = _words(
    "add analyze answer arrange assess build calculate categorize change choose classify code "
    "combine compare compile complete compose compute conclude construct convert correct count "
    "craft create critique debug decide deduce define delete derive describe design detect "
    "determine develop devise diagnose discuss display divide draft draw edit estimate evaluate "
    "examine exchange explain expand explore extract fill find fix format formulate generate give "
    "group guess highlight identify illustrate imagine implement improve infer insert invent list "
    "locate make match merge modify multiply name optimize order organize outline output "
    "paraphrase parse perform plan predict prepare print produce pronounce propose prove provide "
    "rank rate read rearrange recommend reduce remove rephrase replace research respond reverse "
    "review revise rewrite rhyme search select send shorten simplify simulate sketch solve sort "
    "specify spell state subtract suggest sum summarize summarise tell trace transform translate "
    "update use verify visualize write"
)

#: Names of two characters that are topics all the same.
SHORT_NAMES = _words("c# f# c++ ai tv uk eu un dj pc")

#: Words of program text that name no topic: keywords, types, stock identifiers, markup.
CODE = _words(
    "abs amp arg args argv arr async await bar baz bool boolean br cdot char cin com const cout "
    "def del dict div elem elif endfor endif endl env err expr extends float foo frac func "
    "getelementbyid gt href http https idx img impl init innerhtml instanceof int iostream kwargs "
    "lambda lbrace len li lrb lt malloc math namespace nan nbsp net nil noinput null nullptr num "
    "nums obj ol org param params parseint pre printf println ptr pub px quot ref req res ret rgb "
    "rrb self sizeof span sqrt src std stdio str strlen struct sub sys tbody td temp thead tmp "
    "toolformer tr typedef typeof ul undefined usd util val var vec void www xs"
)

#: Given names stand for no topic: word problems and stories draw them at random.
GIVEN_NAMES = _words(
    "aaron abby abigail adam addison adrian agatha aidan al alan albert alec alex alexander "
    "alexandra alexis alfred ali alice alicia alisha allan allen allison alyssa amanda amelia amy "
    "ana andre andrea andrew andy angela angelina angie ann anna anne annie anthony antonio "
    "arnold arthur ashley audrey austin ava bailey barbara barry beatrice becca becky bella ben "
    "benjamin bernard bernie beth bethany betty beverly bill billy blake bob bobby bonnie brad "
    "bradley brandon brenda brendan brett brian brianna bridget brittany brooke bruce bryan caleb "
    "calvin cameron camila candice carl carla carlos carmen carol caroline carrie carson carter "
    "casey cassie catherine cathy cecilia charles charlie charlotte chelsea cheryl chloe chris "
    "christian christina christine christopher cindy claire clara clark claude claudia clayton "
    "cody colin connie connor cooper corey courtney craig cristina curtis cynthia dale dan dana "
    "daniel danielle danny darnell darren darryl dave david dean debbie deborah debra denise "
    "dennis derek dexter diana diane diego dillon dominic don donald donna doris dorothy doug "
    "douglas drew dylan earl ed eddie edgar edith eduardo edward edwin eileen elaine eleanor "
    "elena eli elijah elizabeth ella ellen ellie emilia emily emma emmanuel eric erica erik erika "
    "erin ernest ethan eugene eva evan evelyn felix fernando finn fiona frances francis francisco "
    "frank frankie fred freddie frederick gabriel gabriela gabrielle gail gary gavin gemma gene "
    "george gerald gina glen glenn gloria gordon grace grant greg gregory gretchen gwen hailey "
    "haley hank hannah harold harper harriet harris harry harvey heather hector heidi helen "
    "helena henry herbert herman holly howard hugh hugo ian ingrid irene isaac isabel isabella "
    "isaiah ivan jack jackie jacob jacqueline jake james jamie jan jane janet janice jared "
    "jasmine jason jay jayden jean jeff jeffery jeffrey jen jenna jennifer jenny jeremy jerome "
    "jerry jess jesse jessica jessie jill jim jimmy jo joan joann joanna joanne joe joel joey "
    "john johnny johnson jon jonathan jones jordan jorge jose joseph josh joshua josie joy joyce "
    "juan juanita judith judy julia julian juliana julie juliet julio justin kaitlyn karen karl "
    "kate katherine kathleen kathryn kathy katie katy kayla keith kelly kelsey ken kendall kendra "
    "kenneth kenny kent kevin kim kimberly kirk kristen kristin kurt kyle lance larry laura "
    "lauren laurie lawrence leah lee lena leo leon leonard leroy leslie lewis liam lillian lily "
    "linda lindsay lindsey lisa liz logan lois lola lorenzo lori louis louise lucas lucia lucy "
    "luis luke luna lydia lynn mabel mackenzie madeline madison maggie malcolm manuel marcia "
    "marco marcus margaret maria mariah marie marilyn mario marissa marjorie marlene marsha "
    "martha martin marvin mary mason matilda matt matthew maureen maurice max maya megan melanie "
    "melinda melissa melvin mercedes meredith mia michael michelle miguel mike mildred milly "
    "miranda mitch mitchell molly monica morgan nancy naomi natalia natalie natasha nathan "
    "nathaniel ned neil nell nicholas nick nicole nina noah noel nora noriko norma norman oliver "
    "olivia omar oscar owen pam pamela pat patricia patrick patty paul paula pedro peggy penny "
    "perry pete peter phil philip phillip phoebe phyllis piper preston quentin quinn quinton "
    "rachel ralph ramon randall randy raul ray raymond rebecca regina remy rhonda ricardo richard "
    "rick ricky riley rita rob robbie robert roberta roberto robin rod roger roland ron ronald "
    "ronnie rosa rosalie rosie ross roxanne roy ruben russell ruth ryan sabrina sadie sally sam "
    "samantha sammy samuel sandra sandy sara sarah sasha scott sean sebastian sergio seth shane "
    "shannon sharon shawn sheila shelby shelly sherry shirley sidney simon skylar smith sofia "
    "sonia sophia sophie spencer stacey stacy stan stanley stella stephanie stephen steve steven "
    "stewart stuart sue susan susie suzanne sylvia tamara tammy tanya tara taylor ted terence "
    "teresa terrance terrell terry thelma theo theodore theresa thomas tiffany tim timmy timothy "
    "tina toby todd tom tommy toni tony tracey tracy travis trevor trinity troy tyler vanessa "
    "vera vernon veronica vicki vicky victor victoria vince vincent viola vivian wade wallace "
    "walter wanda warren wayne wendy wesley whitney wilbur will william willie wilma winston "
    "xavier yolanda yvonne zach zachary zack zoe"
)


def lemmatizer(language: str) -> Callable[[str], str]:
    """Return a function from a lower-case word to its lower-case lemma.

    `language` is one of simplemma's codes, or `none`, which leaves words as they are. The
    dictionaries come inside that package.
    """
    if language == "none":
        return str
    import simplemma

    def lemma(word: str) -> str:
        return str(simplemma.lemmatize(word, lang=language)).lower()

    return lemma
