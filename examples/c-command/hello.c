/* A program that knows nothing of the host: it answers the line that it reads with `Hello NAME!`. */
#include <stdio.h>
#include <string.h>

int main(void) {
    char name[1024];
    if (!fgets(name, sizeof name, stdin)) name[0] = '\0';
    name[strcspn(name, "\r\n")] = '\0';
    printf("Hello %s!\n", *name ? name : "world");
    return ferror(stdin) || fflush(stdout) == EOF;
}
