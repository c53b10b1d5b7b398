// The AI SDK over @ai-sdk/openai-compatible (chat) and @ai-sdk/openai (the Responses API): text, streams and objects.

import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, streamText, tool } from "ai";
import { z } from "zod";

const [url, name, hasTools] = process.argv.slice(2);
const dial = createOpenAICompatible({ name: "dial", baseURL: url, apiKey: "none", supportsStructuredOutputs: true, includeUsage: true });
const model = dial(name);
const providerOptions = { dial: { thinking_token_budget: 16, num_waits: 1 } };
const prompt = "Tom has 3 apples and buys 4. How many has he?";

const whole = await generateText({ model, prompt, providerOptions, maxRetries: 0 });
assert(whole.text && whole.reasoningText, JSON.stringify(whole.response.body));
assert(whole.usage.reasoningTokens > 0 && whole.usage.reasoningTokens <= 16, JSON.stringify(whole.usage));

const kinds = new Set();
const streamed = streamText({ model, prompt, providerOptions, maxRetries: 0, onError: ({ error }) => { throw error; } });
for await (const part of streamed.fullStream) kinds.add(part.type);
assert(kinds.has("reasoning-delta") && kinds.has("text-delta"), [...kinds].join());
assert((await streamed.usage).reasoningTokens <= 16);

const effort = await generateText({ model, prompt, providerOptions: { dial: { reasoningEffort: "low" } }, maxOutputTokens: 200, maxRetries: 0 });
assert(effort.text);

const schema = z.object({ name: z.string().max(40), legs: z.number().int(), size: z.enum(["small", "large"]) });
const { object } = await generateObject({ model, schema, prompt: "A cat is small, with four legs. Describe it.", providerOptions, maxOutputTokens: 300, maxRetries: 0 });
schema.parse(object);
console.log("object", JSON.stringify(object));

const responses = createOpenAI({ baseURL: url, apiKey: "none" }).responses(name);
const reply = await generateText({ model: responses, prompt, maxOutputTokens: 200, maxRetries: 0 });
assert(reply.text, JSON.stringify(reply));
const events = new Set();
for await (const part of streamText({ model: responses, prompt, maxOutputTokens: 200, maxRetries: 0 }).fullStream) events.add(part.type);
assert(events.has("text-delta") && !events.has("error"), [...events].join());
const again = await generateObject({ model: responses, schema, prompt: "Describe a cat.", maxOutputTokens: 300, maxRetries: 0 });
schema.parse(again.object);

if (hasTools) {
  const add = tool({ description: "add two numbers", inputSchema: jsonSchema({ type: "object", properties: { a: { type: "integer" }, b: { type: "integer" } }, required: ["a", "b"], additionalProperties: false }) });
  const called = await generateText({ model, prompt: "Add 2 and 3.", tools: { add }, toolChoice: "required", providerOptions, maxOutputTokens: 200, maxRetries: 0 });
  assert.equal(called.toolCalls[0].toolName, "add");
  console.log("call", JSON.stringify(called.toolCalls[0].input));
}
