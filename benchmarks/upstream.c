/* A fake vendor, far cheaper than any gateway: one thread, epoll, HTTP/1.1 with keep-alive.
 *
 *   upstream PORT [CHUNKS=200] [DELAY_US=20000]
 *
 * POST .../chat/completions   OpenAI form; GigaChat form when the path holds "giga"
 * POST .../oauth              a GigaChat token that never gets old
 * GET  .../models             one model
 *
 * A reply is about 1 KB. A stream is a role chunk and the first content at once, then one content chunk each DELAY_US
 * (0 = a burst, one write per event), a finish chunk, usage where asked for, and [DONE]. A request may set its own
 * length and pace by the name of its model: "mock-50x1000" is 50 chunks, one per millisecond. Every content chunk holds
 * exactly 6 bytes of text, so that the reader can prove that nothing was lost. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { OPENAI, GIGA, FORMS, MAX_REQUEST = 64 << 20, EDGE = 1024, WORDS = 16 };

typedef struct { char *data; size_t len; } text;
typedef struct conn {
    int fd, place;              /* place in the heap of streams, -1 when not there */
    char *in; size_t len, cap, need;  /* need: bytes of the request being read, 0 when its head is not there yet */
    char *out; size_t out_len;  /* what the socket did not take */
    int form, usage, left, number;
    uint64_t due, delay;
} conn;

static text reply[FORMS], chunk[FORMS][WORDS], role[FORMS], finish[FORMS], usage_chunk, done, head, token, models;
static conn **heap; static int heap_len, heap_cap, poller, chunks = 200; static uint64_t delay_us = 20000;

static uint64_t now_us(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000ull + t.tv_nsec / 1000; }

static text keep(const char *s, size_t n) { text t = {malloc(n), n}; memcpy(t.data, s, n); return t; }

static text json_reply(const char *body) {
    char b[4096];
    return keep(b, snprintf(b, sizeof b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-ID: 0e3b8b9a-8b0f-4c5e-9d27-4a1f6c2d7e10\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body));
}

static text event(const char *json) {
    char b[2048];
    return keep(b, snprintf(b, sizeof b, "%zx\r\ndata: %s\n\n\r\n", strlen(json) + 8, json));
}

static void write_the_texts(void) {
    static const char *words[WORDS] = {" quick", " brown", " small", " foxes", " often", " jumps", " lazy,", " where", " about", " seven", " other", " white", " mouse", " never", " slept", " again"};
    const char *frame[FORMS] = {
        "{\"id\":\"chatcmpl-8c1f0d6b2e9a4f73\",\"object\":\"chat.completion%s\",\"created\":1763650000,\"model\":\"mock-model\",\"system_fingerprint\":\"fp_50cad350e4\",\"choices\":[{\"index\":0,%s}]%s}",
        "{\"choices\":[{%2$s,\"index\":0}],\"created\":1763650000,\"model\":\"GigaChat:2.0.28.2\",\"object\":\"chat.completion%1$s\"%3$s}"};
    const char *usage[FORMS] = {
        ",\"usage\":{\"prompt_tokens\":18,\"completion_tokens\":128,\"total_tokens\":146,\"prompt_tokens_details\":{\"cached_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0}}",
        ",\"usage\":{\"prompt_tokens\":18,\"completion_tokens\":128,\"total_tokens\":146,\"precached_prompt_tokens\":0}"};
    char prose[700] = "", part[1024], body[2048];
    for (int i = 0; i < 100; i++) strcat(prose, words[i % WORDS]);
    for (int f = 0; f < FORMS; f++) {
        const char *object = f == OPENAI ? ".chunk" : "", *none = f == OPENAI ? ",\"logprobs\":null,\"finish_reason\":null" : "";
        snprintf(part, sizeof part, "\"message\":{\"role\":\"assistant\",\"content\":\"%s. The end.\"%s},\"finish_reason\":\"stop\"", prose, f == OPENAI ? ",\"refusal\":null" : "");
        snprintf(body, sizeof body, frame[f], "", part, usage[f]);
        reply[f] = json_reply(body);
        for (int i = 0; i < WORDS; i++) {
            snprintf(part, sizeof part, "\"delta\":{\"content\":\"%s\"}%s", words[i], none);
            snprintf(body, sizeof body, frame[f], object, part, "");
            chunk[f][i] = event(body);
        }
        snprintf(part, sizeof part, "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}%s", none);
        snprintf(body, sizeof body, frame[f], object, part, "");
        role[f] = event(body);
        snprintf(part, sizeof part, "\"delta\":{%s},\"finish_reason\":\"stop\"", f == OPENAI ? "" : "\"content\":\"\"");
        snprintf(body, sizeof body, frame[f], object, part, f == OPENAI ? "" : usage[f]);
        finish[f] = event(body);
    }
    snprintf(body, sizeof body, "{\"id\":\"chatcmpl-8c1f0d6b2e9a4f73\",\"object\":\"chat.completion.chunk\",\"created\":1763650000,\"model\":\"mock-model\",\"choices\":[]%s}", usage[OPENAI]);
    usage_chunk = event(body);
    const char *end = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", *start = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nX-Request-ID: 0e3b8b9a-8b0f-4c5e-9d27-4a1f6c2d7e10\r\nTransfer-Encoding: chunked\r\n\r\n";
    done = keep(end, strlen(end)); head = keep(start, strlen(start));
    snprintf(body, sizeof body, "{\"access_token\":\"a-token-of-the-fake-vendor\",\"expires_at\":%llu}", (time(NULL) + 30 * 86400ull) * 1000);
    token = json_reply(body);
    models = json_reply("{\"object\":\"list\",\"data\":[{\"id\":\"mock-model\",\"object\":\"model\",\"created\":1763650000,\"owned_by\":\"mock\",\"type\":\"chat\"}]}");
}

/* The streams wait in a binary heap, the next due on top. */
static void put(int i, conn *c) { heap[i] = c; c->place = i; }
static void settle(int i, conn *c) {
    for (; i && heap[(i - 1) / 2]->due > c->due; i = (i - 1) / 2) put(i, heap[(i - 1) / 2]);
    for (int k; (k = 2 * i + 1) < heap_len; i = k) {
        if (k + 1 < heap_len && heap[k + 1]->due < heap[k]->due) k++;
        if (heap[k]->due >= c->due) break;
        put(i, heap[k]);
    }
    put(i, c);
}
static void push(conn *c) {
    if (heap_len == heap_cap) heap = realloc(heap, (heap_cap = heap_cap ? heap_cap * 2 : 1024) * sizeof *heap);
    settle(heap_len++, c);
}
static void take_out(conn *c) {
    int i = c->place; conn *last = heap[--heap_len];
    c->place = -1;
    if (last != c) settle(i, last);
}

static void hang_up(conn *c) {
    if (c->place >= 0) take_out(c);
    close(c->fd); free(c->in); free(c->out); free(c);
}

static void watch(conn *c, int op, uint32_t what) { struct epoll_event e = {what, {.ptr = c}}; epoll_ctl(poller, op, c->fd, &e); }

/* 0, or -1 when the connection is gone. */
static int emit(conn *c, const char *data, size_t len) {
    if (!c->out_len) {
        ssize_t n = send(c->fd, data, len, MSG_NOSIGNAL);
        if (n == (ssize_t)len) return 0;
        if (n < 0) { if (errno != EAGAIN) return -1; n = 0; }
        data += n; len -= n;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    c->out = realloc(c->out, c->out_len + len); memcpy(c->out + c->out_len, data, len); c->out_len += len;
    return 0;
}
static int flush(conn *c) {
    ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    memmove(c->out, c->out + n, c->out_len -= n);
    if (!c->out_len) watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return 0;
}

static char *seek(const char *p, size_t n, const char *what) {
    if (n <= 2 * EDGE) return memmem(p, n, what, strlen(what));   /* the fields we read stand at an edge of the body */
    char *found = memmem(p, EDGE, what, strlen(what));
    return found ? found : memmem(p + n - EDGE, EDGE, what, strlen(what));
}

static int answer(conn *c, const char *path, const char *body, size_t n) {
    if (strstr(path, "oauth")) return emit(c, token.data, token.len);
    if (strstr(path, "/models")) return emit(c, models.data, models.len);
    c->form = strstr(path, "giga") ? GIGA : OPENAI;
    if (!seek(body, n, "\"stream\":true") && !seek(body, n, "\"stream\": true")) return emit(c, reply[c->form].data, reply[c->form].len);
    c->left = chunks; c->delay = delay_us; c->number = 0;
    c->usage = seek(body, n, "\"include_usage\":true") || seek(body, n, "\"include_usage\": true");
    const char *name = seek(body, n, "mock-");
    int count; unsigned long long pace; char tail[64] = "";
    if (name) memcpy(tail, name, (size_t)(body + n - name) < sizeof tail - 1 ? (size_t)(body + n - name) : sizeof tail - 1);
    if (sscanf(tail, "mock-%dx%llu", &count, &pace) == 2) { c->left = count; c->delay = pace; }
    c->due = now_us();                       /* the first content follows at once */
    push(c);
    return emit(c, head.data, head.len) || emit(c, role[c->form].data, role[c->form].len) ? -1 : 0;
}

static int read_requests(conn *c) {
    while (c->len && c->place < 0) {
        if (!c->need) {
            char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
            if (!end) return c->len > 65536 ? -1 : 0;
            *end = 0;
            char *length = strcasestr(c->in, "\r\ncontent-length:");
            int chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked") != NULL;
            *end = '\r';
            size_t head_len = end + 4 - c->in;
            if (chunked) {
                char *last = memmem(end, c->len - (end - c->in), "\r\n0\r\n\r\n", 7);
                if (!last) return 0;
                c->need = last + 7 - c->in;
            } else c->need = head_len + (length ? strtoull(length + 17, NULL, 10) : 0);
            if (c->need > MAX_REQUEST) return -1;
        }
        if (c->len < c->need) return 0;
        char *body = (char *)memmem(c->in, c->len, "\r\n\r\n", 4) + 4, path[256] = "";
        sscanf(c->in, "%*s %255s", path);
        if (answer(c, path, body, c->need - (body - c->in))) return -1;
        memmove(c->in, c->in + c->need, c->len - c->need);
        c->len -= c->need; c->need = 0;
    }
    return 0;
}

static void tick(conn *c) {
    if (c->out_len) { c->due = now_us() + 1000; settle(c->place, c); return; }   /* a slow reader is not buried */
    if (c->left > 0) {
        text t = chunk[c->form][c->number++ % WORDS];
        c->left--; c->due += c->delay ? c->delay : 1;
        settle(c->place, c);
        if (emit(c, t.data, t.len)) hang_up(c);
        return;
    }
    take_out(c);
    char b[4096]; char *p = mempcpy(b, finish[c->form].data, finish[c->form].len);
    if (c->usage && c->form == OPENAI) p = mempcpy(p, usage_chunk.data, usage_chunk.len);
    p = mempcpy(p, done.data, done.len);
    if (emit(c, b, p - b) || read_requests(c)) hang_up(c);
}

static void serve(conn *c, uint32_t what) {
    if (what & EPOLLOUT && flush(c)) { hang_up(c); return; }
    if (!(what & ~EPOLLOUT)) return;
    if (c->cap - c->len < 4096) {
        size_t want = c->need > c->cap * 2 ? c->need + 4096 : c->cap * 2 + 4096;
        c->in = realloc(c->in, (c->cap = want) + 1); 
    }
    ssize_t n = recv(c->fd, c->in + c->len, c->cap - c->len, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) { hang_up(c); return; }
    c->len += n; c->in[c->len] = 0;
    if (read_requests(c)) hang_up(c);
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: upstream PORT [CHUNKS] [DELAY_US]\n"); return 2; }
    if (argc > 2) chunks = atoi(argv[2]);
    if (argc > 3) delay_us = strtoull(argv[3], NULL, 10);
    write_the_texts();
    int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(door, (void *)&here, sizeof here) || listen(door, 8192)) { perror("upstream"); return 1; }
    poller = epoll_create1(0);
    struct epoll_event e = {EPOLLIN, {.ptr = NULL}}, found[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, door, &e);
    for (;;) {
        int64_t wait = heap_len ? (int64_t)(heap[0]->due - now_us()) : -1000;
        int n = epoll_wait(poller, found, 256, heap_len ? (wait <= 0 ? 0 : wait > 1000000 ? 1000 : (int)(wait + 999) / 1000) : -1);
        for (int i = 0; i < n; i++) {
            conn *c = found[i].data.ptr;
            if (c) { serve(c, found[i].events); continue; }
            for (int fd; (fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                c = calloc(1, sizeof *c); c->fd = fd; c->place = -1;
                watch(c, EPOLL_CTL_ADD, EPOLLIN);
            }
        }
        for (uint64_t t = now_us(); heap_len && heap[0]->due <= t;) tick(heap[0]);
    }
}
