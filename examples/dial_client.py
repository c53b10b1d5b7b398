"""A thinking dial from OpenAI's own client: python examples/dial_client.py [BASE_URL]

Start a server first: `s1kit serve`, or `s1kit serve --upstream http://...` in front of your own. Asks one question
under several budgets and prints what each gave, then streams one reply with its forced tokens marked.
"""

import sys

from openai import OpenAI

QUESTION = "What is the last digit of this sum?\n" + "\n".join(
    [*(f"#{place} {digit}" for place, digit in enumerate([1, 5, 2, 7, 6, 3, 7, 2, 1, 4, 9, 7], start=1)), "#13 end"]
)
DIALS = {
    "no thinking": {"thinking_token_budget": 0},
    "at most 40": {"thinking_token_budget": 40},
    "as it likes": {},
    "one Wait": {"num_waits": 1},
    "at least 150": {"min_thinking_tokens": 150},
    "exactly 64": {"min_thinking_tokens": 64, "thinking_token_budget": 64},
}


def main() -> None:
    base_url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/v1"
    with OpenAI(base_url=base_url, api_key="none") as client:
        model = client.models.list().data[0].id
        messages = [{"role": "user", "content": QUESTION}]
        for name, fields in DIALS.items():
            reply = client.chat.completions.create(model=model, messages=messages, extra_body=fields)
            spent = reply.usage.completion_tokens_details.reasoning_tokens
            print(f"{name:13} {spent:4} thinking tokens   {reply.choices[0].message.content!r}")
        print("\nstreamed, forced text in brackets:")
        stream = client.chat.completions.create(
            model=model, messages=messages, stream=True, extra_body={"num_waits": 1}
        )
        for chunk in stream:
            for choice in chunk.choices:
                text = getattr(choice.delta, "reasoning", None) or choice.delta.content or ""
                is_forced = getattr(choice, "s1kit", {}).get("origin") == "forced"
                print(f"[{text}]" if is_forced and text else text, end="", flush=True)
        print()


if __name__ == "__main__":
    main()
