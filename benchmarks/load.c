/* The load: one thread, epoll, HTTP/1.1 with keep-alive. It reads every reply to its end and checks it.
 *
 *   load MODE PORT PATH -b BODYFILE -c CONNECTIONS -t SECONDS [-w WARM_UP_S] [-n REPLIES] [-r PER_SECOND] [-k CHUNKS] [-H HEADER]...
 *
 * closed   each connection sends again as soon as it has its reply
 * open     requests start at a fixed rate; latency counts from the scheduled instant, so waiting in line is seen
 * stream   as closed, with SSE replies of CHUNKS content chunks
 * idle     opens all streams, then holds them for SECONDS; none may end or fail
 *
 * Prints BEGIN and END around the measured window (the caller reads CPU clocks there), then one JSON line. An error is
 * a status other than 200, a body that is not the fake vendor's reply to its end, a stream that lost text or ended
 * without [DONE] and the end of its body, a cut connection, or no sign of life
 * in the 5 s after END from a call that was open then. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { CLOSED, OPEN, STREAM, IDLE };
enum { HEAD, SIZE, DATA, DATA_END, TRAILER, WHOLE };   /* where in a reply we are */
enum { MORE, COMPLETE, BROKEN };
enum { WORD = 6, PENDING_MAX = 64, ERRORS_MAX = 100 };
#define SILENCE_US 5000000ull

typedef struct {
    int fd, busy, where, line_len, closing, chunked, done, opened;
    long left;                  /* bytes of the body or chunk still to come, -1 until the connection ends */
    size_t text;                /* bytes of content seen in the stream */
    uint64_t start, heard;
    char *buf; size_t len, cap; /* head, then body (closed, open) or the current line (stream, idle) */
} conn;
typedef struct { uint32_t *us; size_t len, cap; } sample;

static int mode, port, conns = 1, poller, chunks = 200, free_len, opened, closing_window;
static double seconds = 3, warm = 0, rate = 50;
static uint64_t begin, end, replies, window_replies, reply_max, window_chunks, errors, reconnects;
static char *request, first_error[400]; static size_t request_len;
static conn *all, **idle_conns; static sample latency, ttft;

static uint64_t now_us(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000ull + t.tv_nsec / 1000; }
static int in_window(uint64_t t) { return begin && t >= begin && !closing_window; }
static void add(sample *s, uint64_t us) {
    if (s->len == s->cap) s->us = realloc(s->us, (s->cap = s->cap ? s->cap * 2 : 4096) * sizeof *s->us);
    s->us[s->len++] = us > UINT32_MAX ? UINT32_MAX : us;
}
static int by_size(const void *a, const void *b) { uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b; return (x > y) - (x < y); }
static double ms(sample *s, double part) { return s->len ? s->us[(size_t)(part * (s->len - 1) + 0.5)] / 1000.0 : -1; }

static void reach(conn *c) {
    int one = 1;
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&there, sizeof there)) { perror("load: connect"); exit(2); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event e = {EPOLLIN, {.ptr = c}};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e);
}
static void reconnect(conn *c) { close(c->fd); reconnects++; reach(c); }

static void fail(conn *c, const char *why) {
    if (!errors++) snprintf(first_error, sizeof first_error, "%s: %.*s", why, (int)(c->len < 200 ? c->len : 200), c->buf ? c->buf : "");
    c->busy = 0;
    if (!closing_window) reconnect(c);
}

static void ask(conn *c, uint64_t start) {
    c->where = HEAD; c->len = c->line_len = 0; c->text = 0; c->closing = c->chunked = c->done = c->opened = 0;
    c->start = start; c->heard = now_us(); c->busy = 1;
    for (size_t sent = 0; sent < request_len;) {
        ssize_t n = send(c->fd, request + sent, request_len - sent, MSG_NOSIGNAL);
        if (n >= 0) sent += n;
        else if (errno == EAGAIN) { if (now_us() - c->heard > SILENCE_US) { fail(c, "request not taken"); return; } usleep(50); }
        else { fail(c, "send"); return; }
    }
}

static void read_line(conn *c, uint64_t t) {
    c->buf[c->len] = 0;
    if (c->len > 5 && !memcmp(c->buf, "data:", 5)) {
        char *p = strstr(c->buf, "\"content\":");
        if (strstr(c->buf + 5, "[DONE]")) c->done = 1;
        else if (p && (p += 10, p += *p == ' ', *p == '"') && p[1] != '"') {
            c->text += strcspn(p + 1, "\"");
            if (!c->opened) { c->opened = 1; opened++; if (in_window(c->start)) add(&ttft, t - c->start); }
            if (in_window(t)) window_chunks += strcspn(p + 1, "\"") / WORD;
        }
    }
    c->len = 0;
}

static void take(conn *c, const char *p, size_t n, uint64_t t) {
    while (n) {
        const char *stop = mode >= STREAM ? memchr(p, '\n', n) : NULL;
        size_t part = stop ? (size_t)(stop - p) : n;
        if (c->len + part + 1 > c->cap) c->buf = realloc(c->buf, c->cap = c->len + part + 1024);
        memcpy(c->buf + c->len, p, part); c->len += part;
        if (stop) { read_line(c, t); part++; }
        p += part; n -= part;
    }
}

static int good(conn *c) {
    if (mode >= STREAM) return c->done && c->text == (size_t)chunks * WORD;
    while (c->len && c->buf[c->len - 1] <= ' ') c->len--;
    return c->len > 2 && c->buf[0] == '{' && c->buf[c->len - 1] == '}' && memmem(c->buf, c->len, "\"choices\"", 9) && memmem(c->buf, c->len, "again quick brown small foxes. The end.\"", 40);
}

static int read_head(conn *c) {
    c->buf[c->len - 1] = 0;
    if (strncmp(c->buf, "HTTP/1.1 200", 12)) return BROKEN;
    char *length = strcasestr(c->buf, "\r\ncontent-length:");
    c->chunked = strcasestr(c->buf, "\r\ntransfer-encoding: chunked") != NULL;
    c->closing = strcasestr(c->buf, "\r\nconnection: close") != NULL;
    c->left = c->chunked ? 0 : length ? atol(length + 17) : -1;
    c->where = c->chunked ? SIZE : WHOLE;
    c->len = 0;
    return c->left || c->chunked ? MORE : COMPLETE;
}

static int feed(conn *c, const char *p, size_t n, uint64_t t) {
    for (const char *stop = p + n; p < stop;) {
        size_t part = stop - p;
        switch (c->where) {
        case HEAD:
            if (c->len + 2 > c->cap) c->buf = realloc(c->buf, c->cap = c->cap * 2 + 1024);
            c->buf[c->len++] = *p++;
            if (c->len >= 4 && !memcmp(c->buf + c->len - 4, "\r\n\r\n", 4)) { int state = read_head(c); if (state) return state; }
            break;
        case SIZE:
            if (*p == '\n') { c->where = c->left ? DATA : TRAILER; c->line_len = 0; }
            else if (*p != '\r') {
                int digit = *p <= '9' ? *p - '0' : (*p | 32) - 'a' + 10;
                if (digit < 0 || digit > 15) return BROKEN;
                c->left = c->left * 16 + digit;
            }
            p++;
            break;
        case DATA_END:
            if (*p++ == '\n') { c->where = SIZE; c->left = 0; }
            break;
        case TRAILER:
            if (*p == '\n' && !c->line_len) return COMPLETE;
            c->line_len = *p == '\n' ? 0 : c->line_len + (*p != '\r');
            p++;
            break;
        default:
            if (c->left >= 0 && part > (size_t)c->left) part = c->left;
            take(c, p, part, t);
            p += part;
            if (c->left > 0 && !(c->left -= part)) { if (c->where == WHOLE) return COMPLETE; c->where = DATA_END; }
        }
    }
    return MORE;
}

static void finish(conn *c, uint64_t t) {
    if (mode == IDLE) { fail(c, "stream ended"); return; }
    if (!good(c)) { fail(c, mode == STREAM ? "stream not whole" : "not the reply"); return; }
    c->busy = 0; replies++;
    if (in_window(t)) { window_replies++; add(&latency, t - c->start); }
    if (c->closing || c->left < 0) reconnect(c);
}

static void next(conn *c) {
    if (closing_window || c->busy) return;
    if (mode == OPEN) idle_conns[free_len++] = c;
    else if (mode != IDLE && errors < ERRORS_MAX) ask(c, now_us());
}

static void hear(conn *c) {
    static char in[1 << 18];
    ssize_t n = recv(c->fd, in, sizeof in, 0);
    uint64_t t = now_us();
    if (n < 0 && errno == EAGAIN) return;
    if (!c->busy) { if (n <= 0) reconnect(c); return; }
    c->heard = t;
    int state = n > 0 ? feed(c, in, n, t) : n == 0 && c->where == WHOLE && c->left < 0 ? COMPLETE : BROKEN;
    if (state == BROKEN) fail(c, n <= 0 ? "connection cut" : "bad reply");
    else if (state == COMPLETE) finish(c, t);
    next(c);
}

static void poll_once(int timer, int most_ms) {
    struct epoll_event found[256];
    uint64_t ticks;
    for (int i = epoll_wait(poller, found, 256, most_ms); i-- > 0;) {
        if (found[i].data.ptr) hear(found[i].data.ptr);
        else if (read(timer, &ticks, sizeof ticks) < 0) continue;
    }
}

static void usage(void) { fprintf(stderr, "usage: load closed|open|stream|idle PORT PATH -b BODYFILE [-c N] [-t S] [-w S] [-n N] [-r RATE] [-k CHUNKS] [-H HEADER]...\n"); exit(2); }

int main(int argc, char **argv) {
    static const char *names[] = {"closed", "open", "stream", "idle"};
    char headers[8192] = "", *body_file = NULL;
    if (argc < 4) usage();
    while (mode < 4 && strcmp(argv[1], names[mode])) mode++;
    port = atoi(argv[2]);
    optind = 4;
    for (int o; (o = getopt(argc, argv, "b:c:t:w:n:r:k:H:")) > 0;) switch (o) {
        case 'b': body_file = optarg; break;
        case 'c': conns = atoi(optarg); break;
        case 't': seconds = atof(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 'n': reply_max = strtoull(optarg, NULL, 10); break;
        case 'r': rate = atof(optarg); break;
        case 'k': chunks = atoi(optarg); break;
        case 'H': strncat(strncat(headers, optarg, 2000), "\r\n", 3); break;
        default: usage();
    }
    FILE *f = body_file ? fopen(body_file, "rb") : NULL;
    if (mode > IDLE || !f || conns < 1) usage();
    fseek(f, 0, SEEK_END); size_t body_len = ftell(f); rewind(f);
    request = malloc(body_len + 16384);
    request_len = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n", argv[3], port, body_len, headers);
    request_len += fread(request + request_len, 1, body_len, f);
    poller = epoll_create1(0);
    all = calloc(conns, sizeof *all); idle_conns = calloc(conns, sizeof *idle_conns);

    uint64_t start = now_us(), scheduled = start, t;
    int started = 0, timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event e = {EPOLLIN, {.ptr = NULL}};
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &e);
    for (; mode == OPEN && started < conns; started++) { reach(&all[started]); next(&all[started]); }
    for (;;) {
        t = now_us();
        /* starts are spread over the warm-up, so that streams do not move in step; idle streams open 64 at a time */
        while (started < conns && (mode == IDLE ? started - opened - (int)errors < PENDING_MAX : t >= start + (uint64_t)(warm * 1e6 * started / conns))) {
            reach(&all[started]); ask(&all[started++], now_us());
        }
        if (!begin && (mode == IDLE ? opened + (int)errors >= conns : t >= start + (uint64_t)(warm * 1e6))) {
            begin = now_us(); end = begin + (uint64_t)(seconds * 1e6);
            puts("BEGIN"); fflush(stdout);
        }
        if ((begin && t >= end) || (reply_max && replies >= reply_max) || errors >= ERRORS_MAX) break;
        if (mode == IDLE && !begin && t > start + 120000000ull) { fail(&all[0], "streams did not open in 120 s"); break; }
        for (; mode == OPEN && scheduled <= t && free_len; scheduled += (uint64_t)(1e6 / rate)) ask(idle_conns[--free_len], scheduled);
        if (mode == OPEN && free_len) {
            struct itimerspec at = {.it_value = {scheduled / 1000000, scheduled % 1000000 * 1000}};
            timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
        }
        poll_once(timer, started < conns ? 1 : 10);
    }
    uint64_t stop = now_us();
    puts("END"); fflush(stdout);
    closing_window = 1;
    for (int i = 0; i < started && mode != IDLE; i++) {   /* nobody may have been left hanging */
        while (all[i].busy && all[i].heard < stop && now_us() < stop + SILENCE_US) poll_once(timer, 10);
        if (all[i].busy && all[i].heard < stop) fail(&all[i], "silent for 5 s after END");
    }
    qsort(latency.us, latency.len, sizeof *latency.us, by_size); qsort(ttft.us, ttft.len, sizeof *ttft.us, by_size);
    for (char *p = first_error; *p; p++) if (*p < ' ' || *p == '"' || *p == '\\') *p = ' ';
    printf("{\"mode\":\"%s\",\"seconds\":%.3f,\"replies\":%llu,\"chunks\":%llu,\"opened\":%d,\"errors\":%llu,\"reconnects\":%llu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"ttft_p50_ms\":%.3f,\"ttft_p99_ms\":%.3f,\"first_error\":\"%s\"}\n",
           names[mode], (stop - (begin ? begin : start)) / 1e6, (unsigned long long)window_replies, (unsigned long long)window_chunks, opened, (unsigned long long)errors, (unsigned long long)reconnects, ms(&latency, .5), ms(&latency, .99), ms(&ttft, .5), ms(&ttft, .99), first_error);
    return 0;
}
