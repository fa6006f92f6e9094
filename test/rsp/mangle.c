/*
 * mangle.c
 *		Faults in the body of an answer that is made in memory.
 */
#include <stdlib.h>
#include <string.h>

#include "rspsim.h"

#define MAX_DEPTH		(16 * 1024 * 1024)

/* Every value with a type that the schema does not allow. */
static json_t *
other_types(json_t *value)
{
	const char *key;
	json_t	   *item;
	json_t	   *made;
	size_t		i;

	switch (json_typeof(value))
	{
		case JSON_OBJECT:
			made = json_object();
			json_object_foreach(value, key, item)
				json_object_set_new(made, key, other_types(item));
			return made;
		case JSON_ARRAY:
			made = json_object();
			json_array_foreach(value, i, item)
			{
				char		name[32];

				snprintf(name, sizeof(name), "%zu", i);
				json_object_set_new(made, name, other_types(item));
			}
			return made;
		case JSON_STRING:
			return json_integer(4711);
		case JSON_INTEGER:
			return json_string("4711");
		default:
			return json_array();
	}
}

/* The text is replaced by that of "value", whose reference is taken. */
static void
set_json(Buf *out, json_t *value)
{
	char	   *text = json_dumps(value, JSON_COMPACT);

	buf_clear(out);
	if (text != NULL)
		buf_text(out, text);
	free(text);
	json_decref(value);
}

/* Changes digits of every ICCID, so that it is well formed, but another's. */
static void
other_iccids(Buf *out)
{
	char	   *place = out->data;

	while ((place = strstr(place, "ccid\":\"")) != NULL)
	{
		size_t		digits;
		size_t		i;

		place += strlen("ccid\":\"");
		digits = strspn(place, "0123456789");
		for (i = digits > 8 ? digits - 8 : 0; i < digits; i++)
			place[i] = '0' + (place[i] - '0' + 5) % 10;
	}
}

/* Repeats each member with another value behind the first. */
static void
repeat_keys(Buf *out)
{
	json_t	   *value = json_loadb(out->data, out->length, 0, NULL);
	const char *key;
	json_t	   *item;

	if (json_is_object(value) && out->length > 0)
	{
		out->data[--out->length] = '\0';
		json_object_foreach(value, key, item)
		{
			buf_text(out, ",");
			buf_json(out, key);
			buf_text(out, ":\"duplicate\"");
		}
		buf_text(out, "}");
	}
	json_decref(value);
}

/* RFC 7396: the members of "patch" replace, those that are null remove. */
static json_t *
merge(json_t *target, json_t *patch)
{
	const char *key;
	json_t	   *item;
	json_t	   *made;

	if (!json_is_object(patch))
		return json_deep_copy(patch);
	made = json_is_object(target) ? json_deep_copy(target) : json_object();
	json_object_foreach(patch, key, item)
	{
		if (json_is_null(item))
			json_object_del(made, key);
		else
			json_object_set_new(made, key, merge(json_object_get(made, key), item));
	}
	return made;
}

static void
insert_bytes(Buf *out, const char *bytes, size_t length)
{
	size_t		place = out->length > 4 ? out->length - 3 : 0;
	Buf			made = {0};

	buf_add(&made, out->data, place);
	buf_add(&made, bytes, length);
	buf_add(&made, out->data + place, out->length - place);
	buf_free(out);
	*out = made;
}

/* Applies the body fault of the request to its answer. */
void
mangle(Request *request)
{
	Buf		   *out = &request->out;
	json_t	   *value;
	uint64_t	i;

	buf_reserve(out, 1);
	switch (request->fault->kind)
	{
		case FAULT_MALFORMED_JSON:
			buf_clear(out);
			buf_text(out, "{\"operationId\": \"1\", status: <ACCEPTED>}");
			break;
		case FAULT_TRUNCATED_JSON:
			out->length /= 2;
			break;
		case FAULT_DEEP_JSON:
			{
				Buf			made = {0};
				uint64_t	depth = request->fault->bytes > MAX_DEPTH ? MAX_DEPTH :
					request->fault->bytes;

				buf_text(&made, "{\"deep\":");
				for (i = 0; i < depth; i++)
					buf_char(&made, '[');
				for (i = 0; i < depth; i++)
					buf_char(&made, ']');
				buf_text(&made, out->length > 2 ? "," : "}");
				if (out->length > 2)
					buf_add(&made, out->data + 1, out->length - 1);
				buf_free(out);
				*out = made;
				break;
			}
		case FAULT_CONTENT_TYPE:
			request->content_type = request->fault->content_type ?
				request->fault->content_type : "text/html";
			break;
		case FAULT_INVALID_UTF8:
			/* inside the last string or behind it: no JSON text either way */
			insert_bytes(out, "\xff\xc0\xaf\xed\xa0\x80", 6);
			break;
		case FAULT_NUL_BYTES:
			insert_bytes(out, "\0\0", 2);
			break;
		case FAULT_WRONG_ICCID:
			other_iccids(out);
			break;
		case FAULT_WRONG_TYPES:
			value = json_loadb(out->data, out->length, JSON_DECODE_ANY, NULL);
			if (value != NULL)
			{
				set_json(out, other_types(value));
				json_decref(value);
			}
			break;
		case FAULT_EMPTY_BODY:
			buf_clear(out);
			break;
		case FAULT_MERGE_JSON:
			value = json_loadb(out->data, out->length, JSON_DECODE_ANY, NULL);
			set_json(out, merge(value, request->fault->merge));
			json_decref(value);
			break;
		case FAULT_BODY:
			buf_clear(out);
			buf_text(out, request->fault->body != NULL ? request->fault->body : "");
			break;
		case FAULT_DUPLICATE_KEYS:
			repeat_keys(out);
			break;
		default:
			break;
	}
}
