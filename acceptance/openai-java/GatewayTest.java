// The openai SDK for Java against the gateway, for all vendors behind it.

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.openai.client.OpenAIClient;
import com.openai.client.okhttp.OpenAIOkHttpClient;
import com.openai.core.JsonValue;
import com.openai.core.http.StreamResponse;
import com.openai.errors.BadRequestException;
import com.openai.errors.InternalServerException;
import com.openai.errors.NotFoundException;
import com.openai.errors.OpenAIServiceException;
import com.openai.errors.SseException;
import com.openai.errors.UnauthorizedException;
import com.openai.helpers.ChatCompletionAccumulator;
import com.openai.models.FunctionDefinition;
import com.openai.models.FunctionParameters;
import com.openai.models.chat.completions.ChatCompletion;
import com.openai.models.chat.completions.ChatCompletionChunk;
import com.openai.models.chat.completions.ChatCompletionCreateParams;
import com.openai.models.chat.completions.ChatCompletionFunctionTool;
import com.openai.models.chat.completions.ChatCompletionMessageFunctionToolCall;
import com.openai.models.chat.completions.ChatCompletionStreamOptions;
import com.openai.models.chat.completions.ChatCompletionToolMessageParam;
import com.openai.models.completions.Completion;
import com.openai.models.completions.CompletionCreateParams;
import com.openai.models.embeddings.EmbeddingCreateParams;
import com.openai.models.images.ImageGenerateParams;
import com.openai.models.models.Model;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class GatewayTest {
    static final String GIGACHAT = "gigachat/GigaChat-2";
    static final String YANDEX = "yandex/yandexgpt";
    static final String HOSTED = "yandex/qwen3-235b-a22b-fp8";
    static final String MTS = "mts/t-pro-it-2.1";
    static final String TBANK = "tbank/t-pro-it-2.1";

    static final OpenAIClient CLIENT = client(System.getenv("XROUTER_ACCEPTANCE_KEY"));

    static List<String> chatters() {
        return List.of(GIGACHAT, YANDEX, HOSTED, MTS, TBANK);
    }

    /** A message of GigaChat holds one call. */
    static List<String> parallel() {
        return List.of(YANDEX, HOSTED, MTS, TBANK);
    }

    static List<String> embedders() {
        return List.of("gigachat/Embeddings", "yandex/text-search-doc", "mts/bge-m3", "tbank/bge-m3");
    }

    static List<String> painters() {
        return List.of(GIGACHAT, "yandex/yandex-art", "tbank/qwen-image");
    }

    static Stream<String> all() {
        return Stream.of(chatters(), embedders(), painters()).flatMap(List::stream).distinct();
    }

    static OpenAIClient client(String key) {
        return OpenAIOkHttpClient.builder()
                .baseUrl(System.getenv("XROUTER_ACCEPTANCE_URL") + "/v1")
                .apiKey(key)
                .maxRetries(0)
                .timeout(Duration.ofSeconds(30))
                .responseValidation(true)
                .build();
    }

    static ChatCompletionCreateParams.Builder ask(String model, String text) {
        return ChatCompletionCreateParams.builder().model(model).addUserMessage(text);
    }

    static ChatCompletion.Choice answer(ChatCompletionCreateParams asked) {
        return CLIENT.chat().completions().create(asked).choices().get(0);
    }

    /** The whole answer that the SDK puts together of a stream. */
    static ChatCompletion streamed(ChatCompletionCreateParams asked) {
        var whole = ChatCompletionAccumulator.create();
        var options = ChatCompletionStreamOptions.builder().includeUsage(true).build();
        var params = asked.toBuilder().streamOptions(options).build();
        try (StreamResponse<ChatCompletionChunk> stream = CLIENT.chat().completions().createStreaming(params)) {
            stream.stream().forEach(whole::accumulate);
        }
        return whole.chatCompletion();
    }

    static ChatCompletionFunctionTool tool(String name, Map<String, ?> properties) {
        var parameters = FunctionParameters.builder()
                .putAdditionalProperty("type", JsonValue.from("object"))
                .putAdditionalProperty("properties", JsonValue.from(properties))
                .putAdditionalProperty("required", JsonValue.from(List.copyOf(properties.keySet())))
                .build();
        var function = FunctionDefinition.builder().name(name).parameters(parameters).build();
        return ChatCompletionFunctionTool.builder().function(function).build();
    }

    static final ChatCompletionFunctionTool WEATHER = tool("get_weather", Map.of("city", Map.of("type", "string")));
    static final ChatCompletionFunctionTool TIME = tool("get_time", Map.of());

    static List<ChatCompletionMessageFunctionToolCall> calls(ChatCompletion.Choice choice) {
        assertEquals(ChatCompletion.Choice.FinishReason.TOOL_CALLS, choice.finishReason());
        return choice.message().toolCalls().orElseThrow().stream().map(call -> call.asFunction()).toList();
    }

    static void assertNamesACity(ChatCompletionMessageFunctionToolCall call) throws Exception {
        JsonNode arguments = new ObjectMapper().readTree(call.function().arguments());
        assertEquals(1, arguments.size());
        assertTrue(arguments.get("city").isTextual());
    }

    static String vendor(String model) {
        return model.split("/")[0];
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void chat(String model) {
        var response = CLIENT.chat().completions().withRawResponse()
                .create(ask(model, "echo: Привет").temperature(0.0).build());
        ChatCompletion answer = response.parse();
        assertEquals("Привет", answer.choices().get(0).message().content().orElseThrow());
        assertEquals(ChatCompletion.Choice.FinishReason.STOP, answer.choices().get(0).finishReason());
        assertEquals(model, answer.model());
        var usage = answer.usage().orElseThrow();
        assertEquals(2, usage.completionTokens());
        assertEquals(usage.promptTokens() + 2, usage.totalTokens());
        assertEquals(List.of(answer.id()), response.headers().values("x-generation-id"));
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void streamWithUsage(String model) {
        ChatCompletion answer = streamed(ask(model, "say 25 words").build());
        var choice = answer.choices().get(0);
        String said = choice.message().content().orElseThrow();
        assertEquals(25, said.strip().split("\\s+").length);
        assertEquals(ChatCompletion.Choice.FinishReason.STOP, choice.finishReason());
        ChatCompletion whole = CLIENT.chat().completions().create(ask(model, "say 25 words").build());
        assertEquals(whole.choices().get(0).message().content().orElseThrow(), said);
        var usage = answer.usage().orElseThrow();
        boolean estimated = usage._additionalProperties().containsKey("estimated");
        assertEquals(model.equals(YANDEX), estimated); // the vendor's own models count nothing in a stream
        if (estimated) {
            assertTrue(usage.promptTokens() > 0 && usage.completionTokens() > 0);
            return;
        }
        assertEquals(whole.usage().orElseThrow().promptTokens(), usage.promptTokens());
        assertEquals(whole.usage().orElseThrow().completionTokens(), usage.completionTokens());
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void toolThereAndBack(String model) throws Exception {
        var asked = ask(model, "What is the weather?").addTool(WEATHER).addTool(TIME);
        var choice = answer(asked.build());
        var calls = calls(choice);
        assertEquals(1, calls.size());
        assertEquals("get_weather", calls.get(0).function().name());
        assertNamesACity(calls.get(0));
        asked.addMessage(choice.message());
        asked.addMessage(ChatCompletionToolMessageParam.builder()
                .toolCallId(calls.get(0).id())
                .content("plus 27")
                .build());
        assertTrue(answer(asked.build()).message().content().orElseThrow().contains("plus 27"));
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void streamedTool(String model) throws Exception {
        var calls = calls(streamed(ask(model, "Weather?").addTool(WEATHER).build()).choices().get(0));
        assertEquals(1, calls.size());
        assertEquals("get_weather", calls.get(0).function().name());
        assertNamesACity(calls.get(0));
    }

    @ParameterizedTest
    @MethodSource("parallel")
    void parallelTools(String model) throws Exception {
        var asked = ask(model, "call get_weather and get_time").addTool(WEATHER).addTool(TIME).build();
        for (var choice : List.of(answer(asked), streamed(asked).choices().get(0))) {
            var calls = calls(choice);
            assertEquals(
                    List.of("get_weather", "get_time"),
                    calls.stream().map(call -> call.function().name()).toList());
            assertNotEquals(calls.get(0).id(), calls.get(1).id());
            assertNamesACity(calls.get(0));
        }
    }

    public static class Person {
        public String name;
        public int age;
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void jsonSchema(String model) {
        var asked = ask(model, "who?").responseFormat(Person.class).build();
        Person person =
                CLIENT.chat().completions().create(asked).choices().get(0).message().content().orElseThrow();
        assertFalse(person.name.isEmpty());
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void completion(String model) {
        var asked = CompletionCreateParams.builder().model(model).prompt("echo: and so on").build();
        assertEquals("and so on", CLIENT.completions().create(asked).choices().get(0).text());
        var text = new StringBuilder();
        // The SDK's own type has no `finish_reason: null`, which OpenAI sends in a stream, too.
        var plain = CLIENT.withOptions(options -> options.responseValidation(false));
        try (StreamResponse<Completion> stream = plain.completions().createStreaming(asked)) {
            stream.stream().forEach(chunk -> text.append(chunk.choices().get(0).text()));
        }
        assertEquals("and so on", text.toString());
    }

    @ParameterizedTest
    @MethodSource("embedders")
    void embeddings(String model) {
        var found = CLIENT.embeddings().create(EmbeddingCreateParams.builder()
                .model(model)
                .inputOfArrayOfStrings(List.of("раз", "два"))
                .build());
        assertEquals(2, found.data().size());
        assertEquals(1, found.data().get(1).index());
        var first = found.data().get(0).embedding();
        var second = found.data().get(1).embedding();
        assertTrue(first.size() > 100);
        assertEquals(first.size(), second.size());
        assertNotEquals(first, second);
        assertTrue(found.usage().promptTokens() > 0);
    }

    @ParameterizedTest
    @MethodSource("painters")
    void pictures(String model) throws Exception {
        var found = CLIENT.images().generate(
                        ImageGenerateParams.builder().model(model).prompt("рыжий кот").build());
        assertEquals(1, found.data().orElseThrow().size());
        byte[] picture = Base64.getDecoder().decode(found.data().orElseThrow().get(0).b64Json().orElseThrow());
        String start = new String(picture, 0, 4, StandardCharsets.ISO_8859_1);
        assertTrue(start.startsWith("\u00ff\u00d8\u00ff") || start.equals("\u0089PNG"), start);
    }

    @ParameterizedTest
    @MethodSource("all")
    void models(String model) {
        List<String> listed = CLIENT.models().list().autoPager().stream().map(Model::id).toList();
        assertTrue(listed.contains(model));
        assertEquals(model, CLIENT.models().retrieve(model).id());
        assertThrows(NotFoundException.class, () -> CLIENT.models().retrieve(model + "x"));
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void vendorErrors(String model) {
        var faults = Map.of("status-400", 400, "status-404", 404, "status-401", 502, "status-429", 503, "reset-0", 502);
        Map<Integer, Class<? extends OpenAIServiceException>> kinds =
                Map.of(400, BadRequestException.class, 404, NotFoundException.class);
        faults.forEach((fault, status) -> {
            var kind = kinds.getOrDefault(status, InternalServerException.class);
            var error = assertThrows(kind, () -> answer(ask(model + "+" + fault, "hi").build()));
            assertEquals(status, error.statusCode());
            assertTrue(error.getMessage().contains(vendor(model)), error.getMessage());
        });
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void errorInsideAStream(String model) {
        var error = assertThrows(
                SseException.class, () -> streamed(ask(model + "+reset-2", "say 30 words").build()));
        assertTrue(error.getMessage().contains(vendor(model)), error.getMessage());
    }

    @Test
    void aModelThatNobodyServes() {
        var error = assertThrows(NotFoundException.class, () -> answer(ask("nobody/nothing", "hi").build()));
        assertEquals("model_not_found", error.code().orElseThrow());
    }

    @ParameterizedTest
    @MethodSource("chatters")
    void ownErrors(String model) {
        var stranger = client("sk-wrong");
        assertThrows(
                UnauthorizedException.class,
                () -> stranger.chat().completions().create(ask(model, "hi").build()));
        stranger.close();

        var hot = assertThrows(
                BadRequestException.class, () -> answer(ask(model, "hi").temperature(3.0).build()));
        assertEquals("temperature", hot.param().orElseThrow());

        var wrong = EmbeddingCreateParams.builder().model(model).input("x").build();
        var error = assertThrows(BadRequestException.class, () -> CLIENT.embeddings().create(wrong));
        assertEquals("model_not_supported", error.code().orElseThrow());
    }
}
