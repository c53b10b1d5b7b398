"""One question from pool to report, with fakes: no model, no key, no network. Run it: python examples/one_question.py

Each step is the function that the real stage calls for thousands of questions.
"""

import asyncio
from random import Random

from s1kit import Question, Request, ThinkingBudget
from s1kit.curate.quality import first_reason, rules_of
from s1kit.curate.selection import Candidate, pick_random
from s1kit.distill.teachers import TinyTeacher
from s1kit.engines.scripted import ScriptedEngine, Step, WordTokenizer
from s1kit.evaluate.metrics import performance, scaling
from s1kit.forcing.formats import FORMATS
from s1kit.grade import exact_match
from s1kit.pool.decontaminate import OverlapIndex
from s1kit.pool.evaluation_sets import hash_texts
from s1kit.tiny.questions import tiny_questions

# 1. The pool: a question, its solution, and an id that is a hash of its text.
question: Question = tiny_questions(1, seed=0)[0]
print(f"question {question.id}: {question.text!r} -> {question.solution}")

# 2. It may not overlap with what the model will be evaluated on.
benchmark = hash_texts("benchmark", ["How many eggs are in a basket of two dozen when three are taken out?"], "s1")
assert not OverlapIndex([benchmark], "s1").find([question.text])

# 3. The teacher thinks aloud: a trace.
trace = asyncio.run(TinyTeacher().ask(question, draw=0))
print(f"trace of {trace.thinking_tokens} words: {trace.thinking[:60]!r}... {trace.answer!r}")

# 4. A filter returns the reason to drop it, or None.
reason = first_reason(rules_of(["s1", "complete"]), trace)
print(f"quality: {reason or 'kept'}")

# 5. A seeded draw: the same seed picks the same question tomorrow.
(pick,) = pick_random([Candidate(0, question.id, question.source, "", trace.thinking_tokens)], 1, Random(0))
print(f"picked by {pick.picked_by}")

# 6. Training sees the same ids that decoding will see; the loss covers the trace and the answer.
ids = FORMATS["s1"].training_ids(WordTokenizer(), question.text, trace.thinking, trace.answer)
print(f"rendered: {len(ids.ids)} ids, {sum(ids.loss_mask)} of them in the loss")

# 7. An engine decodes under a budget. This one follows a script: it would stop at once, wrongly, unless told to wait.
engine = ScriptedEngine({"1+1?": [Step("one and one is three .", "3"), Step(" No , it is two .", "2")]})
budgets = [ThinkingBudget(2), ThinkingBudget(64), ThinkingBudget(64, num_waits=1)]
generations = list(engine.generate([Request("1+1?", budget=b, answer_tokens=8) for b in budgets]))

# 8. Grade, count, and draw the curve.
points = []
for budget, generation in zip(budgets, generations, strict=True):
    verdict = exact_match(generation.answer.removeprefix("Final Answer:"), "2").verdict
    points.append((generation.thinking_tokens, float(verdict == "correct")))
    marked = "".join(f"[{s.text}]" if s.origin == "forced" else s.text for s in generation.segments)
    print(f"{budget.max_tokens:3} tokens, {budget.num_waits} waits: {verdict:7} {marked!r}")
print(f"best {performance(points):.0%}, {scaling(points):+.1f} points per doubling of thinking")
