/* What is said on the wire. Both dialects know the same four things: a greeting that names the client, a join and its
 * answer, a publication to a room, and a private one to another client's id.
 *
 * plain      {"type":"welcome","id":C} · {"type":"authenticate",...} · {"type":"join","room":R} · {"type":"joined"} · {"type":"room",...} · {"type":"private",...}
 * Socket.IO  Engine.IO 4 over its websocket transport: 0{...} open, 2 ping, 3 pong, 4 message; inside a message
 *            Socket.IO 5: 0 connect, 2 event, 3 acknowledgement. Our nodes acknowledge a join, the peers emit "joined". (github.com/socketio/engine.io-protocol, .../socket.io-protocol) */
#include "load.h"

#include <string.h>

static void say(struct load *load, struct client *client, const char *text) {
    client_write(load, client, text, strlen(text));
}

static bool contains(const char *text, size_t length, const char *part) {
    return memmem(text, length, part, strlen(part)) != NULL;
}

static void keep_id(struct client *client, const char *text, size_t length, const char *key) {
    const char *found = memmem(text, length, key, strlen(key));
    if (!found) return;
    const char *start = found + strlen(key);
    const char *end = memchr(start, '"', (size_t)(text + length - start));
    if (!end || (size_t)(end - start) >= sizeof client->id) return;
    memcpy(client->id, start, (size_t)(end - start));
    client->id[end - start] = 0;
}

static void become_ready(struct load *load, struct client *client) {
    client->phase = READY;
    load->connecting--;
    load->ready++;
}

static void join(struct load *load, struct client *client) {
    char text[128];
    const char *format = load->options.is_socketio ? "420[\"join\",\"r%d\"]" : "{\"type\":\"join\",\"room\":\"r%d\"}";
    if (load->options.pairs) {
        become_ready(load, client);
        return;
    }
    snprintf(text, sizeof text, format, client->room);
    client->phase = JOINING;
    say(load, client, text);
}

static void authenticate(struct load *load, struct client *client) {
    char text[2048];
    snprintf(text, sizeof text, "{\"type\":\"authenticate\",\"token\":\"%s\"}", load->options.token);
    client->phase = AUTHENTICATING;
    say(load, client, text);
}

void dialect_upgraded(struct load *load, struct client *client) {
    (void)load;
    client->phase = GREETING;
}

static void strange(struct load *load, struct client *client, const char *text, size_t length) {
    if (!load->tally->strange++)
        fprintf(stderr, "load: client %d got %.*s\n", client->number, (int)(length > 300 ? 300 : length), text);
}

static void plain_frame(struct load *load, struct client *client, const char *text, size_t length) {
    if (client->phase == GREETING && contains(text, length, "\"welcome\"")) {
        keep_id(client, text, length, "\"id\":\"");
        if (!client->id[0]) keep_id(client, text, length, "\"id\": \"");
        if (load->options.token) authenticate(load, client);
        else join(load, client);
    } else if (client->phase == AUTHENTICATING && contains(text, length, "\"authenticated\"")) {
        join(load, client);
    } else if (client->phase == JOINING && contains(text, length, "\"joined\"")) {
        become_ready(load, client);
    } else {
        strange(load, client, text, length);
    }
}

static void socketio_frame(struct load *load, struct client *client, const char *text, size_t length) {
    if (length == 1 && text[0] == '2') {
        say(load, client, "3");
    } else if (client->phase == GREETING && text[0] == '0') {
        say(load, client, "40");
    } else if (client->phase == GREETING && length > 2 && !memcmp(text, "40", 2)) {
        keep_id(client, text, length, "\"sid\":\"");
        join(load, client);
    } else if (client->phase == JOINING && (contains(text, length, "\"joined\"") || contains(text, length, "\"ok\":true"))) {
        become_ready(load, client);
    } else if (length < 2 || memcmp(text, "43", 2)) { // an acknowledgement may come after the event that it is of
        strange(load, client, text, length);
    }
}

void dialect_frame(struct load *load, struct client *client, char *text, size_t length, int64_t now) {
    uint32_t message;
    int64_t sent_at;
    if (client->phase == READY && stamp_read(text, length, &message, &sent_at))
        tally_received(load->tally, client, message, sent_at, now);
    else if (load->options.is_socketio)
        socketio_frame(load, client, text, length);
    else
        plain_frame(load, client, text, length);
}

size_t dialect_publication(struct load *load, struct client *sender, const char *data, char *out, size_t size) {
    const char *to = load->options.pairs ? load->clients[sender->number + 1].id : NULL;
    int length;
    if (load->options.is_socketio && to)
        length = snprintf(out, size, "42[\"private\",\"%s\",\"%s\"]", to, data);
    else if (load->options.is_socketio)
        length = snprintf(out, size, "42[\"room\",\"r%d\",\"%s\"]", sender->room, data);
    else if (to)
        length = snprintf(out, size, "{\"type\":\"private\",\"to\":\"%s\",\"data\":\"%s\"}", to, data);
    else
        length = snprintf(out, size, "{\"type\":\"room\",\"room\":\"r%d\",\"data\":\"%s\"}", sender->room, data);
    return (size_t)length < size ? (size_t)length : size - 1;
}
