/* The marker in a payload: '@', eight hex digits of message number, sixteen of the time of sending, then filling.
 * No server that we measure sends an '@' in anything but a publication, so finding it is one memchr(). */
#include "load.h"

#include <string.h>

static const char DIGITS[] = "0123456789abcdef";

static uint64_t read_hex(const char *text, int length) {
    uint64_t value = 0;
    for (int i = 0; i < length; i++) {
        unsigned digit = (unsigned char)text[i];
        value = value << 4 | ((digit & 15) + (digit >> 6) * 9);
    }
    return value;
}

static void write_hex(char *text, int length, uint64_t value) {
    while (length--) {
        text[length] = DIGITS[value & 15];
        value >>= 4;
    }
}

void stamp_write(char *data, size_t length, uint32_t message, int64_t at) {
    data[0] = '@';
    write_hex(data + 1, 8, message);
    write_hex(data + 9, 16, (uint64_t)at);
    memset(data + STAMP_LENGTH, 'x', length - STAMP_LENGTH);
}

bool stamp_read(const char *text, size_t length, uint32_t *message, int64_t *at) {
    const char *found = memchr(text, '@', length);
    if (!found || text + length - found < STAMP_LENGTH) return false;
    *message = (uint32_t)read_hex(found + 1, 8);
    *at = (int64_t)read_hex(found + 9, 16);
    return true;
}
