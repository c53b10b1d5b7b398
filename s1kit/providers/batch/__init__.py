"""The batch APIs of OpenAI, Gemini and Anthropic: half the price, within a day.

driver.py                        submits jobs and polls them
sizes.py                         how many requests go into one
collection.py                    results into the journal
patiently.py                     questions that are asked until they are answered
wire.py                          what the APIs have in common; openai.py, anthropic.py, gemini.py: each one's format
"""
