/*
 * qr.h
 *		QR codes (ISO/IEC 18004) of short texts, as text, SVG and PNG; plain C.
 */
#ifndef ESIM_QR_H
#define ESIM_QR_H

#include <stdbool.h>
#include <stddef.h>

#define QR_MAX_SIZE 177			/* modules a side, version 40 */
#define QR_QUIET_ZONE 4			/* modules, ISO/IEC 18004 9.1 */
#define QR_MAX_MODULE 64		/* pixels */

/* version and modules; the quiet zone is not among them */
typedef struct
{
	int			size;			/* modules a side */
	bool		dark[QR_MAX_SIZE][QR_MAX_SIZE]; /* row, column */
} QrCode;

typedef enum
{
	QR_OK,
	QR_TOO_LONG,				/* for a symbol of that level */
	QR_NO_MEMORY
} QrStatus;

extern bool qr_level_valid(char level);
extern QrStatus qr_encode(const char *text, char level, QrCode *out);

/* bytes that the forms take at most, the zero at the end included */
extern size_t qr_text_size(const QrCode *code);
extern size_t qr_svg_size(const QrCode *code);

extern size_t qr_text(const QrCode *code, bool inverse, char *out);
extern size_t qr_svg(const QrCode *code, int module, char *out);
extern QrStatus qr_png(const QrCode *code, int module, unsigned char **data, size_t *length);

#endif							/* ESIM_QR_H */
