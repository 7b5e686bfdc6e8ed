/* The plugin that container runtimes execute, for CNI and for netavark: forwards one request and relays the answer.
 *
 * Its behaviour is the same as that of shim.py, to the byte, without the start of an interpreter. The protocol is
 * described in overlayd/wire/cni/requests.py. Linked statically; of the C library it uses system calls, memory and strings only.
 * Linked with musl it starts in 0.09 ms, with glibc in 0.56: glibc first queries the processor's features (CPUID), which
 * a virtual machine must ask its host for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define VERSION "0.2.0" /* of overlayd */
#define SOCKET "/run/overlayd/cni.sock"
#define QUEUE "/run/overlayd/del-queue"
#define NETAVARK_SOCKET "/run/overlayd/netavark.sock"
#define NETAVARK_QUEUE "/run/overlayd/teardown-queue"
/* For users who are not root. Their plugin has another /run: podman gives it a mount namespace for that. */
#define USERS_SOCKET "/var/lib/overlayd-users/netavark.sock"
#define SUPPORTED "\"0.1.0\", \"0.2.0\", \"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\""

enum { SEND_PATIENCE = 15, ANSWER_PATIENCE = 35 }; /* seconds; a runtime gives up after 60 */
enum { DEL_SEND_PATIENCE = 3, DEL_ANSWER_PATIENCE = 7 }; /* for a DEL, which is queued then, in seconds */
/* Codes of the CNI SPEC, section "Error". */
enum { IO_FAILURE = 5, INVALID_CONFIG = 7, TRY_AGAIN_LATER = 11, NOT_AVAILABLE = 50 };
enum { STDIN_MAX = 1 << 22 };                      /* bytes: a GC that lists 10,000 containers needs half of it */
enum { DEPTH_MAX = 200 };                          /* the deepest nesting of JSON */

static const char *const VARIABLES[] = {
    "CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH",
};
static const char *const SUPPORTED_VERSIONS[] = {"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
enum { VERSIONS = sizeof SUPPORTED_VERSIONS / sizeof *SUPPORTED_VERSIONS };

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

/* Read to the end, or until there are more bytes than `limit`; return -1, with errno set, when reading fails. */
static int read_all(int fd, struct bytes *to, size_t limit)
{
    char piece[65536];
    for (;;) {
        if (to->length > limit) return 0;
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

/* A JSON parser (RFC 8259) that finds one member of the outermost object. Each function returns the end of the value,
 * or NULL when it is malformed. The text ends with a NUL, which no value contains. UTF-8 and depth are checked before. */

static const char *value(const char *at);

/* Return whether a text is UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF. */
static int is_utf8(const unsigned char *at)
{
    while (*at) {
        int more = *at < 0x80 ? 0 : *at < 0xc2 ? -1 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf5 ? 3 : -1;
        unsigned char first = *at == 0xe0 ? 0xa0 : *at == 0xf0 ? 0x90 : 0x80;
        unsigned char last = *at == 0xed ? 0x9f : *at == 0xf4 ? 0x8f : 0xbf;
        if (more < 0) return 0;
        for (at++; more; more--, at++, first = 0x80, last = 0xbf)
            if (*at < first || *at > last) return 0;
    }
    return 1;
}

/* Return whether brackets are nested too deeply to be read. Those in strings nest nothing. */
static int is_deep(const char *at)
{
    for (int depth = 0, quoted = 0; *at; at++) {
        if (*at == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        else if (*at == '\\' && at[1])
            at++;
        if (depth > DEPTH_MAX) return 1;
    }
    return 0;
}

/* Return whether a valid JSON string means `text`, which consists of letters, digits and dots. */
static int stands_for(const char *at, const char *text)
{
    for (at++; *at != '"'; at++, text++) {
        unsigned character = (unsigned char)*at;
        if (*at == '\\') {
            if (*++at != 'u') return 0;
            char digits[5] = {at[1], at[2], at[3], at[4], 0};
            character = strtoul(digits, NULL, 16);
            at += 4;
        }
        if (character != (unsigned char)*text || !*text) return 0;
    }
    return !*text;
}

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

/* Parse an object; if `version` is not NULL, set it to the value of the last "cniVersion". */
static const char *object(const char *at, const char **version)
{
    at = space(at + 1);
    if (*at == '}') return at + 1;
    for (;;) {
        const char *name = at;
        if (!(at = string(at))) return NULL;
        int is_version = version && stands_for(name, "cniVersion");
        at = space(at);
        if (*at++ != ':') return NULL;
        at = space(at);
        if (is_version) *version = at;
        if (!(at = value(at))) return NULL;
        at = space(at);
        if (*at == '}') return at + 1;
        if (*at++ != ',') return NULL;
        at = space(at);
    }
}

static const char *array(const char *at)
{
    at = space(at + 1);
    if (*at == ']') return at + 1;
    for (;;) {
        if (!(at = value(at))) return NULL;
        at = space(at);
        if (*at == ']') return at + 1;
        if (*at++ != ',') return NULL;
        at = space(at);
    }
}

static const char *value(const char *at)
{
    if (*at == '{') return object(at, NULL);
    if (*at == '[') return array(at);
    return *at == '"' ? string(at) : word(at);
}

/* Return the version of the config if it is a supported one, or else the one that a config without any has. */
static const char *version_of(struct bytes *config)
{
    const char *found = NULL, *end;
    append(config, "", 1);
    config->length--;
    if (strlen(config->at) != config->length || is_deep(config->at) || !is_utf8((unsigned char *)config->at))
        return SUPPORTED_VERSIONS[0];
    const char *at = space(config->at);
    if (*at != '{' || !(end = object(at, &found)) || *space(end) || !found || *found != '"')
        return SUPPORTED_VERSIONS[0];
    for (size_t i = 0; i < VERSIONS; i++)
        if (stands_for(found, SUPPORTED_VERSIONS[i])) return SUPPORTED_VERSIONS[i];
    return SUPPORTED_VERSIONS[0];
}

static int answer_version(struct bytes *config)
{
    const char *version = version_of(config);
    char answer[256];
    /* SPEC 0.1.0 has no VERSION operation, so here it means that the config has no supported version. */
    if (version == SUPPORTED_VERSIONS[0]) version = SUPPORTED_VERSIONS[VERSIONS - 1];
    int size =
        snprintf(answer, sizeof answer, "{\"cniVersion\": \"%s\", \"supportedVersions\": [" SUPPORTED "]}\n", version);
    return write_all(STDOUT_FILENO, answer, size) ? 1 : 0;
}

/* What shim.py says of an errno: the texts of glibc, where those of other C libraries differ. */
static const char *const TEXTS[] = {
    [EIO] = "Input/output error",
    [ECHILD] = "No child processes",
    [ENOMEM] = "Cannot allocate memory",
    [EBUSY] = "Device or resource busy",
    [EXDEV] = "Invalid cross-device link",
    [EMFILE] = "Too many open files",
    [ENOTTY] = "Inappropriate ioctl for device",
    [ESPIPE] = "Illegal seek",
    [EDOM] = "Numerical argument out of domain",
    [ERANGE] = "Numerical result out of range",
    [EDEADLOCK] = "Resource deadlock avoided",
    [ENAMETOOLONG] = "File name too long",
    [ELOOP] = "Too many levels of symbolic links",
    [ETIME] = "Timer expired",
    [EOVERFLOW] = "Value too large for defined data type",
    [EILSEQ] = "Invalid or incomplete multibyte or wide character",
    [ENOTSOCK] = "Socket operation on non-socket",
    [EMSGSIZE] = "Message too long",
    [ENOTSUP] = "Operation not supported",
    [EADDRINUSE] = "Address already in use",
    [EADDRNOTAVAIL] = "Cannot assign requested address",
    [ENETUNREACH] = "Network is unreachable",
    [ENETRESET] = "Network dropped connection on reset",
    [ECONNABORTED] = "Software caused connection abort",
    [EISCONN] = "Transport endpoint is already connected",
    [ENOTCONN] = "Transport endpoint is not connected",
    [ESHUTDOWN] = "Cannot send after transport endpoint shutdown",
    [ETIMEDOUT] = "Connection timed out",
    [EHOSTUNREACH] = "No route to host",
    [EINPROGRESS] = "Operation now in progress",
    [EUCLEAN] = "Structure needs cleaning",
    [EDQUOT] = "Disk quota exceeded",
    [EOWNERDEAD] = "Owner died",
};

static const char *text_of(int why)
{
    size_t texts = sizeof TEXTS / sizeof *TEXTS;
    return (size_t)why < texts && TEXTS[why] ? TEXTS[why] : strerror(why);
}

/* Print a CNI error object; return the exit status. `why` is an errno, 0 for none. */
static int fail(struct bytes *config, int code, const char *message, int why)
{
    char answer[512];
    int size = snprintf(answer, sizeof answer, "{\"cniVersion\": \"%s\", \"code\": %d, \"msg\": \"%s%s%s\"}\n",
                        version_of(config), code, message, why ? ": " : "", why ? text_of(why) : "");
    write_all(STDOUT_FILENO, answer, size);
    return 1;
}

/* Occupy closed standard streams. Otherwise the socket could get the descriptor of stdout and receive the answer. */
static void hold_standard_streams(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO) fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd > STDERR_FILENO) close(fd);
}

/* Print the version for people and for Nomad, which executes every plugin like this; return the exit status. The
 * reference plugins print the same lines to the same stream. Nomad may itself have a CNI_PATH. */
static int tell_version(void)
{
    char lines[256];
    int size = snprintf(lines, sizeof lines, "CNI overlayd plugin v" VERSION "\nCNI protocol versions supported: ");
    for (size_t i = 0; i < VERSIONS; i++)
        size += snprintf(lines + size, sizeof lines - size, "%s%s", SUPPORTED_VERSIONS[i], i + 1 < VERSIONS ? ", " : "\n");
    return write_all(STDERR_FILENO, lines, size) ? 1 : 0;
}

/* Return whether no variable of a request is set. */
static int is_asked_nothing(void)
{
    for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++)
        if (strcmp(VARIABLES[i], "CNI_PATH") && getenv(VARIABLES[i])) return 0;
    return 1;
}

/* Store a request for the next agent; return an errno. The file gets its final name when it is complete. */
static int queue(const char *directory, const struct bytes *frame, const char *suffix)
{
    char made[96], named[96];
    struct timespec now;
    if (mkdir(directory, 0700) && errno == ENOENT) {
        mkdir("/run/overlayd", 0700);
        mkdir(directory, 0700);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    long long time = now.tv_sec * 1000000000LL + now.tv_nsec;
    snprintf(made, sizeof made, "%s/%lld-%d.new", directory, time, (int)getpid());
    snprintf(named, sizeof named, "%s/%lld-%d.%s", directory, time, (int)getpid(), suffix);
    int fd = open(made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    int why = write_all(fd, frame->at, frame->length) ? errno : 0;
    if (close(fd) && !why) why = errno;
    if (!why && rename(made, named)) why = errno;
    if (why) unlink(made);
    return why;
}

/* Queue a DEL, which must always succeed; answer everything else with an error for now. */
static int agent_is_away(const char *command, const struct bytes *frame, struct bytes *config)
{
    int code = strcmp(command, "STATUS") ? TRY_AGAIN_LATER : NOT_AVAILABLE;
    if (strcmp(command, "DEL"))
        return fail(config, code, "the overlayd agent is not running: nothing listens on " SOCKET, 0);
    int why = queue(QUEUE, frame, "del");
    if (why) return fail(config, IO_FAILURE, "the overlayd agent does not answer, and " QUEUE " cannot be written", why);
    return 0;
}

/* Send a request, and with its first bytes a descriptor (unix(7), SCM_RIGHTS) unless that is negative; return an errno. */
static int send_all(int fd, const struct bytes *frame, int handed)
{
    union {
        char room[CMSG_SPACE(sizeof handed)];
        struct cmsghdr aligned;
    } control = {0};
    for (size_t sent = 0; sent < frame->length;) {
        struct iovec rest = {.iov_base = frame->at + sent, .iov_len = frame->length - sent};
        struct msghdr message = {.msg_iov = &rest, .msg_iovlen = 1};
        if (!sent && handed >= 0) {
            message.msg_control = control.room;
            message.msg_controllen = sizeof control.room;
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof handed);
            memcpy(CMSG_DATA(header), &handed, sizeof handed);
        }
        ssize_t put = sendmsg(fd, &message, MSG_NOSIGNAL);
        if (put < 0 && errno != EINTR) return errno;
        if (put > 0) sent += put;
    }
    return 0;
}

/* Send the request and read the whole answer; return an errno. The time limits are in seconds. To a user whom it refuses
 * the agent answers and hangs up, without reading the request: then the answer counts. */
static int exchange(const char *path, const struct bytes *frame, int handed, struct bytes *answer, int send_patience,
                    int answer_patience)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    struct timeval sending = {.tv_sec = send_patience}, answering = {.tv_sec = answer_patience};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return errno;
    strcpy(there.sun_path, path);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &sending, sizeof sending); /* also the limit of connect() */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &answering, sizeof answering);
    int why;
    do why = connect(fd, (struct sockaddr *)&there, sizeof there) ? errno : 0;
    while (why == EINTR); /* a process that was stopped and continued (signal(7)) */
    if (!why) why = send_all(fd, frame, handed);
    if (!why) shutdown(fd, SHUT_WR);
    if (!why && read_all(fd, answer, SIZE_MAX)) why = errno;
    if (why == EPIPE) read_all(fd, answer, SIZE_MAX);
    close(fd);
    if ((why == EPIPE || why == ECONNRESET) && answer->length && !strcmp(path, USERS_SOCKET)) return 0;
    return why || answer->length ? why : ECONNRESET;
}

/* Send a DEL; return an errno. When the agent ends before it answers, try once more: another may have been started. */
static int exchange_del(const char *path, const struct bytes *frame, struct bytes *answer)
{
    int why = exchange(path, frame, -1, answer, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE);
    if (why != ECONNRESET && why != EPIPE) return why;
    answer->length = 0;
    return exchange(path, frame, -1, answer, DEL_SEND_PATIENCE, DEL_ANSWER_PATIENCE);
}

/* Print an error as netavark wants it; return the exit status. `why` is an errno, 0 for none. */
static int refuse(const char *reason, int why)
{
    char answer[512];
    int size = snprintf(answer, sizeof answer, "{\"error\": \"overlayd: %s%s%s\"}\n", reason, why ? ": " : "",
                        why ? text_of(why) : "");
    write_all(STDOUT_FILENO, answer, size);
    return 1;
}

/* Return whether this runs in a user namespace of its own, -1 with errno set when that cannot be read. */
static int is_mapped(void)
{
    char text[256];
    unsigned long inside, outside, count;
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    int why = errno;
    if (fd >= 0) close(fd);
    errno = why;
    if (got < 0) return -1;
    text[got] = 0;
    return sscanf(text, "%lu %lu %lu", &inside, &outside, &count) != 3 || inside || outside || count != 4294967295;
}

/* Execute an operation for a user who is not root, with the descriptor of the namespace: the agent cannot find it by
 * its path. Return the exit status. A teardown always succeeds, as podman never repeats it; without an agent, or when
 * that fails, the agent frees the addresses when the namespace is gone. */
static int serve_user(const char *operation, const char *namespace, const struct bytes *frame)
{
    struct bytes answer = {0};
    if (!strcmp(operation, "teardown")) {
        exchange_del(USERS_SOCKET, frame, &answer);
        return 0;
    }
    int handed = -1;
    if (!strcmp(operation, "setup") && (handed = open(namespace, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) < 0)
        return refuse("the namespace of the container cannot be opened", errno);
    int why = exchange(USERS_SOCKET, frame, handed, &answer, SEND_PATIENCE, ANSWER_PATIENCE);
    if (why == ECONNREFUSED || why == ENOENT)
        return refuse("podman without root is not allowed on this host: nothing listens on " USERS_SOCKET
                      "; allow-user in /etc/overlayd/agent.toml names users and their networks", 0);
    if (why == EACCES)
        return refuse("this user may use no network of this host"
                      "; allow-user in /etc/overlayd/agent.toml names users and their networks", 0);
    if (why) return refuse("the overlayd agent did not answer on " USERS_SOCKET, why);
    if (write_all(STDOUT_FILENO, answer.at + 1, answer.length - 1)) return 1;
    return answer.at[0] == '0' ? 0 : 1;
}

/* Execute one operation of netavark's plugin API; return the exit status. */
static int serve_netavark(const char *operation, const char *namespace)
{
    struct bytes config = {0}, frame = {0}, answer = {0};
    if (!strcmp(operation, "info")) {
        const char *info = "{\"version\": \"" VERSION "\", \"api_version\": \"1.0.0\"}\n";
        return write_all(STDOUT_FILENO, info, strlen(info)) ? 1 : 0;
    }
    int is_teardown = !strcmp(operation, "teardown");
    if (!is_teardown && strcmp(operation, "create") && strcmp(operation, "setup"))
        return refuse("the operation is not one of info, create, setup, teardown", 0);
    hold_standard_streams();
    int mapped = !isatty(STDIN_FILENO) && read_all(STDIN_FILENO, &config, STDIN_MAX) ? -1 : is_mapped();
    if (mapped < 0) return refuse("cannot read stdin and /proc/self/uid_map", errno);
    if (config.length > STDIN_MAX) return refuse("stdin is longer than 4194304 bytes", 0);
    append(&frame, "NETAVARK_COMMAND=", 17);
    append(&frame, operation, strlen(operation) + 1);
    append(&frame, "NETAVARK_NETNS=", 15);
    append(&frame, namespace, strlen(namespace) + 1);
    append(&frame, "", 1);
    append(&frame, config.at, config.length);
    if (mapped) return serve_user(operation, namespace, &frame);
    int why = is_teardown ? exchange_del(NETAVARK_SOCKET, &frame, &answer)
                          : exchange(NETAVARK_SOCKET, &frame, -1, &answer, SEND_PATIENCE, ANSWER_PATIENCE);
    if (why && is_teardown) {
        why = queue(NETAVARK_QUEUE, &frame, "teardown");
        if (why) return refuse("the overlayd agent does not answer, and " NETAVARK_QUEUE " cannot be written", why);
        return 0;
    }
    if (why == ECONNREFUSED || why == ENOENT)
        return refuse("the overlayd agent is not running: nothing listens on " NETAVARK_SOCKET, 0);
    if (why) return refuse("the overlayd agent did not answer on " NETAVARK_SOCKET, why);
    if (write_all(STDOUT_FILENO, answer.at + 1, answer.length - 1)) return 1;
    return answer.at[0] == '0' ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct bytes config = {0}, frame = {0}, answer = {0};
    const char *command = getenv("CNI_COMMAND");
    signal(SIGXFSZ, SIG_IGN); /* then a write beyond the file size limit is an errno */
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1) return serve_netavark(argv[1], argc > 2 ? argv[2] : ""); /* only netavark gives arguments */
    if (is_asked_nothing()) return tell_version();
    if (command == NULL) command = "";
    hold_standard_streams();
    if (!isatty(STDIN_FILENO) && read_all(STDIN_FILENO, &config, STDIN_MAX)) {
        config.length = 0;
        return fail(&config, IO_FAILURE, "cannot read the network config on stdin", errno);
    }
    if (config.length > STDIN_MAX) {
        config.length = 0;
        return fail(&config, INVALID_CONFIG, "the network config on stdin is longer than 4194304 bytes", 0);
    }
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
    int why = is_del ? exchange_del(SOCKET, &frame, &answer) : exchange(SOCKET, &frame, -1, &answer, SEND_PATIENCE, ANSWER_PATIENCE);
    if (why == ECONNREFUSED || why == ENOENT || (why && is_del)) return agent_is_away(command, &frame, &config);
    if (why) return fail(&config, TRY_AGAIN_LATER, "the overlayd agent did not answer on " SOCKET, why);
    if (write_all(STDOUT_FILENO, answer.at + 1, answer.length - 1)) return 1;
    return answer.at[0] == '0' ? 0 : 1;
}
