/* Traffic to measure: `traffic serve PORT`, or `traffic WHAT ADDRESS PORT SECONDS`, which prints one number.
 *
 * WHAT is one of
 *   tcp_rr, udp_rr   microseconds for one byte there and back, one after another
 *   connect          connections opened, answered and closed, a second
 *   stream           megabytes a second through one TCP connection
 *   packets          UDP packets of 64 bytes that arrive, a second
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { ECHO = 'e', SINK = 's', COUNT = 'c', ASK = 'a', PIECE = 1 << 16, PACKET = 64 };

static void fail(const char *what) { perror(what); exit(1); }

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static socklen_t address_of(const char *text, int port, struct sockaddr_storage *found)
{
    struct sockaddr_in *four = (struct sockaddr_in *)found;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)found;
    memset(found, 0, sizeof *found);
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1) {
        fprintf(stderr, "%s is not an address\n", text);
        exit(1);
    }
    six->sin6_family = AF_INET6;
    six->sin6_port = htons(port);
    return sizeof *six;
}

static int reach(int type, const char *text, int port)
{
    struct sockaddr_storage there;
    socklen_t length = address_of(text, port, &there);
    struct timeval patience = {.tv_sec = 5};
    int on = 1, fd = socket(there.ss_family, type, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&there, length)) fail("connect");
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void serve_stream(int fd)
{
    static char piece[PIECE];
    char kind;
    int on = 1;
    ssize_t got;
    uint64_t total = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (read(fd, &kind, 1) != 1) exit(0);
    if (kind == ECHO) {
        do if (write(fd, &kind, 1) != 1) break;
        while (read(fd, &kind, 1) == 1);
    } else {
        while ((got = read(fd, piece, sizeof piece)) > 0) total += got;
        if (write(fd, &total, sizeof total) != sizeof total) fail("write");
    }
    exit(0);
}

static void serve_packets(int fd)
{
    char packet[PACKET];
    struct sockaddr_storage from;
    uint64_t counted = 0;
    for (;;) {
        socklen_t length = sizeof from;
        ssize_t got = recvfrom(fd, packet, sizeof packet, 0, (struct sockaddr *)&from, &length);
        if (got < 1) continue;
        if (packet[0] == COUNT) {
            counted++;
        } else if (packet[0] == ASK) {
            sendto(fd, &counted, sizeof counted, 0, (struct sockaddr *)&from, length);
            counted = 0;
        } else {
            sendto(fd, packet, got, 0, (struct sockaddr *)&from, length);
        }
    }
}

static void serve(int port)
{
    struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int off = 0, on = 1, room = 8 << 20;
    int stream = socket(AF_INET6, SOCK_STREAM, 0), packets = socket(AF_INET6, SOCK_DGRAM, 0);
    int both[] = {stream, packets};
    for (int i = 0; i < 2; i++) {
        setsockopt(both[i], IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        setsockopt(both[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(both[i], (struct sockaddr *)&here, sizeof here)) fail("bind");
    }
    setsockopt(packets, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (listen(stream, 128)) fail("listen");
    signal(SIGCHLD, SIG_IGN);
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve_packets(packets);
    }
    puts("ready");
    fflush(stdout);
    for (;;) {
        int fd = accept(stream, NULL, NULL);
        if (fd < 0) continue;
        if (fork() == 0) serve_stream(fd);
        close(fd);
    }
}

static double round_trip(int fd, double seconds)
{
    char byte = ECHO;
    double began = now();
    long trips = 0;
    while (now() - began < seconds) {
        for (int i = 0; i < 100; i++, trips++)
            if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("round trip");
    }
    return 1e6 * (now() - began) / trips;
}

static double connects(const char *text, int port, double seconds)
{
    struct linger at_once = {.l_onoff = 1};
    double began = now();
    long number = 0;
    for (; now() - began < seconds; number++) {
        char byte = ECHO;
        int fd = reach(SOCK_STREAM, text, port);
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("connection");
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* or the ports would run out */
        close(fd);
    }
    return number / (now() - began);
}

static double stream(const char *text, int port, double seconds)
{
    static char piece[PIECE];
    uint64_t arrived;
    int fd = reach(SOCK_STREAM, text, port);
    double began = now();
    piece[0] = SINK;
    while (now() - began < seconds)
        if (write(fd, piece, sizeof piece) < 0) fail("write");
    shutdown(fd, SHUT_WR);
    if (recv(fd, &arrived, sizeof arrived, MSG_WAITALL) != sizeof arrived) fail("stream");
    return arrived / 1e6 / (now() - began);
}

static double packets(const char *text, int port, double seconds)
{
    char packet[PACKET] = {ASK};
    uint64_t counted;
    int fd = reach(SOCK_DGRAM, text, port);
    if (write(fd, packet, 1) != 1 || read(fd, &counted, sizeof counted) != sizeof counted) fail("packets");
    double began = now(), took;
    packet[0] = COUNT;
    while (now() - began < seconds)
        for (int i = 0; i < 100; i++) (void)!write(fd, packet, sizeof packet);
    took = now() - began;
    packet[0] = ASK;
    if (write(fd, packet, 1) != 1 || read(fd, &counted, sizeof counted) != sizeof counted) fail("packets");
    return counted / took;
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "serve")) serve(atoi(words[2]));
    if (count != 5) {
        fprintf(stderr, "usage: traffic serve PORT | traffic WHAT ADDRESS PORT SECONDS\n");
        return 2;
    }
    const char *what = words[1], *text = words[2];
    int port = atoi(words[3]);
    double seconds = atof(words[4]), found;
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(what, "tcp_rr")) found = round_trip(reach(SOCK_STREAM, text, port), seconds);
    else if (!strcmp(what, "udp_rr")) found = round_trip(reach(SOCK_DGRAM, text, port), seconds);
    else if (!strcmp(what, "connect")) found = connects(text, port, seconds);
    else if (!strcmp(what, "stream")) found = stream(text, port, seconds);
    else if (!strcmp(what, "packets")) found = packets(text, port, seconds);
    else { fprintf(stderr, "%s is nothing to measure\n", what); return 2; }
    printf("%f\n", found);
    return 0;
}
