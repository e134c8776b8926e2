// Asks a server through the npm package `openai`: client.mjs BASE_URL API_KEY
import assert from "node:assert/strict";
import OpenAI from "openai";

const [base, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const settings = {
  model,
  max_tokens: 24,
  messages: [
    { role: "system", content: "You answer in one short sentence." },
    { role: "user", content: "What is the capital of France?" },
  ],
};
const create = more => client.chat.completions.create({ ...settings, ...more });

const whole = await create({ temperature: 0 });
const text = whole.choices[0].message.content;
assert.match(text, /Paris/);
assert.equal(whole.choices[0].finish_reason, "stop");
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
assert.ok(whole.usage.completion_tokens_details.accepted_prediction_tokens >= 0);
assert.ok((await create({ temperature: 0 })).usage.prompt_tokens_details.cached_tokens > 20);

let streamed = "", last;
for await (const chunk of await create({ temperature: 0, stream: true, stream_options: { include_usage: true } })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
assert.equal(streamed, text);
assert.deepEqual(last.choices, []);
assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
assert.equal(await client.chat.completions.stream({ ...settings, temperature: 0 }).finalContent(), text);

// Leaving a stream cancels it.
for await (const _ of await create({ stream: true, max_tokens: 2000, ignore_eos: true })) break;

const sampled = async seed => (await create({ temperature: 1.2, seed })).choices[0].message.content;
assert.equal(await sampled(7), await sampled(7));
const stopped = await create({ temperature: 0, stop: "Paris" });
assert.equal(stopped.choices[0].message.content, text.slice(0, text.indexOf("Paris")));
assert.equal((await create({ max_tokens: 2 })).choices[0].finish_reason, "length");
const completion = await client.completions.create({ model, prompt: "One, two, three,", max_tokens: 4, temperature: 0 });
assert.match(completion.choices[0].text, /^ four/);
const response = await client.responses.create({
  model, temperature: 0, instructions: settings.messages[0].content, input: settings.messages[1].content,
});
assert.equal(response.output_text, text);

const refused = (error, status, param) => raised => {
  assert.ok(raised instanceof error, raised);
  assert.deepEqual([raised.status, raised.param], [status, param]);
  return true;
};
await assert.rejects(create({ temperature: -1 }), refused(OpenAI.BadRequestError, 400, "temperature"));
await assert.rejects(create({ model: "gpt-4" }), refused(OpenAI.NotFoundError, 404, "model"));
const wrong = new OpenAI({ baseURL: `${base}/v1`, apiKey: "wrong", maxRetries: 0 });
await assert.rejects(wrong.models.list().then(), refused(OpenAI.AuthenticationError, 401, null));
console.log("openai for Node: passed");
