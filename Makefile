# esim: eSIM management for PostgreSQL
#
# The version is that of esim.control; META.json and CHANGELOG.md repeat it, which "make test" checks.

EXTENSION = esim
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" $(dir $(firstword $(MAKEFILE_LIST)))esim.control)
MODULE_big = esim

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))

# parts of the install script, in this order
SQL_PARTS = identifier table audit server operation event receive qr worker report provider timeline upkeep maintenance right
DATA_built = sql/esim--$(EXTVERSION).sql
DATA = $(wildcard sql/esim--*--*.sql)

PKGS = libcurl jansson libcrypto libqrencode libpng
PG_CPPFLAGS = -Isrc -DESIM_VERSION='"$(EXTVERSION)"' $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
SHLIB_LINK = $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lpthread -Wl,-Bsymbolic
PG_CFLAGS = -Wall -Wextra -Wmissing-prototypes -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers $(if $(WERROR),-Werror)

EXTRA_CLEAN = sql/esim--$(EXTVERSION).sql test/rsp/rspsim test/rsp/httpbench

PG_CONFIG ?= pg_config
# none on a machine where "make demo" has yet to install it
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(PGXS),)
include $(PGXS)
else ifeq ($(filter demo test bench fuzz soak simulator,$(MAKECMDGOALS)),)
$(error pg_config was not found; install PostgreSQL's headers (Debian: postgresql-server-dev-15) or set PG_CONFIG)
endif

# every object depends on every header: a full build takes seconds
$(OBJS): $(wildcard src/*.h src/*/*.h) esim.control

sql/esim--$(EXTVERSION).sql: $(SQL_PARTS:%=sql/%.sql) esim.control Makefile
	{ printf '%s\n' '\echo Use "CREATE EXTENSION esim" to load this file. \quit'; \
	  for part in $(SQL_PARTS); do echo; cat sql/$$part.sql || exit 1; done; } > $@

simulator:
	$(MAKE) -C test/rsp

# all fuzzers, one after the other: "make fuzz SECONDS=600" takes ten minutes for each
fuzz:
	@test -x "$$(command -v clang)" || bash test/install.sh --fuzz || echo "without clang"
	$(MAKE) -C test/fuzz run

.PHONY: simulator demo test bench fuzz soak

demo test bench soak:
	@bash test/$@.sh
