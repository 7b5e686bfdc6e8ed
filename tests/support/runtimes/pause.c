/* What runs in a container of the tests: waits to be told to end. As process 1 it must ask for a signal to get it. */
#include <signal.h>

int main(void)
{
    sigset_t endings;
    int number;

    sigemptyset(&endings);
    sigaddset(&endings, SIGINT);
    sigaddset(&endings, SIGTERM);
    sigprocmask(SIG_BLOCK, &endings, 0);
    return sigwait(&endings, &number);
}
