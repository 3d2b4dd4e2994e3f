/*
 * Makes system calls of one kind in a loop, and prints how many it made in a second:
 *
 *   calls getpid COUNT       getpid, which an application kernel answers by itself
 *   calls pipe COUNT         writes 64 bytes to a pipe and reads them back: two calls each
 *   calls file COUNT PATH    writes 64 bytes to a file and reads them back: two calls each
 *
 * It times itself, so that starting it does not count.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 64

static double now_s(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

/* The C library may remember the answer: only the call itself asks the kernel. */
static int loop_getpid(long count)
{
	for (long index = 0; index < count; index++)
		if (syscall(SYS_getpid) <= 0)
			return fail("getpid");
	return 0;
}

static int loop_pipe(long count)
{
	char block[BLOCK] = { 0 };
	int ends[2];

	if (pipe(ends) != 0)
		return fail("pipe");
	for (long index = 0; index < count; index++)
		if (write(ends[1], block, BLOCK) != BLOCK || read(ends[0], block, BLOCK) != BLOCK)
			return fail("pipe");
	return 0;
}

static int loop_file(long count, const char *path)
{
	char block[BLOCK] = { 0 };
	int file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (file < 0)
		return fail(path);
	for (long index = 0; index < count; index++)
		if (pwrite(file, block, BLOCK, 0) != BLOCK || pread(file, block, BLOCK, 0) != BLOCK)
			return fail(path);
	return 0;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 2 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;
	int calls = strcmp(kind, "getpid") == 0 ? 1 : 2;
	double begin = now_s();
	int status;

	if (strcmp(kind, "getpid") == 0)
		status = loop_getpid(count);
	else if (strcmp(kind, "pipe") == 0)
		status = loop_pipe(count);
	else if (strcmp(kind, "file") == 0 && argc == 4)
		status = loop_file(count, argv[3]);
	else
		return fputs("usage: calls getpid|pipe|file COUNT [PATH]\n", stderr), 2;
	if (status == 0)
		printf("%.0f\n", (double)(count * calls) / (now_s() - begin));
	return status;
}
