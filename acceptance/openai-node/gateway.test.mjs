// The openai SDK for Node against the gateway, for all vendors behind it.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const URL = `${process.env.XROUTER_ACCEPTANCE_URL}/v1`;
const KEY = process.env.XROUTER_ACCEPTANCE_KEY;
const [GIGACHAT, TBANK, YANDEX, HOSTED, MTS] = [
  "gigachat/GigaChat-2",
  "tbank/t-pro-it-2.1",
  "yandex/yandexgpt",
  "yandex/qwen3-235b-a22b-fp8",
  "mts/t-pro-it-2.1",
];
const CHATTERS = [GIGACHAT, TBANK, YANDEX, HOSTED, MTS];
const EMBEDDERS = ["gigachat/Embeddings", "mts/bge-m3", "tbank/bge-m3", "yandex/text-search-doc"];
const PAINTERS = [GIGACHAT, "tbank/qwen-image", "yandex/yandex-art"];
const RERANKERS = ["mts/bge-reranker-v2-m3", "tbank/bge-reranker-v2-m3"];
const TOOL = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const client = new OpenAI({ baseURL: URL, apiKey: KEY, maxRetries: 0, timeout: 30_000 });
const ask = (content) => [{ role: "user", content }];

for (const model of CHATTERS) {
  test(`a chat: ${model}`, async () => {
    const { data, response } = await client.chat.completions
      .create({ model, messages: ask("echo: Привет"), temperature: 0 })
      .withResponse();
    assert.equal(data.choices[0].message.content, "Привет");
    assert.equal(data.model, model);
    assert.equal(response.headers.get("x-generation-id"), data.id);
    assert.equal(data.usage.completion_tokens, 2);
  });

  test(`a stream with its usage: ${model}`, async () => {
    const stream = await client.chat.completions.create({
      model,
      messages: ask("say 25 words"),
      stream: true,
      stream_options: { include_usage: true },
    });
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    const last = chunks.pop();
    assert.deepEqual(last.choices, []);
    assert.ok(last.usage.completion_tokens > 0);
    const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
    assert.equal(text.trim().split(/\s+/).length, 25);
    assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  });

  test(`a tool, there and back: ${model}`, async () => {
    const messages = ask("What is the weather?");
    const asked = await client.chat.completions.create({ model, messages, tools: [TOOL] });
    const { message, finish_reason } = asked.choices[0];
    assert.equal(finish_reason, "tool_calls");
    const [call] = message.tool_calls;
    assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ["city"]);
    messages.push(message, { role: "tool", tool_call_id: call.id, content: "plus 27" });
    const last = await client.chat.completions.create({ model, messages, tools: [TOOL] });
    assert.match(last.choices[0].message.content, /plus 27/);
  });

  test(`a completion, whole and streamed: ${model}`, async () => {
    const whole = await client.completions.create({ model, prompt: "echo: hi" });
    assert.equal(whole.choices[0].text, "hi");
    let text = "";
    for await (const chunk of await client.completions.create({ model, prompt: "echo: hi there", stream: true })) {
      text += chunk.choices[0].text;
    }
    assert.equal(text, "hi there");
  });

  test(`a vendor's failure: ${model}`, async () => {
    await assert.rejects(
      client.chat.completions.create({ model: `${model}+status-500`, messages: ask("hi") }),
      (error) => error instanceof OpenAI.InternalServerError && error.status === 502,
    );
  });

  test(`an error inside a stream: ${model}`, async () => {
    const stream = await client.chat.completions.create({
      model: `${model}+reset-2`,
      messages: ask("say 30 words"),
      stream: true,
    });
    await assert.rejects(async () => {
      for await (const _ of stream);
    }, OpenAI.APIError);
  });
}

test("our own errors", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: TBANK, messages: ask("hi"), temperature: 3 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature",
  );
  await assert.rejects(
    client.chat.completions.create({ model: "nobody/nothing", messages: ask("hi") }),
    OpenAI.NotFoundError,
  );
  await assert.rejects(
    client.embeddings.create({ model: TBANK, input: [1, 2, 3] }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "input",
  );
});

for (const model of EMBEDDERS) {
  test(`vectors: ${model}`, async () => {
    const { data, usage } = await client.embeddings.create({ model, input: ["раз", "два"] });
    assert.deepEqual(data.map((one) => one.index), [0, 1]);
    assert.ok(data[0].embedding.length > 100);
    assert.equal(data[0].embedding.length, data[1].embedding.length);
    assert.notDeepEqual(data[0].embedding, data[1].embedding);
    assert.ok(usage.prompt_tokens > 0);
  });
}

for (const model of PAINTERS) {
  test(`a picture: ${model}`, async () => {
    const { data } = await client.images.generate({ model, prompt: "рыжий кот" });
    assert.equal(data.length, 1);
    assert.match(Buffer.from(data[0].b64_json, "base64").toString("latin1"), /^(\xff\xd8\xff|\x89PNG)/);
  });
}

for (const model of RERANKERS) {
  test(`a ranking: ${model}`, async () => {
    const body = { model, query: "кот", documents: ["собака", "кот"], top_n: 1 };
    const { results } = await client.post("/rerank", { body });
    assert.deepEqual(results.map((one) => one.index), [1]);
  });
}

test("the models", async () => {
  const found = [];
  for await (const model of client.models.list()) found.push(model.id);
  for (const model of [...CHATTERS, ...EMBEDDERS, ...PAINTERS, ...RERANKERS]) {
    assert.ok(found.includes(model), model);
    assert.equal((await client.models.retrieve(model)).id, model);
  }
});
