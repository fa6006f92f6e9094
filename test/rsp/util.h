/*
 * util.h
 *		Small tools of the RSP simulator: identifiers, tables, text, timers.
 */
#ifndef RSPSIM_UTIL_H
#define RSPSIM_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- identifiers: up to 32 digits, a nibble each, padded with F ---- */

typedef struct Id
{
	uint64_t	high;
	uint64_t	low;
} Id;

#define ID_TEXT		33

extern bool id_parse(const char *text, size_t length, size_t least, size_t most, Id *id);
extern void id_format(Id id, char out[ID_TEXT]);
extern bool id_equal(Id a, Id b);
extern Id	iccid_make(uint64_t number);
extern Id	eid_make(uint64_t number);

/* ---- hashes and random numbers ---- */

extern uint64_t mix64(uint64_t value);
extern uint64_t hash_bytes(const void *data, size_t length, uint64_t seed);
extern double random_next(uint64_t *state);

/* ---- memory; all of these end the program when there is none ---- */

extern void *xalloc(size_t size);
extern void *xrealloc(void *old, size_t size);
extern char *xstrdup(const char *text);

/* text that is stored once and kept for ever */
extern const char *intern(const char *text);
extern void intern_reset(void);

/* ---- records of one width that never move ---- */

typedef struct Pool
{
	size_t		width;
	uint32_t	count;
	uint32_t	chunks_size;
	char	  **chunks;
} Pool;

extern void *pool_add(Pool *pool, uint32_t *index);
extern void *pool_get(const Pool *pool, uint32_t index);
extern void pool_reset(Pool *pool);

/* ---- a hash table from identifiers to indexes ---- */

typedef struct IdTable
{
	uint32_t	size;
	uint32_t	used;
	Id		   *keys;
	uint32_t   *values;			/* index + 1 */
} IdTable;

extern bool idtable_find(const IdTable *table, Id key, uint32_t *index);
extern void idtable_insert(IdTable *table, Id key, uint32_t index);
extern void idtable_reset(IdTable *table);

/* ---- growing text ---- */

typedef struct Buf
{
	char	   *data;
	size_t		length;
	size_t		size;
} Buf;

extern void buf_reserve(Buf *buf, size_t more);
extern void buf_add(Buf *buf, const char *data, size_t length);
extern void buf_text(Buf *buf, const char *text);
extern void buf_char(Buf *buf, char c);
extern void buf_format(Buf *buf, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void buf_json(Buf *buf, const char *text);
extern void buf_id(Buf *buf, Id id);
extern void buf_time(Buf *buf, uint64_t ms);
extern void buf_clear(Buf *buf);
extern void buf_free(Buf *buf);

/* ---- time and timers, in milliseconds ---- */

typedef void (*timer_function) (void *subject, uint32_t token);

extern uint64_t wall_ms(void);
extern uint64_t clock_ms(void);
extern void clock_advance(uint64_t ms);
extern void timer_add(uint64_t due, timer_function function, void *subject, uint32_t token);
extern int	timer_wait_ms(void);
extern void timer_run(void);

#endif							/* RSPSIM_UTIL_H */
