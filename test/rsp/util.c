/*
 * util.c
 *		Small tools of the RSP simulator: identifiers, memory, tables, text.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "util.h"

/*
 * Reads between "least" and "most" decimal digits (at most 32).  False if the
 * text is anything else.
 */
bool
id_parse(const char *text, size_t length, size_t least, size_t most, Id *id)
{
	uint64_t	half[2] = {0, 0};
	size_t		i;

	if (length < least || length > most || length > 32)
		return false;
	for (i = 0; i < 32; i++)
	{
		unsigned	nibble = 0xf;

		if (i < length)
		{
			nibble = (unsigned char) text[i] - '0';
			if (nibble > 9)
				return false;
		}
		half[i >> 4] = half[i >> 4] << 4 | nibble;
	}
	id->high = half[0];
	id->low = half[1];
	return true;
}

void
id_format(Id id, char out[ID_TEXT])
{
	int			i;

	for (i = 0; i < 32; i++)
	{
		uint64_t	half = i < 16 ? id.high : id.low;
		unsigned	nibble = half >> (60 - 4 * (i & 15)) & 0xf;

		if (nibble > 9)
			break;
		out[i] = '0' + nibble;
	}
	out[i] = '\0';
}

bool
id_equal(Id a, Id b)
{
	return a.high == b.high && a.low == b.low;
}

/* An ICCID of 19 digits out of a number: 89, 16 digits, the Luhn digit. */
Id
iccid_make(uint64_t number)
{
	char		digits[20];
	Id			id = {0, 0};
	int			sum = 0;
	int			i;

	snprintf(digits, sizeof(digits), "89%016" PRIu64,
			 number % UINT64_C(10000000000000000));
	for (i = 0; i < 18; i++)
	{
		int			digit = digits[17 - i] - '0';

		if (i % 2 == 0)
			digit = digit * 2 > 9 ? digit * 2 - 9 : digit * 2;
		sum += digit;
	}
	digits[18] = '0' + (10 - sum % 10) % 10;
	id_parse(digits, 19, 19, 19, &id);
	return id;
}

/* An EID out of a number: 30 digits and the check digits by MOD 97-10. */
Id
eid_make(uint64_t number)
{
	char		digits[33];
	Id			id = {0, 0};
	unsigned	rest = 0;
	int			i;

	snprintf(digits, sizeof(digits), "8904903200%020" PRIu64 "00", number);
	for (i = 0; i < 32; i++)
		rest = (rest * 10 + (digits[i] - '0')) % 97;
	rest = 98 - rest;
	digits[30] = '0' + rest / 10;
	digits[31] = '0' + rest % 10;
	id_parse(digits, 32, 32, 32, &id);
	return id;
}

/* The finalizer of splitmix64: a bijection that spreads every bit. */
uint64_t
mix64(uint64_t value)
{
	value += UINT64_C(0x9e3779b97f4a7c15);
	value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
	return value ^ value >> 31;
}

uint64_t
hash_bytes(const void *data, size_t length, uint64_t seed)
{
	const unsigned char *bytes = data;
	uint64_t	hash = mix64(seed ^ length);

	while (length >= 8)
	{
		uint64_t	word;

		memcpy(&word, bytes, 8);
		hash = mix64(hash ^ word);
		bytes += 8;
		length -= 8;
	}
	if (length > 0)
	{
		uint64_t	word = 0;

		memcpy(&word, bytes, length);
		hash = mix64(hash ^ word);
	}
	return hash;
}

/* The next number in [0, 1) of a sequence. */
double
random_next(uint64_t *state)
{
	*state += UINT64_C(0x9e3779b97f4a7c15);
	return (double) (mix64(*state) >> 11) / 9007199254740992.0;
}

static void
out_of_memory(void)
{
	fprintf(stderr, "rspsim: out of memory\n");
	exit(1);
}

void *
xalloc(size_t size)
{
	void	   *memory = calloc(1, size > 0 ? size : 1);

	if (memory == NULL)
		out_of_memory();
	return memory;
}

void *
xrealloc(void *old, size_t size)
{
	void	   *memory = realloc(old, size > 0 ? size : 1);

	if (memory == NULL)
		out_of_memory();
	return memory;
}

char *
xstrdup(const char *text)
{
	size_t		size = strlen(text) + 1;

	return memcpy(xalloc(size), text, size);
}

/* Reasons and the like: few different texts, so a list will do. */
typedef struct Interned
{
	struct Interned *next;
	char		text[];
} Interned;

static Interned *interned;

const char *
intern(const char *text)
{
	Interned   *item;
	size_t		size = strlen(text) + 1;

	for (item = interned; item != NULL; item = item->next)
		if (strcmp(item->text, text) == 0)
			return item->text;
	item = xalloc(sizeof(*item) + size);
	memcpy(item->text, text, size);
	item->next = interned;
	interned = item;
	return item->text;
}

void
intern_reset(void)
{
	while (interned != NULL)
	{
		Interned   *next = interned->next;

		free(interned);
		interned = next;
	}
}

#define POOL_BITS	14
#define POOL_CHUNK	(1u << POOL_BITS)

/* Adds a zeroed record and gives its index. */
void *
pool_add(Pool *pool, uint32_t *index)
{
	uint32_t	chunk = pool->count >> POOL_BITS;

	if ((pool->count & (POOL_CHUNK - 1)) == 0)
	{
		if (chunk == pool->chunks_size)
		{
			pool->chunks_size = pool->chunks_size ? pool->chunks_size * 2 : 16;
			pool->chunks = xrealloc(pool->chunks, pool->chunks_size * sizeof(char *));
		}
		pool->chunks[chunk] = xalloc(pool->width * POOL_CHUNK);
	}
	*index = pool->count++;
	return pool_get(pool, *index);
}

void *
pool_get(const Pool *pool, uint32_t index)
{
	return pool->chunks[index >> POOL_BITS] + (index & (POOL_CHUNK - 1)) * pool->width;
}

void
pool_reset(Pool *pool)
{
	uint32_t	i;

	for (i = 0; i << POOL_BITS < pool->count; i++)
		free(pool->chunks[i]);
	free(pool->chunks);
	pool->chunks = NULL;
	pool->count = pool->chunks_size = 0;
}

static uint32_t
idtable_slot(const IdTable *table, Id key)
{
	uint32_t	slot = mix64(key.high ^ mix64(key.low)) & (table->size - 1);

	while (table->values[slot] != 0 && !id_equal(table->keys[slot], key))
		slot = (slot + 1) & (table->size - 1);
	return slot;
}

bool
idtable_find(const IdTable *table, Id key, uint32_t *index)
{
	uint32_t	slot;

	if (table->size == 0)
		return false;
	slot = idtable_slot(table, key);
	if (table->values[slot] == 0)
		return false;
	*index = table->values[slot] - 1;
	return true;
}

/* The key must not be there yet. */
void
idtable_insert(IdTable *table, Id key, uint32_t index)
{
	uint32_t	slot;

	if (table->used + table->used / 2 >= table->size)
	{
		IdTable		old = *table;
		uint32_t	i;

		table->size = old.size ? old.size * 2 : 1024;
		table->keys = xalloc(table->size * sizeof(Id));
		table->values = xalloc(table->size * sizeof(uint32_t));
		for (i = 0; i < old.size; i++)
			if (old.values[i] != 0)
			{
				slot = idtable_slot(table, old.keys[i]);
				table->keys[slot] = old.keys[i];
				table->values[slot] = old.values[i];
			}
		free(old.keys);
		free(old.values);
	}
	slot = idtable_slot(table, key);
	table->keys[slot] = key;
	table->values[slot] = index + 1;
	table->used++;
}

void
idtable_reset(IdTable *table)
{
	free(table->keys);
	free(table->values);
	memset(table, 0, sizeof(*table));
}

/* Makes room for "more" bytes and a closing NUL. */
void
buf_reserve(Buf *buf, size_t more)
{
	size_t		size = buf->size ? buf->size : 256;

	if (buf->length + more < buf->size)
		return;
	while (size <= buf->length + more)
		size *= 2;
	buf->data = xrealloc(buf->data, size);
	buf->size = size;
}

void
buf_add(Buf *buf, const char *data, size_t length)
{
	buf_reserve(buf, length);
	memcpy(buf->data + buf->length, data, length);
	buf->length += length;
	buf->data[buf->length] = '\0';
}

void
buf_text(Buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text));
}

void
buf_char(Buf *buf, char c)
{
	buf_add(buf, &c, 1);
}

void
buf_format(Buf *buf, const char *format,...)
{
	va_list		args;
	int			length;

	va_start(args, format);
	length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	buf_reserve(buf, length);
	va_start(args, format);
	vsnprintf(buf->data + buf->length, length + 1, format, args);
	va_end(args);
	buf->length += length;
}

/* A JSON string with its quotes; bytes that are no UTF-8 become '?'. */
void
buf_json(Buf *buf, const char *text)
{
	const unsigned char *p = (const unsigned char *) text;

	buf_char(buf, '"');
	while (*p)
	{
		int			follow = *p < 0x80 ? 0 : *p >= 0xc2 && *p < 0xe0 ? 1 :
			*p >= 0xe0 && *p < 0xf0 ? 2 : *p >= 0xf0 && *p < 0xf5 ? 3 : -1;
		int			i;

		if (*p == '"' || *p == '\\')
			buf_format(buf, "\\%c", *p);
		else if (*p < 0x20)
			buf_format(buf, "\\u%04x", *p);
		else
		{
			for (i = 1; i <= follow; i++)
				if ((p[i] & 0xc0) != 0x80)
					follow = -1;
			/* over-long forms and surrogates */
			if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
				(*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
				follow = -1;
			if (follow < 0)
				buf_char(buf, '?');
			else
			{
				buf_add(buf, (const char *) p, follow + 1);
				p += follow;
			}
		}
		p++;
	}
	buf_char(buf, '"');
}

/* An identifier as a JSON string. */
void
buf_id(Buf *buf, Id id)
{
	char		text[ID_TEXT];

	id_format(id, text);
	buf_char(buf, '"');
	buf_text(buf, text);
	buf_char(buf, '"');
}

/* A moment as a JSON string, by RFC 3339. */
void
buf_time(Buf *buf, uint64_t ms)
{
	time_t		seconds = ms / 1000;
	struct tm	tm;

	gmtime_r(&seconds, &tm);
	buf_format(buf, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900,
			   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int) (ms % 1000));
}

void
buf_clear(Buf *buf)
{
	buf->length = 0;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

void
buf_free(Buf *buf)
{
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}
