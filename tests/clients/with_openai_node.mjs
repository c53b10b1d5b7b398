// OpenAI's own client for Node: chat, streams, the Responses API, structured output, errors.

import assert from "node:assert";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "Tom has 3 apples and buys 4. How many has he?" }];

const whole = await client.chat.completions.create({ model, messages, thinking_token_budget: 9, num_waits: 1 });
assert(whole.choices[0].message.content && whole.choices[0].message.reasoning);
assert(whole.usage.completion_tokens_details.reasoning_tokens <= 9);
let text = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) text += chunk.choices[0]?.delta?.content ?? "";
assert(text);
const final = await client.chat.completions.stream({ model, messages, thinking_token_budget: 9 }).finalChatCompletion();
assert(final.choices[0].message.content);
const Sum = z.object({ total: z.number().int(), parts: z.array(z.number().int()).max(3) });
const parsed = await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(Sum, "sum"), max_tokens: 400, thinking_token_budget: 9 });
Sum.parse(parsed.choices[0].message.parsed);
const response = await client.responses.create({ model, input: "2 + 2?", reasoning: { effort: "low" } });
assert(response.output_text && response.output.some((item) => item.type === "reasoning"));
const events = [];
for await (const event of await client.responses.create({ model, input: "2 + 2?", stream: true })) events.push(event.type);
assert.equal(events.at(-1), "response.completed");
await assert.rejects(client.chat.completions.create({ model, messages, min_thinking_tokens: 1e9 }), (error) => error.status === 400 && error.param === "min_thinking_tokens");
