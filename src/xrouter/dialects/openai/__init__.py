"""The OpenAI dialect: chat completions and models (https://platform.openai.com/docs/api-reference)."""
