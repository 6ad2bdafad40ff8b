/* The limit: what fanning out costs when there is nothing but the kernel. One epoll loop, one thread, no backplane;
 * a publication is one prebuilt frame and one send() per member.
 *
 * It speaks the plain dialect of the load generator and trusts it: the upgrade is answered without reading the key
 * (the generator always sends the key of RFC 6455's example), JSON is searched for what is needed.
 *
 * Usage: limit PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOMS = 4096, CLIENTS = 65536, BUFFER = 1 << 20 };

struct client {
    int fd;
    int room;                            /* -1: none */
    bool is_upgraded;
    char *rest, *out;                    /* an incomplete frame; bytes that the kernel did not take */
    size_t rest_length, out_length;
};

struct room {
    struct client **members;
    int count, size;
};

static struct client *clients[CLIENTS];  /* by file descriptor, which is also a client's id */
static struct room rooms[ROOMS];
static int loop;
static char buffer[BUFFER], frame[BUFFER];
static const char RESPONSE[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static void watch(struct client *client, int operation, unsigned events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(loop, operation, client->fd, &event);
}

static void leave(struct client *client) {
    if (client->room < 0) return;
    struct room *room = &rooms[client->room];
    for (int i = 0; i < room->count; i++)
        if (room->members[i] == client) room->members[i] = room->members[--room->count];
    client->room = -1;
}

static void drop(struct client *client) {
    leave(client);
    clients[client->fd] = NULL;
    close(client->fd);
    free(client->rest);
    free(client->out);
    free(client);
}

static void push(struct client *client, const char *bytes, size_t length) {
    ssize_t sent = client->out_length ? 0 : send(client->fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0) sent = 0;
    if ((size_t)sent == length) return;
    if (!client->out_length) watch(client, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    client->out = realloc(client->out, client->out_length + length - (size_t)sent);
    memcpy(client->out + client->out_length, bytes + sent, length - (size_t)sent);
    client->out_length += length - (size_t)sent;
}

static void flush(struct client *client) {
    ssize_t sent = send(client->fd, client->out, client->out_length, MSG_NOSIGNAL);
    if (sent <= 0) return;
    client->out_length -= (size_t)sent;
    memmove(client->out, client->out + sent, client->out_length);
    if (!client->out_length) watch(client, EPOLL_CTL_MOD, EPOLLIN);
}

/* Puts a text frame into `frame`; returns its length. */
static size_t build_frame(const char *text, size_t length) {
    size_t head = 2;
    frame[0] = (char)0x81;
    if (length < 126) {
        frame[1] = (char)length;
    } else if (length < 65536) {
        frame[1] = 126;
        frame[2] = (char)(length >> 8);
        frame[3] = (char)length;
        head = 4;
    } else {
        frame[1] = 127;
        for (int i = 0; i < 8; i++) frame[2 + i] = (char)((unsigned long)length >> (56 - 8 * i));
        head = 10;
    }
    memcpy(frame + head, text, length);
    return head + length;
}

static void reply(struct client *client, const char *text) {
    push(client, frame, build_frame(text, strlen(text)));
}

static void join(struct client *client, int number) {
    struct room *room = &rooms[number];
    if (room->count == room->size) {
        room->size = room->size * 2 + 8;
        room->members = realloc(room->members, sizeof *room->members * (size_t)room->size);
    }
    room->members[room->count++] = client;
    client->room = number;
    reply(client, "{\"type\":\"joined\"}");
}

static int number_after(const char *text, size_t length, const char *key) {
    const char *found = memmem(text, length, key, strlen(key));
    return found ? atoi(found + strlen(key)) : -1;
}

static void publish(struct client *sender, int number, const char *data) {
    static char text[BUFFER];
    int length = snprintf(text, sizeof text, "{\"type\":\"room\",\"room\":\"r%d\",\"from\":\"%d\",%s", number, sender->fd, data);
    size_t size = build_frame(text, (size_t)length);
    for (int i = 0; i < rooms[number].count; i++)
        if (rooms[number].members[i] != sender) push(rooms[number].members[i], frame, size);
}

static void command(struct client *client, char *text, size_t length) {
    char after = text[length], *data = memmem(text, length, "\"data\":", 7);
    int room = number_after(text, length, "\"room\":\"r"), to = number_after(text, length, "\"to\":\"");
    text[length] = 0;
    if (data && to >= 0 && to < CLIENTS && clients[to]) push(clients[to], frame, build_frame(text, length));
    else if (data && room >= 0 && room < ROOMS) publish(client, room, data);
    else if (room >= 0 && room < ROOMS) join(client, room);
    text[length] = after;
}

/* Returns the bytes that the first frame (or the request) takes, 0 while it is incomplete. */
static size_t take(struct client *client, char *bytes, size_t length) {
    if (!client->is_upgraded) {
        char *end = memmem(bytes, length, "\r\n\r\n", 4), text[64];
        if (!end) return 0;
        client->is_upgraded = true;
        push(client, RESPONSE, sizeof RESPONSE - 1);
        snprintf(text, sizeof text, "{\"type\":\"welcome\",\"id\":\"%d\"}", client->fd);
        reply(client, text);
        return (size_t)(end - bytes) + 4;
    }
    unsigned char *head = (unsigned char *)bytes;
    if (length < 2) return 0;
    size_t size = head[1] & 127, start = size == 126 ? 8 : size == 127 ? 14 : 6;
    if (length < start) return 0;
    if (start == 8) size = (size_t)head[2] << 8 | head[3];
    if (start == 14) size = (size_t)head[6] << 24 | (size_t)head[7] << 16 | (size_t)head[8] << 8 | head[9];
    if (length < start + size) return 0;
    for (size_t i = 0; i < size; i++) bytes[start + i] ^= bytes[start - 4 + (i & 3)];
    if (head[0] == 0x81) command(client, bytes + start, size);
    return start + size;
}

static void readable(struct client *client) {
    memcpy(buffer, client->rest, client->rest_length);
    ssize_t got = recv(client->fd, buffer + client->rest_length, BUFFER - 1 - client->rest_length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        drop(client);
        return;
    }
    char *bytes = buffer;
    size_t length = client->rest_length + (size_t)got, taken;
    while (length && (taken = take(client, bytes, length))) {
        bytes += taken;
        length -= taken;
    }
    client->rest = length ? realloc(client->rest, length) : client->rest;
    if (length) memcpy(client->rest, bytes, length);
    client->rest_length = length;
}

static void accept_all(int listener) {
    for (int fd, one = 1; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        if (fd >= CLIENTS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = calloc(1, sizeof **clients);
        clients[fd]->fd = fd;
        clients[fd]->room = -1;
        watch(clients[fd], EPOLL_CTL_ADD, EPOLLIN);
    }
}

static int listen_on(int port) {
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("limit");
        exit(1);
    }
    return listener;
}

int main(int argc, char **argv) {
    struct rlimit files;
    struct epoll_event events[512];
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    loop = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(loop, events, 512, -1);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) accept_all(listener);
            else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(client);
            else if (events[i].events & EPOLLOUT) flush(client);
        }
    }
}
