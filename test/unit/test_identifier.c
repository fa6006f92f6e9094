/*
 * test_identifier.c
 *		Unit tests of the identifier parsers; prints TAP.
 */
#include <stdio.h>
#include <string.h>

#include "activation_code.h"
#include "eid.h"
#include "iccid.h"
#include "tap.h"


static IccidStatus
iccid_status(const char *text, size_t len, int *position)
{
	Iccid		v;
	IccidError	error;

	memset(&error, 0x7F, sizeof(error));
	iccid_parse(text, len, true, &v, &error);
	if (position)
		*position = error.position;
	return error.status;
}

static ActivationCodeStatus
ac_status(const char *text, size_t len, int *position)
{
	ActivationCode code;
	ActivationCodeError error;

	memset(&error, 0x7F, sizeof(error));
	activation_code_parse(text, len, &code, &error);
	if (position)
		*position = error.position;
	return error.status;
}

#define STATUS(parse, text, position) parse(text, sizeof(text) - 1, position)

static void
test_iccid(void)
{
	static const struct
	{
		uint8_t		card[ICCID_CARD_SIZE];
		const char *digits;
	}			cards[] = {
		{{0x98, 0x44, 0x74, 0x68, 0x00, 0x00, 0x73, 0x07, 0x71, 0xF0}, "8944478600003770170"},
		{{0x98, 0x94, 0x44, 0x99, 0x99, 0x99, 0x99, 0x09, 0x20, 0xF3}, "8949449999999990023"},
		{{0x98, 0x94, 0x44, 0x99, 0x99, 0x99, 0x99, 0x09, 0x30, 0xF1}, "8949449999999990031"},
		{{0x98, 0x54, 0x37, 0x00, 0x00, 0x00, 0x12, 0x18, 0x19, 0x38}, "89457300000021819183"},
		{{0x98, 0x44, 0x74, 0x68, 0x00, 0x00, 0x23, 0x06, 0x31, 0xF1}, "8944478600003260131"},
		{{0x98, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x19, 0x52, 0xFF}, "891000000000009125"},
	};
	static const uint8_t bad[][ICCID_CARD_SIZE] = {
		{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF},	/* blank card */
		{0x98, 0x44, 0x74, 0x68, 0x00, 0x00, 0x73, 0x07, 0xF1, 0xF0},	/* F inside */
		{0x98, 0x44, 0x74, 0x68, 0x00, 0x00, 0x73, 0x07, 0xFF, 0xFF},	/* 16 digits */
		{0x98, 0x44, 0x74, 0xA8, 0x00, 0x00, 0x73, 0x07, 0x71, 0xF0},	/* letter */
		{0x89, 0x44, 0x74, 0x68, 0x00, 0x00, 0x73, 0x07, 0x71, 0xF0},	/* not swapped */
		{0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00},
	};
	Iccid		v,
				w;
	char		text[ICCID_TEXT_SIZE];
	uint8_t		card[ICCID_CARD_SIZE];
	int			position;
	size_t		i;

	for (i = 0; i < sizeof(cards) / sizeof(cards[0]); i++)
	{
		bool		good = iccid_from_card(cards[i].card, &v);

		if (good)
		{
			iccid_format(v, text);
			iccid_to_card(v, card);
			good = strcmp(text, cards[i].digits) == 0 &&
				memcmp(card, cards[i].card, ICCID_CARD_SIZE) == 0;
		}
		ok(good, cards[i].digits);
	}
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!iccid_from_card(bad[i], &v), "octets that are no ICCID");

	ok(STATUS(iccid_status, "89883070000007537119", NULL) == ICCID_OK, "20 digits");
	ok(iccid_status("8944478600003770170XYZ", 19, NULL) == ICCID_OK, "the length counts, not a zero");
	ok(STATUS(iccid_status, "8944478600003770170\0", &position) == ICCID_CHARACTER &&
	   position == 20, "a zero byte is a character");
	ok(STATUS(iccid_status, "8944478600003770\xC3\xA9" "170", &position) == ICCID_CHARACTER &&
	   position == 17, "a byte beyond ASCII");
	ok(STATUS(iccid_status, "", NULL) == ICCID_EMPTY, "nothing");
	ok(STATUS(iccid_status, "898600D6101400027602", &position) == ICCID_HEXADECIMAL &&
	   position == 7, "hexadecimal");
	ok(STATUS(iccid_status, "984474680000730771F0", NULL) == ICCID_SWAPPED, "swapped");
	ok(STATUS(iccid_status, "8944478600003770170FF", NULL) == ICCID_PADDING, "too much padding");
	ok(STATUS(iccid_status, "79883070000007537119", NULL) == ICCID_PREFIX, "prefix");
	ok(STATUS(iccid_status, "89883070000123456789", NULL) == ICCID_CHECK_DIGIT, "check digit");
	ok(STATUS(iccid_status, "891000000000009125", NULL) == ICCID_CHECK_DIGIT, "18 digits");
	ok(STATUS(iccid_status, "89100000000000912", NULL) == ICCID_LENGTH, "17 digits");

	iccid_parse("890000000000000000", 18, false, &v, NULL);
	iccid_parse("8900000000000000000", 19, false, &w, NULL);
	ok(v == 1 && iccid_compare(v, w) == -1 && iccid_compare(w, v) == 1 && iccid_compare(v, v) == 0,
	   "the shorter one is first");
	iccid_parse("89999999999999999999", 20, false, &v, NULL);
	ok(v < (Iccid) 1 << 62, "the greatest fits in 62 bits");
}

static void
test_eid(void)
{
	Eid			v,
				w;
	EidError	error;
	uint8_t		octets[EID_SIZE];
	char		text[EID_TEXT_SIZE];

	ok(eid_parse("89049032123451234512345678901235", 32, true, &v, &error) &&
	   v.octet[0] == 0x89 && v.octet[15] == 0x35, "two digits to the octet, not swapped");
	eid_format(&v, text);
	ok(strcmp(text, "89049032123451234512345678901235") == 0, "and back");
	ok(!eid_parse("89049032000000000000000000000001", 32, true, &w, &error) &&
	   error.status == EID_CHECK_DIGITS && strcmp(error.given, "01") == 0 &&
	   strcmp(error.expected, "66") == 0, "CAMARA's example has other check digits");
	ok(eid_parse("89049032000000000000000000000001", 32, false, &w, &error) &&
	   !eid_check(&w) && eid_compare(&w, &v) < 0, "and is taken without a look at them");
	ok(!eid_parse("8904903212345123451234567890123\0", 32, true, &w, &error) &&
	   error.status == EID_CHARACTER && error.position == 32, "a zero byte is a character");
	memset(octets, 0x9A, sizeof(octets));
	ok(!eid_from_octets(octets, &w), "octets that are no digits");
}

static void
test_activation_code(void)
{
	ActivationCode code;
	int			position;

	ok(activation_code_parse("LPA:1$h.example$T$$1$Z", 22, &code, NULL) &&
	   strcmp(code.text, "1$h.example$T$$1$Z") == 0 && code.confirmation_required &&
	   code.smdp_oid.length == 0 && code.rest.length == 1, "a flag without an OID");
	ok(STATUS(ac_status, "1$h.example$T\0", &position) == AC_MATCHING_ID_CHARACTER &&
	   position == 2, "a zero byte is a character");
	ok(STATUS(ac_status, "1$h.ex\xC3\xA4mple$T", &position) == AC_ADDRESS_CHARACTER &&
	   position == 5, "a byte beyond ASCII");
	ok(STATUS(ac_status, "1$h.example$T$$1$\xFF", &position) == AC_REST_CHARACTER &&
	   position == 1, "a byte beyond ASCII at the end");
	ok(STATUS(ac_status, "LPA:", NULL) == AC_EMPTY, "nothing behind LPA:");
	ok(STATUS(ac_status, "LPA", NULL) == AC_NO_FIELDS, "LPA without a colon");
	ok(STATUS(ac_status, "LPA:lpa:1$h$T", NULL) == AC_PREFIX_TWICE, "LPA: twice");
	ok(!activation_code_build("h$x", 3, "", 0, "", 0, false, &code, NULL) &&
	   !activation_code_build("h", 1, "T$", 2, "", 0, false, &code, NULL) &&
	   !activation_code_build("h", 1, "T", 1, "1.2$", 4, false, &code, NULL),
	   "no field makes two");
	ok(activation_code_compare("1$H$T", 5, "1$h$T", 5) == 0 &&
	   activation_code_compare("1$h$T", 5, "1$h$t", 5) < 0, "only the host in any case");
}

int
main(void)
{
	test_iccid();
	test_eid();
	test_activation_code();
	return finish();
}
