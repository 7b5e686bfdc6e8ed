/* The CNI plugin that container runtimes execute: forwards one request to the agent and relays its answer.
 *
 * Does what shim.py does, in the time that an interpreter needs to find its own name. The protocol is described in
 * overlayd/wire/cni.py. Built static; of the C library it uses system calls, memory and snprintf only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET "/run/overlayd/cni.sock"
#define QUEUE "/run/overlayd/del-queue"
#define DEFAULT_VERSION "\"0.1.0\""
#define SUPPORTED "\"0.1.0\", \"0.2.0\", \"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\""

enum { SEND_PATIENCE = 15, ANSWER_PATIENCE = 35 }; /* seconds; a runtime gives up after 60 */
enum { DEL_SEND_PATIENCE = 3, DEL_ANSWER_PATIENCE = 7 }; /* for a DEL, which is queued then */
enum { IO_FAILURE = 5, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 }; /* codes of the CNI SPEC, section "Error" */
enum { DEPTH_MAX = 1000 };                         /* of nested JSON */

static const char *const VARIABLES[] = {
    "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH",
};
static const char *const SUPPORTED_VERSIONS[] = {
    "\"0.1.0\"", "\"0.2.0\"", "\"0.3.0\"", "\"0.3.1\"", "\"0.4.0\"", "\"1.0.0\"", "\"1.1.0\"",
};

struct bytes {
    char *at;
    size_t length, room;
};

static void append(struct bytes *to, const void *from, size_t length)
{
    if (to->length + length > to->room) {
        to->room = 2 * (to->length + length) + 4096;
        to->at = realloc(to->at, to->room);
        if (to->at == NULL) _exit(IO_FAILURE);
    }
    if (length) memcpy(to->at + to->length, from, length);
    to->length += length;
}

/* Append all that comes; return -1, with errno set, when reading fails. */
static int read_all(int fd, struct bytes *to)
{
    char piece[65536];
    for (;;) {
        ssize_t got = read(fd, piece, sizeof piece);
        if (got == 0) return 0;
        if (got > 0) append(to, piece, got);
        else if (errno != EINTR) return -1;
    }
}

static int write_all(int fd, const char *from, size_t length)
{
    while (length) {
        ssize_t put = write(fd, from, length);
        if (put < 0 && errno != EINTR) return -1;
        if (put > 0) {
            from += put;
            length -= put;
        }
    }
    return 0;
}

/* JSON (RFC 8259), read only to find one member of the outermost object. Each function returns where the value ends, or
 * NULL when it is none. The text ends with a NUL, which no value contains. */

static const char *value(const char *at, int depth);

static const char *space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

static const char *string(const char *at)
{
    if (*at++ != '"') return NULL;
    for (; *at != '"'; at++) {
        if ((unsigned char)*at < ' ') return NULL;
        if (*at != '\\') continue;
        at++;
        if (*at == 'u') {
            if (strspn(at + 1, "0123456789abcdefABCDEF") < 4) return NULL;
            at += 4;
        } else if (*at == '\0' || !strchr("\"\\/bfnrt", *at)) {
            return NULL;
        }
    }
    return at + 1;
}

static const char *digits(const char *at)
{
    size_t count = strspn(at, "0123456789");
    return count ? at + count : NULL;
}

static const char *number(const char *at)
{
    if (*at == '-') at++;
    at = *at == '0' ? at + 1 : digits(at);
    if (at && *at == '.') at = digits(at + 1);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = digits(at + (*at == '+' || *at == '-'));
    }
    return at;
}

static const char *word(const char *at)
{
    static const char *const words[] = {"true", "false", "null", "NaN", "Infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strncmp(at, words[i], strlen(words[i]))) return at + strlen(words[i]);
    return number(at);
}

/* Read an object; where `version` is given, let it point to the value of its last "cniVersion". */
static const char *object(const char *at, int depth, const char **version)
{
    at = space(at + 1);
    if (*at == '}') return at + 1;
    for (;;) {
        const char *name = at;
        if (!(at = string(at))) return NULL;
        int is_version = at - name == 12 && !memcmp(name, "\"cniVersion\"", 12);
        at = space(at);
        if (*at++ != ':') return NULL;
        at = space(at);
        if (version && is_version) *version = at;
        if (!(at = value(at, depth))) return NULL;
        at = space(at);
        if (*at == '}') return at + 1;
        if (*at++ != ',') return NULL;
        at = space(at);
    }
}

static const char *array(const char *at, int depth)
{
    at = space(at + 1);
    if (*at == ']') return at + 1;
    for (;;) {
        if (!(at = value(at, depth))) return NULL;
        at = space(at);
        if (*at == ']') return at + 1;
        if (*at++ != ',') return NULL;
        at = space(at);
    }
}

static const char *value(const char *at, int depth)
{
    if (depth > DEPTH_MAX) return NULL;
    if (*at == '{') return object(at, depth + 1, NULL);
    if (*at == '[') return array(at, depth + 1);
    return *at == '"' ? string(at) : word(at);
}

/* Return the version of the config, as a JSON string, or the one that a config without any has. */
static const char *version_of(struct bytes *config, size_t *length)
{
    const char *found = NULL, *end;
    append(config, "", 1);
    config->length--;
    const char *at = space(config->at);
    *length = strlen(DEFAULT_VERSION);
    if (*at != '{' || !(end = object(at, 0, &found)) || *space(end) || strlen(config->at) != config->length)
        return DEFAULT_VERSION;
    if (!found || *found != '"') return DEFAULT_VERSION;
    size_t size = string(found) - found;
    for (size_t i = 0; i < size; i++)
        if (found[i] & 0x80) return DEFAULT_VERSION; /* it may not even be UTF-8 */
    *length = size;
    return found;
}

static int answer_version(struct bytes *config)
{
    size_t length, known = sizeof SUPPORTED_VERSIONS / sizeof *SUPPORTED_VERSIONS;
    const char *asked = version_of(config, &length), *version = SUPPORTED_VERSIONS[known - 1];
    char answer[256];
    for (size_t i = 1; i < known; i++) /* 0.1.0 has no such operation: it stands for no version at all */
        if (length == strlen(SUPPORTED_VERSIONS[i]) && !memcmp(asked, SUPPORTED_VERSIONS[i], length))
            version = SUPPORTED_VERSIONS[i];
    int size = snprintf(answer, sizeof answer, "{\"cniVersion\": %s, \"supportedVersions\": [" SUPPORTED "]}\n", version);
    return write_all(STDOUT_FILENO, answer, size) ? 1 : 0;
}

/* Print a CNI error object; return the exit status. `why` is an errno, 0 for none. */
static int fail(struct bytes *config, int code, const char *message, int why)
{
    size_t length;
    const char *version = version_of(config, &length);
    char rest[512];
    struct bytes answer = {0};
    int size = snprintf(rest, sizeof rest, ", \"code\": %d, \"msg\": \"%s%s%s\"}\n", code, message, why ? ": " : "",
                        why ? strerrordesc_np(why) : "");
    append(&answer, "{\"cniVersion\": ", 15);
    append(&answer, version, length);
    append(&answer, rest, size);
    write_all(STDOUT_FILENO, answer.at, answer.length);
    return 1;
}

/* Leave a request to be executed later; return an errno. The file gets its name when it is whole. */
static int queue(const struct bytes *frame)
{
    char made[96], named[96];
    struct timespec now;
    if (mkdir(QUEUE, 0700) && errno == ENOENT) {
        mkdir("/run/overlayd", 0700);
        mkdir(QUEUE, 0700);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    long long time = now.tv_sec * 1000000000LL + now.tv_nsec;
    snprintf(made, sizeof made, QUEUE "/%lld-%d.new", time, (int)getpid());
    snprintf(named, sizeof named, QUEUE "/%lld-%d.del", time, (int)getpid());
    int fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int why = write_all(fd, frame->at, frame->length) ? errno : 0;
    if (close(fd) && !why) why = errno;
    if (!why && rename(made, named)) why = errno;
    if (why) unlink(made);
    return why;
}

/* Queue a DEL, which must succeed at any time; refuse everything else for now. */
static int agent_is_away(const char *command, const struct bytes *frame, struct bytes *config)
{
    int code = strcmp(command, "STATUS") ? TRY_AGAIN_LATER : NOT_AVAILABLE;
    if (strcmp(command, "DEL"))
        return fail(config, code, "the overlayd agent is not running: nothing listens on " SOCKET, 0);
    int why = queue(frame);
    if (why) return fail(config, IO_FAILURE, "the overlayd agent does not answer, and " QUEUE " cannot be written", why);
    return 0;
}

/* Send the request and read the whole answer, with so many seconds for each; return an errno. */
static int exchange(const struct bytes *frame, struct bytes *answer, int send_patience, int answer_patience)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX, .sun_path = SOCKET};
    struct timeval sending = {.tv_sec = send_patience}, answering = {.tv_sec = answer_patience};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &sending, sizeof sending); /* which connect() minds too */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &answering, sizeof answering);
    int why = connect(fd, (struct sockaddr *)&there, sizeof there) ? errno : 0;
    for (size_t sent = 0; !why && sent < frame->length;) {
        ssize_t put = send(fd, frame->at + sent, frame->length - sent, MSG_NOSIGNAL);
        if (put < 0 && errno != EINTR) why = errno;
        if (put > 0) sent += put;
    }
    if (!why) shutdown(fd, SHUT_WR);
    if (!why && read_all(fd, answer)) why = errno;
    close(fd);
    return why || answer->length ? why : ECONNRESET;
}

/* Have a DEL executed; return an errno. An agent that ends meanwhile may have another one behind it: ask once more. */
static int exchange_del(const struct bytes *frame, struct bytes *answer)
{
    int why = exchange(frame, answer, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE);
    if (why != ECONNRESET && why != EPIPE) return why;
    answer->length = 0;
    return exchange(frame, answer, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE);
}

int main(void)
{
    struct bytes config = {0}, frame = {0}, answer = {0};
    const char *command = getenv("CNI_COMMAND");
    if (command == NULL) command = "";
    signal(SIGXFSZ, SIG_IGN); /* a full disk is an errno */
    signal(SIGPIPE, SIG_IGN);
    if (!isatty(STDIN_FILENO) && read_all(STDIN_FILENO, &config) && errno != EBADF)
        return fail(&config, IO_FAILURE, "cannot read the network config on stdin", errno);
    if (!strcmp(command, "VERSION")) return answer_version(&config);
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) {
        const char *found = getenv(VARIABLES[i]);
        if (found == NULL) continue;
        append(&frame, VARIABLES[i], strlen(VARIABLES[i]));
        append(&frame, "=", 1);
        append(&frame, found, strlen(found) + 1);
    }
    append(&frame, "", 1);
    append(&frame, config.at, config.length);
    int is_del = !strcmp(command, "DEL");
    int why = is_del ? exchange_del(&frame, &answer) : exchange(&frame, &answer, SEND_PATIENCE, ANSWER_PATIENCE);
    if (why == ECONNREFUSED || why == ENOENT || (why && is_del)) return agent_is_away(command, &frame, &config);
    if (why) return fail(&config, TRY_AGAIN_LATER, "the overlayd agent did not answer on " SOCKET, why);
    if (write_all(STDOUT_FILENO, answer.at + 1, answer.length - 1)) return 1;
    return answer.at[0] == '0' ? 0 : 1;
}
