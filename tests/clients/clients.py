"""Asks a server through the clients that people have: clients.py BASE_URL API_KEY"""

import asyncio
import json
import sys

import litellm
import openai
from langchain_openai import ChatOpenAI

base, key = sys.argv[1:]
question = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the capital of France?"},
]
client = openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)
model = client.models.list().data[0].id
settings = {"model": model, "messages": question, "max_tokens": 24}


def raises(error, status, param, call):
    """Calls `call`, which must raise this error of the client with these fields."""
    try:
        call()
    except error as raised:
        found = (raised.status_code, raised.param)
        assert found == (status, param), found
        assert raised.body["message"], raised.body
    else:
        raise AssertionError(f"{error.__name__} was not raised")


def check_openai():
    assert client.models.retrieve(model).id == model
    whole = client.chat.completions.create(**settings, temperature=0)
    choice = whole.choices[0]
    assert "Paris" in choice.message.content and choice.finish_reason == "stop", whole
    usage = whole.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 20, usage
    assert usage.completion_tokens_details.accepted_prediction_tokens >= 0, usage
    assert usage.completion_tokens_details.rejected_prediction_tokens >= 0, usage
    again = client.chat.completions.create(**settings, temperature=0)
    assert again.usage.prompt_tokens_details.cached_tokens > 20, again.usage

    chunks = list(
        client.chat.completions.create(
            **settings, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == choice.message.content, (text, choice)
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == usage.completion_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    with client.chat.completions.stream(**settings, temperature=0) as stream:
        assert stream.get_final_completion().choices[0].message.content == text

    def sampled(seed, **more):
        answer = client.chat.completions.create(**settings, temperature=1.2, seed=seed, **more)
        return [choice.message.content for choice in answer.choices]

    assert sampled(7) == sampled(7) and len({sampled(seed)[0] for seed in range(4)}) > 1
    assert len(sampled(7, n=3)) == 3 and sampled(7, n=3)[0] == sampled(7)[0]

    cut = client.chat.completions.create(**settings, temperature=0, stop=["Paris"])
    assert cut.choices[0].message.content == text[: text.index("Paris")], cut
    assert cut.choices[0].finish_reason == "stop"
    assert client.chat.completions.create(**{**settings, "max_tokens": 2}).choices[0].finish_reason == "length"

    completion = client.completions.create(model=model, prompt="One, two, three,", max_tokens=4, temperature=0)
    assert completion.choices[0].text.startswith(" four"), completion
    response = client.responses.create(
        model=model, instructions=question[0]["content"], input=question[1]["content"], temperature=0
    )
    assert response.output_text == text and response.status == "completed", response
    events = list(client.responses.create(model=model, input="Hello", max_output_tokens=5, stream=True))
    assert events[-1].type == "response.incomplete" and events[-1].response.usage.output_tokens == 5, events[-1]

    async def many():
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=key) as many:
            calls = [many.chat.completions.create(**settings, temperature=0) for _ in range(8)]
            return {answer.choices[0].message.content for answer in await asyncio.gather(*calls)}

    assert asyncio.run(many()) == {text}


def check_errors():
    create = client.chat.completions.create
    raises(openai.BadRequestError, 400, "temperature", lambda: create(**settings, temperature=-1))
    raises(openai.BadRequestError, 400, "messages", lambda: create(model=model, messages=[]))
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    raises(openai.BadRequestError, 400, "tools", lambda: create(**settings, tools=[tool]))
    long = [{"role": "user", "content": "word " * 50_000}]
    raises(openai.BadRequestError, 400, "messages", lambda: create(model=model, messages=long))
    raises(openai.NotFoundError, 404, "model", lambda: create(**{**settings, "model": "gpt-4"}))
    wrong = openai.OpenAI(base_url=f"{base}/v1", api_key="wrong", max_retries=0)
    raises(openai.AuthenticationError, 401, None, lambda: wrong.models.list())
    large = [{"role": "user", "content": "a" * (17 << 20)}]
    try:
        create(model=model, messages=large)
    except openai.APIStatusError as error:
        assert error.status_code == 413, error
    else:
        raise AssertionError("17 MB were accepted")


def check_litellm():
    litellm.suppress_debug_info = True
    asked = {**settings, "model": f"openai/{model}", "api_base": f"{base}/v1", "api_key": key, "num_retries": 0}
    whole = litellm.completion(**asked, temperature=0)
    text = whole.choices[0].message.content
    assert "Paris" in text and whole.usage.completion_tokens > 2, whole
    chunks = list(litellm.completion(**asked, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    built = litellm.stream_chunk_builder(chunks, messages=question)
    assert built.usage.completion_tokens == whole.usage.completion_tokens, built
    texts = [litellm.completion(**asked, temperature=1, seed=3).choices[0].message.content for _ in range(2)]
    assert texts[0] == texts[1]
    for error, more in [
        (litellm.BadRequestError, {"temperature": -1}),
        (litellm.AuthenticationError, {"api_key": "wrong"}),
        (litellm.NotFoundError, {"model": "openai/gpt-nothing"}),
        (litellm.ContextWindowExceededError, {"messages": [{"role": "user", "content": "word " * 50_000}]}),
    ]:
        try:
            litellm.completion(**{**asked, **more})
        except error:
            continue
        raise AssertionError(f"{error.__name__} was not raised")


def check_langchain():
    chat = ChatOpenAI(
        model=model, base_url=f"{base}/v1", api_key=key, temperature=0, max_tokens=24, max_retries=0, stream_usage=True
    )
    messages = [("system", question[0]["content"]), ("human", question[1]["content"])]
    whole = chat.invoke(messages)
    assert "Paris" in whole.content and whole.response_metadata["finish_reason"] == "stop", whole
    assert whole.usage_metadata["output_tokens"] > 2 and "cache_read" in whole.usage_metadata["input_token_details"]
    streamed = None
    for chunk in chat.stream(messages):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed.content == whole.content, (streamed, whole)
    assert streamed.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"], streamed
    stopped = chat.invoke(messages, stop=["Paris"])
    assert "Paris" not in stopped.content, stopped
    sampled = ChatOpenAI(model=model, base_url=f"{base}/v1", api_key=key, temperature=1, seed=5, max_tokens=12)
    assert sampled.invoke("Tell a story.").content == sampled.invoke("Tell a story.").content
    assert [answer.content for answer in chat.batch([messages] * 4)] == [whole.content] * 4
    try:
        chat.bind(temperature=-1).invoke(messages)
    except openai.BadRequestError as error:
        assert error.param == "temperature", error
    else:
        raise AssertionError("a negative temperature was accepted")


for check in [check_openai, check_errors, check_litellm, check_langchain]:
    check()
    print(f"{check.__name__}: passed")
