/* One client: connect, upgrade, read frames, write frames. RFC 6455 without extensions; servers do not fragment what
 * these scenarios send, so a continuation frame ends the client. */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The example of RFC 6455, section 1.3: always the same key, so that its one right answer is a constant. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==", ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
static const unsigned char MASK[4] = {0x37, 0xfa, 0x21, 0x3d};

int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static void watch(struct load *load, struct client *client, int operation, bool wants_write) {
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = client};
    client->wants_write = wants_write;
    epoll_ctl(load->epoll, operation, client->fd, &event);
}

void client_close(struct load *load, struct client *client, const char *why) {
    if (client->phase == CLOSED) return;
    if (client->phase != READY) load->connecting--;
    if (!client->is_stalled && !load->closed++) fprintf(stderr, "load: client %d: %s\n", client->number, why);
    close(client->fd);
    client->phase = CLOSED;
}

/* 20,000 clients per source address: a port range holds about 28,000 of them. */
static void choose_source(struct client *client) {
    struct sockaddr_in source = {.sin_family = AF_INET};
    int one = 1;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(client->number / 20000));
    setsockopt(client->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
    bind(client->fd, (struct sockaddr *)&source, sizeof source);
}

void client_connect(struct load *load, struct client *client) {
    int one = 1, port = load->options.ports[client->number % load->options.target_count], small = 4096;
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    client->phase = CONNECTING;
    load->connecting++;
    if (client->fd < 0) {
        client_close(load, client, strerror(errno));
        return;
    }
    choose_source(client);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (client->is_stalled) setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (connect(client->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) {
        client_close(load, client, strerror(errno));
        return;
    }
    watch(load, client, EPOLL_CTL_ADD, true);
}

static void append(char **buffer, size_t *length, size_t *size, const char *bytes, size_t count) {
    if (*length + count > *size) {
        *size = (*length + count) * 2;
        *buffer = realloc(*buffer, *size);
        if (!*buffer) abort();
    }
    memcpy(*buffer + *length, bytes, count);
    *length += count;
}

static void queue(struct load *load, struct client *client, const char *bytes, size_t count) {
    if (!client->out_length) load->dirty[load->dirty_count++] = client;
    append(&client->out, &client->out_length, &client->out_size, bytes, count);
}

/* What clients write within one turn of the loop leaves together at its end (flush_all). */
void client_write(struct load *load, struct client *client, const char *text, size_t length) {
    char head[14] = {(char)0x81};
    size_t head_length;
    if (length < 126) {
        head[1] = (char)(0x80 | length);
        head_length = 2;
    } else if (length < 65536) {
        head[1] = (char)(0x80 | 126);
        head[2] = (char)(length >> 8);
        head[3] = (char)length;
        head_length = 4;
    } else {
        head[1] = (char)(0x80 | 127);
        for (int i = 0; i < 8; i++) head[2 + i] = (char)((uint64_t)length >> (56 - 8 * i));
        head_length = 10;
    }
    memcpy(head + head_length, MASK, 4);
    queue(load, client, head, head_length + 4);
    size_t start = client->out_length;
    append(&client->out, &client->out_length, &client->out_size, text, length);
    for (size_t i = 0; i < length; i++) client->out[start + i] ^= (char)MASK[i & 3];
}

void client_flush(struct load *load, struct client *client) {
    if (client->phase == CLOSED || client->phase == CONNECTING || !client->out_length) return;
    ssize_t sent = send(client->fd, client->out, client->out_length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        client_close(load, client, strerror(errno));
        return;
    }
    if (sent > 0) {
        client->out_length -= (size_t)sent;
        memmove(client->out, client->out + sent, client->out_length);
    }
    bool wants_write = client->out_length > 0;
    if (wants_write != client->wants_write) watch(load, client, EPOLL_CTL_MOD, wants_write);
}

void flush_all(struct load *load) {
    for (int i = 0; i < load->dirty_count; i++) client_flush(load, load->dirty[i]);
    load->dirty_count = 0;
}

static void upgrade(struct load *load, struct client *client) {
    char text[512];
    int port = load->options.ports[client->number % load->options.target_count];
    int length = snprintf(text, sizeof text,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nOrigin: http://127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          load->options.path, port, port, KEY);
    client->phase = UPGRADING;
    queue(load, client, text, (size_t)length);
}

/* Returns the bytes that the response took, 0 while it is incomplete. */
static size_t read_response(struct load *load, struct client *client, char *bytes, size_t length) {
    char *end = memmem(bytes, length, "\r\n\r\n", 4);
    if (!end) return 0;
    if (length < 12 || memcmp(bytes, "HTTP/1.1 101", 12) || !memmem(bytes, (size_t)(end - bytes), ACCEPT, sizeof ACCEPT - 1)) {
        char why[80];
        snprintf(why, sizeof why, "refused: %.*s", (int)(length < 60 ? length : 60), bytes);
        client_close(load, client, why);
        return 0;
    }
    dialect_upgraded(load, client);
    return (size_t)(end - bytes) + 4;
}

static void control_frame(struct load *load, struct client *client, int code, const char *text, size_t length) {
    if (code == 9) {
        char pong[6] = {(char)0x8a, (char)(0x80 | 0), 0, 0, 0, 0};
        pong[1] = (char)(0x80 | length);
        queue(load, client, pong, 6); /* a mask of zeroes: the text goes as it came */
        queue(load, client, text, length);
    } else if (code == 8) {
        char why[64];
        unsigned close_code = length < 2 ? 1005 : (unsigned)((unsigned char)text[0] << 8 | (unsigned char)text[1]);
        snprintf(why, sizeof why, "closed by the server with %u %.*s", close_code, length < 3 ? 0 : (int)(length > 30 ? 28 : length - 2), text + 2);
        client_close(load, client, why);
    } else if (code != 10) {
        client_close(load, client, "sent a frame that is not understood");
    }
}

/* Returns the bytes that the first frame takes, 0 while it is incomplete. */
static size_t read_frame(struct load *load, struct client *client, char *bytes, size_t length, int64_t now) {
    if (length < 2) return 0;
    unsigned char *head = (unsigned char *)bytes;
    size_t size = head[1] & 127, start = 2;
    if (size == 126) {
        if (length < 4) return 0;
        size = (size_t)head[2] << 8 | head[3];
        start = 4;
    } else if (size == 127) {
        if (length < 10) return 0;
        size = 0;
        for (int i = 2; i < 10; i++) size = size << 8 | head[i];
        start = 10;
    }
    if (length < start + size) return 0;
    if (head[0] == 0x81) dialect_frame(load, client, bytes + start, size, now);
    else control_frame(load, client, head[0] == 0x80 ? 0 : head[0] & 15, bytes + start, size);
    return start + size;
}

static void keep_rest(struct client *client, const char *bytes, size_t length) {
    client->rest_length = 0;
    if (length) append(&client->rest, &client->rest_length, &client->rest_size, bytes, length);
}

static void read_all(struct load *load, struct client *client, char *bytes, size_t length) {
    int64_t now = now_ns();
    size_t taken = 1;
    while (taken && length && client->phase != CLOSED) {
        taken = client->phase == UPGRADING ? read_response(load, client, bytes, length)
                                           : read_frame(load, client, bytes, length, now);
        bytes += taken;
        length -= taken;
    }
    keep_rest(client, bytes, length);
}

void client_readable(struct load *load, struct client *client) {
    if (client->phase == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error) client_close(load, client, strerror(error));
        else upgrade(load, client);
        return;
    }
    if (client->is_stalled && client->phase == READY) {
        epoll_ctl(load->epoll, EPOLL_CTL_DEL, client->fd, NULL);
        return;
    }
    memcpy(load->buffer, client->rest, client->rest_length);
    ssize_t got = recv(client->fd, load->buffer + client->rest_length, READ_BUFFER - client->rest_length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        client_close(load, client, got ? strerror(errno) : "connection lost");
        return;
    }
    load->tally->bytes += (uint64_t)got;
    read_all(load, client, load->buffer, client->rest_length + (size_t)got);
}
