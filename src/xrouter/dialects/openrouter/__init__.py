"""The superset that OpenRouter's clients speak, under `/api/v1`: OpenAI's forms and what OpenRouter adds to them."""
