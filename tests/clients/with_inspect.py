"""inspect_ai: an evaluation over the OpenAI-compatible provider, with reasoning and usage."""

import os
import sys
import tempfile

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate


def main(url: str, model: str) -> None:
    os.environ |= {"DIAL_API_KEY": "none", "DIAL_BASE_URL": url}
    task = Task(
        dataset=[Sample(input=f"{n} + 2?", target=str(n + 2)) for n in range(4)], solver=generate(), scorer=includes()
    )
    with tempfile.TemporaryDirectory() as folder:
        for config in (
            GenerateConfig(reasoning_effort="low"),
            GenerateConfig(extra_body={"thinking_token_budget": 20}, temperature=0.5, seed=1, max_tokens=200),
        ):
            (log,) = eval(
                task,
                model=f"openai-api/dial/{model}",
                log_dir=folder,
                display="none",
                **config.model_dump(exclude_none=True),
            )
            assert log.status == "success", log.error
            (usage,) = log.stats.model_usage.values()
            assert usage.reasoning_tokens, usage
            content = log.samples[0].output.choices[0].message.content
            assert {part.type for part in content} == {"reasoning", "text"}, content


main(sys.argv[1], sys.argv[2])
