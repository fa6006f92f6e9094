/*
 * timer.c
 *		Clocks and a heap of timers.
 *
 * A timer cannot be taken back: whoever sets one hands over a token and
 * ignores the call when the token has become stale.
 */
#include <stdlib.h>
#include <time.h>

#include "util.h"

typedef struct Timer
{
	uint64_t	due;
	uint64_t	order;			/* equal times run in the order in which they were set */
	timer_function function;
	void	   *subject;
	uint32_t	token;
} Timer;

static Timer *heap;
static size_t heap_count;
static size_t heap_size;
static uint64_t order;
static uint64_t advanced;		/* simulated time that has gone by */

uint64_t
wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000 + advanced;
}

uint64_t
clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000 + advanced;
}

/* Lets time go by at once: timers that are due by then run next. */
void
clock_advance(uint64_t ms)
{
	advanced += ms;
}

static bool
earlier(const Timer *a, const Timer *b)
{
	return a->due < b->due || (a->due == b->due && a->order < b->order);
}

void
timer_add(uint64_t due, timer_function function, void *subject, uint32_t token)
{
	Timer		timer = {due, order++, function, subject, token};
	size_t		i;

	if (heap_count == heap_size)
	{
		heap_size = heap_size ? heap_size * 2 : 256;
		heap = xrealloc(heap, heap_size * sizeof(Timer));
	}
	for (i = heap_count++; i > 0 && earlier(&timer, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = timer;
}

/* Milliseconds until the next timer is due, -1 if there is none. */
int
timer_wait_ms(void)
{
	uint64_t	now;

	if (heap_count == 0)
		return -1;
	now = clock_ms();
	if (heap[0].due <= now)
		return 0;
	return heap[0].due - now > 60000 ? 60000 : (int) (heap[0].due - now);
}

static Timer
take_first(void)
{
	Timer		first = heap[0];
	Timer		last = heap[--heap_count];
	size_t		i = 0;

	for (;;)
	{
		size_t		child = 2 * i + 1;

		if (child >= heap_count)
			break;
		if (child + 1 < heap_count && earlier(&heap[child + 1], &heap[child]))
			child++;
		if (!earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

/* Runs what is due by now; what the functions add runs in the next round. */
void
timer_run(void)
{
	uint64_t	now;
	uint64_t	limit = order;

	if (heap_count == 0)
		return;
	now = clock_ms();
	while (heap_count > 0 && heap[0].due <= now && heap[0].order < limit)
	{
		Timer		timer = take_first();

		timer.function(timer.subject, timer.token);
	}
}
