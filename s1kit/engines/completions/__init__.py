"""The engine `completions:`: any OpenAI-style completions server, driven segment by segment.

    completions:http://localhost:8000/v1#qwen2.5-s1                       the tokenizer is found under the model's name
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint     or given
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint,context_tokens=4096,max_batch=4,kind=llama.cpp
    completions:http://a:8000/v1|http://b:8000/v1#model                   several servers of one model
    completions:@servers.txt#model                                        their URLs, one a line

A blocking adapter of `s1kit.completions`: one event loop in a thread of its own decodes all requests. Where the server
takes token ids and returns them (vLLM), ids cross every seam and the generation is exact: `seam` is `ids`. Elsewhere
(llama.cpp's server, transformers serve) text is tokenised again, and token boundaries may move at a seam: `text`.
"""
