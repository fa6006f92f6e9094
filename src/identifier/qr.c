/*
 * qr.c
 *		QR codes (ISO/IEC 18004) of short texts, as text, SVG and PNG; plain C.
 *
 * libqrencode makes the symbol, libpng the file.  No PostgreSQL in here: both
 * libraries use malloc, and libpng jumps.
 */
#include "qr.h"

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>
#include <qrencode.h>

/* the whole picture's side in modules */
#define FULL_SIZE(code) ((code)->size + 2 * QR_QUIET_ZONE)

#define UPPER_BLOCK "\342\226\200"	/* U+2580 */
#define LOWER_BLOCK "\342\226\204"	/* U+2584 */
#define FULL_BLOCK "\342\226\210"	/* U+2588 */

/*
 * Is it one of the four levels of error correction, in capital letters?
 */
bool
qr_level_valid(char level)
{
	return level != '\0' && strchr("LMQH", level) != NULL;
}

/*
 * Makes the smallest symbol of that level (L, M, Q, H) that holds text, which
 * is not altered: letters keep their case.
 */
QrStatus
qr_encode(const char *text, char level, QrCode *out)
{
	QRecLevel	levels[] = {QR_ECLEVEL_L, QR_ECLEVEL_M, QR_ECLEVEL_Q, QR_ECLEVEL_H};
	QRcode	   *symbol;
	int			row;
	int			column;

	symbol = QRcode_encodeString(text, 0, levels[strchr("LMQH", level) - "LMQH"],
								 QR_MODE_8, 1);
	if (symbol == NULL)
		return errno == ENOMEM ? QR_NO_MEMORY : QR_TOO_LONG;
	out->size = symbol->width;
	for (row = 0; row < symbol->width; row++)
	{
		for (column = 0; column < symbol->width; column++)
			out->dark[row][column] = symbol->data[row * symbol->width + column] & 1;
	}
	QRcode_free(symbol);
	return QR_OK;
}

/*
 * Is there a dark module at this place of the whole picture?  Around it
 * everything is light.
 */
static bool
is_dark(const QrCode *code, int row, int column)
{
	row -= QR_QUIET_ZONE;
	column -= QR_QUIET_ZONE;
	return row >= 0 && row < code->size && column >= 0 && column < code->size &&
		code->dark[row][column];
}

size_t
qr_text_size(const QrCode *code)
{
	size_t		lines = (FULL_SIZE(code) + 1) / 2;

	return lines * ((size_t) FULL_SIZE(code) * strlen(FULL_BLOCK) + 1) + 1;
}

/*
 * The symbol in UTF-8, two rows of modules a line: blocks, which terminals
 * show in the colour of their letters, for light modules (light letters on a
 * dark ground), inverse: for dark ones.  No line feed at the end.  Returns the
 * length.
 */
size_t
qr_text(const QrCode *code, bool inverse, char *out)
{
	static const char *const blocks[2][2] = {
		{" ", LOWER_BLOCK}, {UPPER_BLOCK, FULL_BLOCK}
	};
	char	   *p = out;
	int			row;
	int			column;

	for (row = 0; row < FULL_SIZE(code); row += 2)
	{
		if (row > 0)
			*p++ = '\n';
		for (column = 0; column < FULL_SIZE(code); column++)
		{
			bool		upper = is_dark(code, row, column) == inverse;
			bool		lower = is_dark(code, row + 1, column) == inverse;
			const char *block = blocks[upper][lower];

			memcpy(p, block, strlen(block));
			p += strlen(block);
		}
	}
	*p = '\0';
	return (size_t) (p - out);
}

size_t
qr_svg_size(const QrCode *code)
{
	/* a run is at most "M184 184h177v1h-177z", every other module may begin one */
	return 512 + (size_t) code->size * ((size_t) code->size + 1) / 2 * 24;
}

/*
 * The symbol as an SVG document, module pixels a module.  Returns the length.
 */
size_t
qr_svg(const QrCode *code, int module, char *out)
{
	int			full = FULL_SIZE(code);
	char	   *p = out;
	int			row;
	int			column;

	p += sprintf(p, "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" "
				 "height=\"%d\" viewBox=\"0 0 %d %d\" shape-rendering=\"crispEdges\">"
				 "<path fill=\"#ffffff\" d=\"M0 0h%dv%dh-%dz\"/><path fill=\"#000000\" d=\"",
				 full * module, full * module, full, full, full, full, full);
	for (row = 0; row < code->size; row++)
	{
		for (column = 0; column < code->size; column++)
		{
			int			run = 0;

			while (column + run < code->size && code->dark[row][column + run])
				run++;
			if (run == 0)
				continue;
			p += sprintf(p, "M%d %dh%dv1h-%dz", column + QR_QUIET_ZONE, row + QR_QUIET_ZONE,
						 run, run);
			column += run;
		}
	}
	p += sprintf(p, "\"/></svg>");
	return (size_t) (p - out);
}

/* what libpng has written so far */
typedef struct
{
	unsigned char *data;
	size_t		length;
	size_t		size;
} Sink;

static void
png_complain(png_structp png, png_const_charp message)
{
	longjmp(png_jmpbuf(png), 1);
}

static void
png_ignore(png_structp png, png_const_charp message)
{
}

static void
png_write(png_structp png, png_bytep data, png_size_t length)
{
	Sink	   *sink = png_get_io_ptr(png);

	if (length > sink->size - sink->length)
	{
		size_t		size = 2 * sink->size + length + 4096;
		unsigned char *grown = realloc(sink->data, size);

		if (grown == NULL)
			png_error(png, "out of memory");
		sink->data = grown;
		sink->size = size;
	}
	memcpy(sink->data + sink->length, data, length);
	sink->length += length;
}

static void
png_flush_nothing(png_structp png)
{
}

/* false: no memory */
static bool
write_png(const QrCode *code, int module, Sink *sink, unsigned char *line)
{
	int			full = FULL_SIZE(code);
	png_structp png;
	png_infop	info;
	int			row;
	int			i;

	png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, png_complain, png_ignore);
	if (png == NULL)
		return false;
	info = png_create_info_struct(png);
	if (info == NULL || setjmp(png_jmpbuf(png)) != 0)
	{
		png_destroy_write_struct(&png, &info);
		return false;
	}
	png_set_write_fn(png, sink, png_write, png_flush_nothing);
	png_set_IHDR(png, info, (png_uint_32) (full * module), (png_uint_32) (full * module), 1,
				 PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
				 PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	for (row = 0; row < full; row++)
	{
		/* a bit that is set is white */
		memset(line, 0, ((size_t) full * module + 7) / 8);
		for (i = 0; i < full * module; i++)
		{
			if (!is_dark(code, row, i / module))
				line[i / 8] |= 0x80 >> (i % 8);
		}
		for (i = 0; i < module; i++)
			png_write_row(png, line);
	}
	png_write_end(png, info);
	png_destroy_write_struct(&png, &info);
	return true;
}

/*
 * The symbol as a PNG file of one bit a pixel, module pixels a module;
 * malloc'ed.  QR_OK or QR_NO_MEMORY.
 */
QrStatus
qr_png(const QrCode *code, int module, unsigned char **data, size_t *length)
{
	Sink		sink = {NULL, 0, 0};
	unsigned char *line = malloc(((size_t) FULL_SIZE(code) * module + 7) / 8);
	bool		ok = line != NULL && write_png(code, module, &sink, line);

	free(line);
	if (!ok)
	{
		free(sink.data);
		return QR_NO_MEMORY;
	}
	*data = sink.data;
	*length = sink.length;
	return QR_OK;
}
