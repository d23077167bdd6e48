/* A program of WASI 0.1, as a C library makes them, that does what its first line says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

static __attribute__((noinline)) int boom(const char *line) {
    if (line[0] == 'b') __builtin_trap();
    return line[0];
}

int main(int count, char **arguments) {
    char line[256];
    if (!fgets(line, sizeof line, stdin)) return ferror(stdin) ? 1 : 0;
    line[strcspn(line, "\n")] = '\0';
    if (!strcmp(line, "variables")) {
        for (char **variable = environ; *variable; variable++) puts(*variable);
    } else if (!strcmp(line, "arguments")) {
        for (int i = 0; i < count; i++) puts(arguments[i]);
    } else if (!strcmp(line, "count")) {
        long bytes = 0;
        while (getchar() != EOF) bytes++;
        printf("%ld\n", bytes);
    } else if (!strncmp(line, "fill ", 5)) {
        for (long bytes = atol(line + 5); bytes > 0; bytes--) putchar('x');
    } else if (!strncmp(line, "leave ", 6)) {
        puts("leaving");
        exit(atoi(line + 6));
    } else if (!strncmp(line, "log ", 4)) {
        fprintf(stderr, "%s\n", line + 4);
        puts("said");
    } else if (!strncmp(line, "read ", 5)) {
        FILE *file = fopen(line + 5, "r");
        if (!file) {
            perror("fopen");
            return 1;
        }
        for (int byte; (byte = getc(file)) != EOF;) putchar(byte);
    } else if (!strncmp(line, "take ", 5)) {
        volatile char *taken = malloc(atol(line + 5));
        if (taken) taken[0] = 1;
        puts(taken ? "taken" : "refused");
    } else if (!strcmp(line, "boom")) {
        return boom(line);
    }
    return 0;
}
