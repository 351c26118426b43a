// The openai SDK for Go against the gateway, for all vendors behind it.
package acceptance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const (
	gigachat = "gigachat/GigaChat-2"
	yandex   = "yandex/yandexgpt"
	hosted   = "yandex/qwen3-235b-a22b-fp8"
	mts      = "mts/t-pro-it-2.1"
	tbank    = "tbank/t-pro-it-2.1"
)

var (
	chatters  = []string{gigachat, yandex, hosted, mts, tbank}
	parallel  = []string{yandex, hosted, mts, tbank} // a message of GigaChat holds one call
	embedders = []string{"gigachat/Embeddings", "yandex/text-search-doc", "mts/bge-m3", "tbank/bge-m3"}
	painters  = []string{gigachat, "yandex/yandex-art", "tbank/qwen-image"}
	rankers   = []string{"mts/bge-reranker-v2-m3", "tbank/bge-reranker-v2-m3"}

	client = openai.NewClient(
		option.WithBaseURL(os.Getenv("XROUTER_ACCEPTANCE_URL")+"/v1"),
		option.WithAPIKey(os.Getenv("XROUTER_ACCEPTANCE_KEY")),
		option.WithMaxRetries(0),
		option.WithRequestTimeout(30*time.Second),
	)
	city = map[string]any{
		"type":       "object",
		"properties": map[string]any{"city": map[string]any{"type": "string"}},
		"required":   []string{"city"},
	}
	weather = openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_weather", Parameters: city})
	clock   = openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "get_time"})
)

func ask(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    model,
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)},
	}
}

func each(t *testing.T, models []string, try func(t *testing.T, model string)) {
	for _, model := range models {
		t.Run(model, func(t *testing.T) { try(t, model) })
	}
}

func must[T any](t *testing.T, found T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func want[T comparable](t *testing.T, found, wanted T) {
	t.Helper()
	if found != wanted {
		t.Fatalf("%v instead of %v", found, wanted)
	}
}

// refusal is the API error that err must be.
func refusal(t *testing.T, err error) *openai.Error {
	t.Helper()
	var found *openai.Error
	if !errors.As(err, &found) {
		t.Fatalf("%v is no error of the API", err)
	}
	return found
}

// streamed is the whole answer that the SDK puts together of a stream, and the usage of its last chunk.
func streamed(t *testing.T, asked openai.ChatCompletionNewParams) (openai.ChatCompletionChoice, openai.CompletionUsage) {
	t.Helper()
	asked.StreamOptions.IncludeUsage = openai.Bool(true)
	stream := client.Chat.Completions.NewStreaming(context.Background(), asked)
	defer stream.Close()
	var whole openai.ChatCompletionAccumulator
	var last openai.ChatCompletionChunk
	for stream.Next() {
		last = stream.Current()
		if !whole.AddChunk(last) {
			t.Fatal("a chunk that does not fit the ones before it")
		}
	}
	if stream.Err() != nil {
		t.Fatal(stream.Err())
	}
	want(t, len(last.Choices), 0)
	want(t, len(whole.Choices), 1)
	return whole.Choices[0], last.Usage
}

func TestChat(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		asked := ask(model, "echo: Привет")
		asked.Temperature = openai.Float(0)
		var response *http.Response
		answer, err := client.Chat.Completions.New(context.Background(), asked, option.WithResponseInto(&response))
		answer = must(t, answer, err)
		want(t, answer.Choices[0].Message.Content, "Привет")
		want(t, answer.Choices[0].FinishReason, "stop")
		want(t, answer.Model, model)
		want(t, answer.Usage.CompletionTokens, 2)
		want(t, answer.Usage.TotalTokens, answer.Usage.PromptTokens+2)
		want(t, response.Header.Get("x-generation-id"), answer.ID)
	})
}

func TestStreamWithUsage(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		choice, usage := streamed(t, ask(model, "say 25 words"))
		want(t, len(strings.Fields(choice.Message.Content)), 25)
		want(t, choice.FinishReason, "stop")
		answer, err := client.Chat.Completions.New(context.Background(), ask(model, "say 25 words"))
		want(t, choice.Message.Content, must(t, answer, err).Choices[0].Message.Content)
		_, estimated := usage.JSON.ExtraFields["estimated"]
		want(t, estimated, model == yandex) // the vendor's own models count nothing in a stream
		if estimated {
			want(t, usage.PromptTokens > 0 && usage.CompletionTokens > 0, true)
			return
		}
		want(t, usage.PromptTokens, answer.Usage.PromptTokens)
		want(t, usage.CompletionTokens, answer.Usage.CompletionTokens)
	})
}

func TestToolThereAndBack(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		asked := ask(model, "What is the weather?")
		asked.Tools = []openai.ChatCompletionToolUnionParam{weather, clock}
		answer, err := client.Chat.Completions.New(context.Background(), asked)
		choice := must(t, answer, err).Choices[0]
		want(t, choice.FinishReason, "tool_calls")
		want(t, len(choice.Message.ToolCalls), 1)
		call := choice.Message.ToolCalls[0]
		want(t, call.Function.Name, "get_weather")
		arguments(t, call.Function.Arguments)
		asked.Messages = append(asked.Messages, choice.Message.ToParam(), openai.ToolMessage("plus 27", call.ID))
		answer, err = client.Chat.Completions.New(context.Background(), asked)
		said := must(t, answer, err).Choices[0].Message.Content
		want(t, strings.Contains(said, "plus 27"), true)
	})
}

func TestStreamedTool(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		asked := ask(model, "Weather?")
		asked.Tools = []openai.ChatCompletionToolUnionParam{weather}
		choice, _ := streamed(t, asked)
		want(t, choice.FinishReason, "tool_calls")
		want(t, len(choice.Message.ToolCalls), 1)
		want(t, choice.Message.ToolCalls[0].Function.Name, "get_weather")
		arguments(t, choice.Message.ToolCalls[0].Function.Arguments)
	})
}

func TestParallelTools(t *testing.T) {
	each(t, parallel, func(t *testing.T, model string) {
		asked := ask(model, "call get_weather and get_time")
		asked.Tools = []openai.ChatCompletionToolUnionParam{weather, clock}
		answer, err := client.Chat.Completions.New(context.Background(), asked)
		whole := must(t, answer, err).Choices[0]
		pieces, _ := streamed(t, asked)
		for _, choice := range []openai.ChatCompletionChoice{whole, pieces} {
			calls := choice.Message.ToolCalls
			want(t, len(calls), 2)
			want(t, calls[0].Function.Name, "get_weather")
			want(t, calls[1].Function.Name, "get_time")
			want(t, calls[0].ID != calls[1].ID, true)
			arguments(t, calls[0].Function.Arguments)
		}
	})
}

func arguments(t *testing.T, text string) {
	t.Helper()
	var found map[string]string
	must(t, found, json.Unmarshal([]byte(text), &found))
	want(t, len(found), 1)
	want(t, found["city"] != "", true)
}

func TestJSONSchema(t *testing.T) {
	schema := map[string]any{
		"type":                 "object",
		"properties":           map[string]any{"name": map[string]any{"type": "string"}, "age": map[string]any{"type": "integer"}},
		"required":             []string{"name", "age"},
		"additionalProperties": false,
	}
	each(t, chatters, func(t *testing.T, model string) {
		asked := ask(model, "who?")
		asked.ResponseFormat.OfJSONSchema = &openai.ResponseFormatJSONSchemaParam{
			JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
				Name: "person", Schema: schema, Strict: openai.Bool(true),
			},
		}
		answer, err := client.Chat.Completions.New(context.Background(), asked)
		var person struct {
			Name *string
			Age  *int
		}
		decoder := json.NewDecoder(strings.NewReader(must(t, answer, err).Choices[0].Message.Content))
		decoder.DisallowUnknownFields()
		must(t, person, decoder.Decode(&person))
		want(t, person.Name != nil && person.Age != nil, true)
	})
}

func TestCompletion(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		asked := openai.CompletionNewParams{
			Model:  openai.CompletionNewParamsModel(model),
			Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("echo: and so on")},
		}
		answer, err := client.Completions.New(context.Background(), asked)
		want(t, must(t, answer, err).Choices[0].Text, "and so on")
		stream := client.Completions.NewStreaming(context.Background(), asked)
		defer stream.Close()
		var text strings.Builder
		for stream.Next() {
			text.WriteString(stream.Current().Choices[0].Text)
		}
		want(t, must(t, text.String(), stream.Err()), "and so on")
	})
}

func TestEmbeddings(t *testing.T) {
	each(t, embedders, func(t *testing.T, model string) {
		answer, err := client.Embeddings.New(context.Background(), openai.EmbeddingNewParams{
			Model: model,
			Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"раз", "два"}},
		})
		found := must(t, answer, err)
		want(t, len(found.Data), 2)
		want(t, found.Data[1].Index, 1)
		want(t, len(found.Data[0].Embedding) > 100, true)
		want(t, len(found.Data[0].Embedding), len(found.Data[1].Embedding))
		want(t, slices.Equal(found.Data[0].Embedding, found.Data[1].Embedding), false)
		want(t, found.Usage.PromptTokens > 0, true)
	})
}

func TestPictures(t *testing.T) {
	each(t, painters, func(t *testing.T, model string) {
		answer, err := client.Images.Generate(context.Background(), openai.ImageGenerateParams{
			Model: model, Prompt: "рыжий кот",
		})
		found := must(t, answer, err)
		want(t, len(found.Data), 1)
		picture, err := base64.StdEncoding.DecodeString(found.Data[0].B64JSON)
		want(t, strings.HasPrefix(http.DetectContentType(must(t, picture, err)), "image/"), true)
	})
}

func TestRerank(t *testing.T) {
	each(t, rankers, func(t *testing.T, model string) {
		body := map[string]any{"model": model, "query": "кот", "documents": []string{"собака", "кот"}, "top_n": 1}
		var found struct {
			Results []struct{ Index int }
		}
		must(t, found, client.Post(context.Background(), "rerank", body, &found))
		want(t, len(found.Results), 1)
		want(t, found.Results[0].Index, 1)
	})
}

func TestModels(t *testing.T) {
	var listed []string
	pages := client.Models.ListAutoPaging(context.Background())
	for pages.Next() {
		listed = append(listed, pages.Current().ID)
	}
	must(t, listed, pages.Err())
	each(t, slices.Concat(chatters, embedders, painters, rankers), func(t *testing.T, model string) {
		want(t, slices.Contains(listed, model), true)
		found, err := client.Models.Get(context.Background(), model)
		want(t, must(t, found, err).ID, model)
		_, err = client.Models.Get(context.Background(), model+"x")
		want(t, refusal(t, err).StatusCode, http.StatusNotFound)
	})
}

func TestVendorErrors(t *testing.T) {
	faults := map[string]int{"status-400": 400, "status-404": 404, "status-401": 502, "status-429": 503, "reset-0": 502}
	each(t, chatters, func(t *testing.T, model string) {
		for fault, status := range faults {
			_, err := client.Chat.Completions.New(context.Background(), ask(model+"+"+fault, "hi"))
			found := refusal(t, err)
			want(t, found.StatusCode, status)
			want(t, strings.Contains(found.Message, strings.Split(model, "/")[0]), true)
		}
	})
}

func TestErrorInsideAStream(t *testing.T) {
	each(t, chatters, func(t *testing.T, model string) {
		stream := client.Chat.Completions.NewStreaming(context.Background(), ask(model+"+reset-2", "say 30 words"))
		defer stream.Close()
		for stream.Next() {
		}
		if stream.Err() == nil {
			t.Fatal("a broken answer looked whole")
		}
		want(t, strings.Contains(stream.Err().Error(), strings.Split(model, "/")[0]), true)
	})
}

func TestOwnErrors(t *testing.T) {
	_, err := client.Chat.Completions.New(context.Background(), ask("nobody/nothing", "hi"))
	found := refusal(t, err)
	want(t, found.StatusCode, http.StatusNotFound)
	want(t, found.Code, "model_not_found")

	each(t, chatters, func(t *testing.T, model string) {
		_, err := client.Chat.Completions.New(context.Background(), ask(model, "hi"), option.WithAPIKey("sk-wrong"))
		want(t, refusal(t, err).StatusCode, http.StatusUnauthorized)

		hot := ask(model, "hi")
		hot.Temperature = openai.Float(3)
		_, err = client.Chat.Completions.New(context.Background(), hot)
		found := refusal(t, err)
		want(t, found.StatusCode, http.StatusBadRequest)
		want(t, found.Param, "temperature")

		_, err = client.Embeddings.New(context.Background(), openai.EmbeddingNewParams{
			Model: model,
			Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")},
		})
		found = refusal(t, err)
		want(t, found.StatusCode, http.StatusBadRequest)
		want(t, found.Code, "model_not_supported")
	})
}
