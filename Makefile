# `make` builds, `make demo` shows, `make test` proves, `make install` installs.
# All that is made goes to $(BUILD). V=1 shows each command, and each test that passes.

BUILD ?= build
PREFIX ?= /usr/local
CFLAGS ?= -O2 -g
LUA ?= lua5.4

ARTEFACTS := $(addprefix $(BUILD)/,allua liballua.a liballua.so lua/allua.so allua.pc)

.PHONY: all
all: $(ARTEFACTS)

# ---- Sources

SOURCES := $(wildcard host/*.c)
MODULES := $(wildcard lua/allua/*.lua)
VERSION := $(shell sed -n 's/^.define ALLUA_VERSION "\(.*\)"/\1/p' host/allua.h)
SONAME := liballua.so.$(firstword $(subst ., ,$(VERSION)))

# Only the program has a command line and a prompt, only a stock Lua asks for luaopen_allua.
ROOMS := $(filter-out main program prompt watchdog display module,$(SOURCES:host/%.c=%)) builtin
objects = $(patsubst %,$(BUILD)/$1/%.o,$(ROOMS) $2)

C_FILES := $(wildcard $(addsuffix /*.[ch],host spec/embed spec/fuzz examples/embed bench bench/http bench/db))
LUA_DIRS := lua spec examples bench

# ---- Flags

# gcc's own memset of what is not small is rep stos, which is slow to begin: the library's is quicker.
FLAGS = -std=gnu11 -fno-builtin-memset \
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(CFLAGS)
# Debian's headers need not pass our warnings.
DEBIAN_CFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags lua5.4 libcurl libpq libuv))
COMPILE = $(CC) $(FLAGS) -fvisibility=hidden -iquote host $(DEBIAN_CFLAGS)
LINK = $(CC) $(FLAGS) $(LDFLAGS)
DEPENDENCIES = -MMD -MP -MF $@.d -MT $@

# The program carries Lua, luv and cjson inside; -E lets C modules find Lua's functions there.
PROGRAM_LIBS = -Wl,-E -Wl,--exclude-libs,liblua5.4-cjson.a \
  -l:liblua5.4-luv.a -l:liblua5.4-cjson.a -l:liblua5.4.a -luv -lm -ldl
LIBRARY_LIBS = -llua5.4-luv -llua5.4-cjson -llua5.4 -luv
# A stock Lua has its own liblua inside.
MODULE_LIBS = -llua5.4-luv -llua5.4-cjson -luv

MAKEFLAGS += --no-print-directory
# Begins a recipe: $(call say,CC) shows what is made, or nothing where V=1 shows the command.
say = $(if $(V),,@printf '  %-5s %s\n' $1 '$@';) mkdir -p $(@D);

# ---- The program and the libraries

vpath %.c host $(BUILD)/gen

$(BUILD)/allua: $(call objects,obj,main program prompt watchdog display)
	$(call say,LINK) $(LINK) -o $@ $^ $(PROGRAM_LIBS)

$(BUILD)/liballua.so: $(call objects,pic)
	$(call say,LINK) $(LINK) -shared -Wl,-soname,$(SONAME) -o $@ $^ $(LIBRARY_LIBS)

$(BUILD)/lua/allua.so: $(call objects,pic,module)
	$(call say,LINK) $(LINK) -shared -o $@ $^ $(MODULE_LIBS)

$(BUILD)/liballua.a: $(BUILD)/pic/liballua.o
	$(call say,AR) rm -f $@; $(AR) rcs $@ $^

# One object of all, where only allua.h's names are global: no clash with those of a program.
$(BUILD)/pic/liballua.o: $(call objects,pic)
	$(call say,LD) $(LD) -r -o $@ $^ && objcopy --localize-hidden $@

$(BUILD)/obj/%.o: %.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(DEPENDENCIES) -c -o $@ $<

$(BUILD)/pic/%.o: %.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(DEPENDENCIES) -fPIC -c -o $@ $<

# The Lua half as C arrays.
$(BUILD)/gen/builtin.c: $(MODULES) lua/allua/report.html $(BUILD)/inputs
	$(call say,GEN) { echo '#include "builtin.h"'; \
	for name in $(basename $(notdir $(MODULES))); do \
	  echo "static const unsigned char text_$$name[] = {"; \
	  od -An -v -tx1 lua/allua/$$name.lua | sed 's/[0-9a-f][0-9a-f]/0x&,/g'; \
	  echo '};'; \
	done; \
	echo 'const unsigned char builtin_report[] = {'; \
	od -An -v -tx1 lua/allua/report.html | sed 's/[0-9a-f][0-9a-f]/0x&,/g'; \
	echo '}; const size_t builtin_report_size = sizeof builtin_report;'; \
	echo 'const struct builtin builtin_modules[] = {'; \
	for name in $(basename $(notdir $(MODULES))); do \
	  echo "{ \"allua.$$name\", text_$$name, sizeof text_$$name },"; \
	done | sed 's/allua\.init"/allua"/'; \
	echo '{ NULL, NULL, 0 } };'; } >$@

# Changes, and with it all objects, when a flag changes or a file comes or goes.
$(BUILD)/inputs: FORCE
	@mkdir -p $(@D); echo '$(COMPILE) $(LINK) $(SOURCES) $(MODULES)' >$@.$$$$; \
	cmp -s $@.$$$$ $@ && rm $@.$$$$ || mv $@.$$$$ $@

PC = sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' host/allua.pc.in
$(BUILD)/allua.pc: host/allua.pc.in host/allua.h
	$(call say,GEN) $(PC) >$@

-include $(wildcard $(BUILD)/*/*.d $(BUILD)/embed/*/*.d $(BUILD)/bench/*/*.d)
.DELETE_ON_ERROR:
.PHONY: FORCE

# ---- Install

PLACE = $(DESTDIR)$(PREFIX)

.PHONY: install uninstall
install: all
	install -D -m 755 $(BUILD)/allua $(PLACE)/bin/allua
	install -D -m 644 host/allua.h $(PLACE)/include/allua.h
	install -D -m 644 $(BUILD)/liballua.a $(PLACE)/lib/liballua.a
	install -D -m 644 $(BUILD)/liballua.so $(PLACE)/lib/liballua.so.$(VERSION)
	ln -sf liballua.so.$(VERSION) $(PLACE)/lib/$(SONAME)
	ln -sf $(SONAME) $(PLACE)/lib/liballua.so
	install -D -m 644 $(BUILD)/lua/allua.so $(PLACE)/lib/lua/5.4/allua.so
	install -D -m 644 docs/allua.1 $(PLACE)/share/man/man1/allua.1
	install -d $(PLACE)/lib/pkgconfig
	$(PC) >$(PLACE)/lib/pkgconfig/allua.pc

uninstall:
	cd $(PLACE) && rm -f bin/allua include/allua.h lib/liballua.a lib/liballua.so \
	  lib/$(SONAME) lib/liballua.so.$(VERSION) lib/lua/5.4/allua.so lib/pkgconfig/allua.pc \
	  share/man/man1/allua.1

# ---- What it needs: Debian's packages, and StyLua from npm for lint and format

deps-build: PACKAGES = build-essential git libcurl4-openssl-dev libedit-dev liblua5.4-dev libpq-dev libsqlite3-dev libssl-dev libuv1-dev \
  lua-cjson lua-cjson-dev lua-luv lua-luv-dev pkg-config
deps-test: PACKAGES = curl libcurl4 libedit2 libnginx-mod-stream libpq5 libsqlite3-0 libssl3 lua-busted lua-luaossl lua5.4 microsocks \
  nghttp2-client nginx-light openssl postgresql procps tinyproxy-bin wrk
deps-dev: PACKAGES = ca-certificates clang clang-format clang-tidy cppcheck libc6-dbg \
  libclang-rt-14-dev lua-check node-llhttp valgrind $(if $(shell which npm),,npm)

deps-peers: PACKAGES = curl golang-go gnuplot-nox libnginx-mod-http-lua lua-cjson lua-cqueues wrk $(if $(shell which npm),,nodejs npm)

# What the example dashboard signs its cookies with, and the libraries that are loaded when used.
deps-demo: PACKAGES = libcurl4 libsqlite3-0 libssl3 lua-luaossl

# For the page of the example dashboard.
deps-browser: PACKAGES = chromium fonts-dejavu-core $(if $(shell which npm),,nodejs npm)

MISSING = $(filter-out $(shell dpkg-query -W -f '$${Package} $${db:Status-Status}\n' \
  $(PACKAGES) 2>/dev/null | sed -n 's/ installed$$//p'),$(PACKAGES))
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
APT_GET = $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get
APT_INSTALL = $(APT_GET) install -y --no-install-recommends $1 </dev/null
install_packages = @echo '$(strip $(SUDO) apt-get) install $1'; \
  $(APT_INSTALL) || { $(APT_GET) update && $(APT_INSTALL); }

.PHONY: deps deps-build deps-test deps-demo deps-dev deps-peers deps-browser
deps-test: deps-build
deps-dev: deps-test
deps-build deps-test deps-demo deps-dev deps-peers deps-browser:
	$(if $(MISSING),$(call install_packages,$(MISSING)))

STYLUA := $(BUILD)/node/node_modules/.bin/stylua
deps: deps-dev $(STYLUA)
$(STYLUA): | deps-dev
	$(call say,NPM) npm install --prefix $(BUILD)/node --no-save --no-package-lock \
	  --no-audit --no-fund @johnnymorganz/stylua-bin@2.5.2

# Where a goal asks for packages, nothing is compiled before they are there.
$(BUILD)/inputs: | $(if $(filter demo,$(MAKECMDGOALS)),deps-build)
$(BUILD)/inputs: | $(if $(filter test faults bench bench-http bench-db check-gc check-valgrind,$(MAKECMDGOALS)),deps-test)

# ---- Run it

.PHONY: demo bench bench-http bench-db bench-peers bench-instructions check-instructions
demo: deps-build deps-demo $(BUILD)/allua
	$(BUILD)/allua examples/report.lua
	$(BUILD)/allua examples/load.lua
	$(BUILD)/allua examples/dashboard/demo.lua
	$(if $(SERVE),$(BUILD)/allua examples/dashboard/server.lua --port 8080)

BENCH := $(patsubst bench/%.c,$(BUILD)/bench/%,$(wildcard bench/*.c))
bench: deps-test $(BUILD)/allua $(BENCH)
	$(BUILD)/allua bench/run.lua --build $(BUILD) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(PEERS),--peers '$(PEERS)') $(if $(ROUNDS),--rounds $(ROUNDS))

BENCH_HTTP := $(BUILD)/bench/http $(BUILD)/bench/get
bench-http: deps-test $(BUILD)/allua $(BENCH_HTTP)
	$(BUILD)/allua bench/http.lua --build $(BUILD) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(ROUNDS),--rounds $(ROUNDS))

$(BUILD)/bench/get: bench/http/get.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(LDFLAGS) $(DEPENDENCIES) -o $@ $< -lcurl -luv

$(BUILD)/bench/http: bench/http/bare.c host/http_parser.c host/http_field.c host/mem.c host/slab.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(LDFLAGS) $(DEPENDENCIES) -o $@ $(filter %.c,$^) -luv

BENCH_DB := $(BUILD)/bench/db/sqlite $(BUILD)/bench/db/postgres
bench-db: deps-test $(BUILD)/allua $(BENCH_DB)
	$(BUILD)/allua bench/db.lua --build $(BUILD) \
	  $(if $(ONLY),--only '$(ONLY)') $(if $(ROUNDS),--rounds $(ROUNDS))

$(BUILD)/bench/db/sqlite: DB_CLIENT = sqlite3
$(BUILD)/bench/db/postgres: DB_CLIENT = libpq
$(BUILD)/bench/db/%: bench/db/%.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(LDFLAGS) $(DEPENDENCIES) -o $@ $< $$(pkg-config --libs $(DB_CLIENT))

# Whom allua is measured against, beside lua5.4 and luv: Debian's packages and npm's.
PEERS_NPM := better-all@0.0.7 better-sqlite3@12.11.1 bun@1.4.5 deno@2.9.6 effect@4.1.0 pg@8.23.1
bench-peers: deps-peers
	npm install --prefix $(BUILD)/peers --no-save --no-package-lock --no-audit --no-fund $(PEERS_NPM)
	mkdir -p $(BUILD)/bench && GO111MODULE=off go build -o $(BUILD)/bench/go bench/go/main.go

# Instructions a task: counted and stored in bench/instructions.txt, or compared with what is there.
bench-instructions: deps-dev $(BUILD)/allua $(BENCH)
	$(BUILD)/allua bench/instructions.lua --build $(BUILD)

check-instructions: deps-dev $(BUILD)/allua
	$(BUILD)/allua bench/instructions.lua --build $(BUILD) --check yes

$(BUILD)/bench/%: bench/%.c $(BUILD)/inputs
	$(call say,CC) $(COMPILE) $(LDFLAGS) $(DEPENDENCIES) -o $@ $< -l:liblua5.4.a -lm -ldl

# ---- Test it

# C programs that use an installed allua as anybody's would: through pkg-config.
STAGE := $(abspath $(BUILD))/stage
STAGED := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig pkg-config
EMBED := $(patsubst spec/embed/%.c,%,$(wildcard spec/embed/*.c))
EMBED := $(EMBED:%=$(BUILD)/embed/static/%) $(EMBED:%=$(BUILD)/embed/shared/%)

$(BUILD)/embed/static/%: spec/embed/%.c $(STAGE)/lib/pkgconfig/allua.pc
	$(call say,CC) $(LINK) $(DEPENDENCIES) -o $@ $< \
	  $$($(STAGED) --cflags --libs --static allua | sed 's/-lallua/-l:liballua.a/')

$(BUILD)/embed/shared/%: spec/embed/%.c $(STAGE)/lib/pkgconfig/allua.pc
	$(call say,CC) $(LINK) $(DEPENDENCIES) -o $@ $< -Wl,-rpath,$(STAGE)/lib \
	  $$($(STAGED) --cflags --libs allua)

$(STAGE)/lib/pkgconfig/allua.pc: $(ARTEFACTS) host/allua.h docs/allua.1
	$(call say,STAGE) $(MAKE) install DESTDIR= PREFIX=$(STAGE) >/dev/null

# What `make test` runs, each behind $(RUN): the specs, the C programs, the specs for a stock Lua.
command = '$(strip $1)'
SPEC_FILES = spec
SPECS = $(call command,$(RUN) $(BUILD)/allua test --output=TAP $(SPEC_FLAGS) $(SPEC_FILES))
PROGRAMS = $(foreach program,$(filter-out %/faults,$(EMBED)),$(call command,$(RUN) $(program)))
STOCK = $(foreach script,$(wildcard spec/stock/*.lua), \
  $(call command,LUA_CPATH="$(abspath $(BUILD))/lua/?.so;;" $(RUN) $(LUA) $(script)))

.PHONY: programs test faults
programs: $(EMBED) $(BENCH) $(BENCH_HTTP) $(BENCH_DB)

test: deps-test $(ARTEFACTS) $(EMBED)
	@spec/support/run $(SPECS) $(PROGRAMS) $(STOCK)

faults: deps-test $(BUILD)/allua $(BUILD)/embed/static/faults $(BUILD)/embed/static/chaos
	@V=1 spec/support/run '$(BUILD)/embed/static/chaos 1 500' \
	  '$(BUILD)/embed/static/chaos 1 40 spec/support/chaos_web.lua 8' \
	  $(foreach script,faults faults_many faults_http faults_db,\
	  '$(BUILD)/embed/static/faults spec/embed/$(script).lua 2>&1') \
	  '$(BUILD)/allua spec/support/with_postgres.lua $(BUILD)/embed/static/faults spec/embed/faults_postgres.lua 2>&1' \
	  '$(BUILD)/allua spec/support/with_postgres.lua $(BUILD)/embed/static/chaos 1 200 spec/support/chaos_postgres.lua 8'

# ---- Test it harder

.PHONY: check check-asan check-faults check-gc check-ubsan check-valgrind \
  check-gc-early check-gc-late check-valgrind-early check-valgrind-late
check:
	$(foreach goal,test check-gc check-faults check-asan check-ubsan check-valgrind, \
	  $(MAKE) $(goal) &&) true

# Where everything is slow: two halves, for two cores.
check-gc: check-gc-early check-gc-late
check-valgrind: check-valgrind-early check-valgrind-late
check-gc-early check-valgrind-early: SPEC_FILES = spec/[a-f]*_spec.lua
check-gc-late check-valgrind-late: SPEC_FILES = spec/[g-z]*_spec.lua

check-gc-early check-gc-late: deps-test $(ARTEFACTS) $(STAGE)/lib/pkgconfig/allua.pc
	@ALLUA_STRESS_GC=1 spec/support/run $(SPECS)

# 199 is no exit status of ours, so that spec/support/run tells a report from a failed test.
# A spec may ask for more memory than there is, and may start a Lua that knows nothing of ASan.
ASAN_OPTIONS = exitcode=199:detect_leaks=1:allocator_may_return_null=1:verify_asan_link_order=0
ASAN = ASAN_OPTIONS=$(ASAN_OPTIONS) $(MAKE) BUILD=$(BUILD)/asan \
  CFLAGS='$(CFLAGS) -fsanitize=address -fno-omit-frame-pointer' \
  LUA='env LD_PRELOAD=$(shell $(CC) -print-file-name=libasan.so) $(LUA)'
check-asan:
	+$(ASAN) test

check-ubsan:
	UBSAN_OPTIONS=exitcode=199:print_stacktrace=1 $(MAKE) test BUILD=$(BUILD)/ubsan \
	  CFLAGS='$(CFLAGS) -fsanitize=undefined -fno-sanitize-recover=all'

check-valgrind-early check-valgrind-late: export VALGRIND_OPTS = -q --leak-check=full --errors-for-leak-kinds=definite \
  --show-leak-kinds=definite --error-exitcode=199 --fair-sched=try \
  --trace-children=yes --trace-children-skip=/bin/*,/usr/*
# Not what a second Ctrl-C ends on the spot, memory and all: valgrind may also deliver that twice.
check-valgrind-early check-valgrind-late: RUN = valgrind
check-valgrind-early check-valgrind-late: SPEC_FLAGS = --filter-out=Ctrl
check-valgrind-early check-valgrind-late: deps-dev deps-test $(ARTEFACTS) $(EMBED)
check-valgrind-early:
	@ALLUA_SPEC_SCALE=100 spec/support/run $(SPECS)
check-valgrind-late:
	@ALLUA_SPEC_SCALE=100 spec/support/run $(SPECS) $(PROGRAMS) $(STOCK)

# FUZZ_TIME in seconds, three times that against llhttp: millions of inputs; those that were worth keeping stay
# in $(BUILD)/fuzz.
FUZZ_TIME ?= 20
FUZZ = http_parser differential multipart json slab
FUZZ_OPTIONS_differential = -max_total_time=$$((3 * $(FUZZ_TIME)))
# A Lua state keeps its memory.
FUZZ_OPTIONS_json = -detect_leaks=0
.PHONY: fuzz
fuzz: $(addprefix fuzz-,$(FUZZ))
.PHONY: $(addprefix fuzz-,$(FUZZ))
$(addprefix fuzz-,$(FUZZ)): fuzz-%: $(BUILD)/fuzz/%
	@mkdir -p $(BUILD)/fuzz/$*-inputs
	cd $(BUILD)/fuzz && ./$* -max_total_time=$(FUZZ_TIME) -max_len=700 -verbosity=0 $(FUZZ_OPTIONS_$*) \
	  $*-inputs $(abspath spec/fuzz/inputs)

# llhttp in C, from Debian's node-llhttp.
LLHTTP = $(wildcard /usr/share/llhttp/*.c)
FUZZED_http_parser = host/http_parser.c host/http_field.c
FUZZED_differential = $(FUZZED_http_parser) $(LLHTTP)
FUZZED_multipart = host/multipart.c
FUZZED_json = host/json.c host/json_read.c host/json_write.c host/postgres_value.c host/row.c -l:liblua5.4.a -lm -ldl
$(BUILD)/fuzz/%: spec/fuzz/%.c $(wildcard host/*.h $(addprefix host/,$(addsuffix .c,$(FUZZ) http_field json_read json_write mem postgres_value row))) \
    | deps-dev
	$(call say,CLANG) clang -std=gnu11 -g -O2 -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=all -iquote host $(DEBIAN_CFLAGS) \
	  -isystem /usr/share/include/llhttp -DLLHTTP_STRICT_MODE=1 -o $@ $< \
	  host/mem.c host/slab.c $(FUZZED_$*)

# The dashboard in a real browser; screenshots stay in $(BUILD)/browser.
PLAYWRIGHT := $(BUILD)/node/node_modules/playwright-core
$(PLAYWRIGHT): | deps-browser
	$(call say,NPM) npm install --prefix $(BUILD)/node --no-save --no-package-lock \
	  --no-audit --no-fund playwright-core@1.56.1 @johnnymorganz/stylua-bin@2.5.2

.PHONY: check-browser
check-browser: deps-test $(BUILD)/allua $(PLAYWRIGHT)
	@mkdir -p $(BUILD)/browser
	node spec/browser/dashboard.mjs $(BUILD)/allua $(BUILD)/node $(BUILD)/browser
	node spec/browser/report.mjs $(BUILD)/allua $(BUILD)/node $(BUILD)/browser

check-faults:
	$(MAKE) faults
	+$(ASAN) faults

# ---- Read it

.PHONY: lint format
# Begins a recipe's line: $(call step,luacheck) shows that it is luacheck's turn.
step = $(if $(V),,@echo '  $1';)

lint: deps
	$(call step,clang-format) clang-format --dry-run -Werror $(C_FILES)
	$(call step,stylua) $(STYLUA) --check $(LUA_DIRS)
	$(call step,luacheck) luacheck -q --no-color $(LUA_DIRS)
	$(call step,cppcheck) cppcheck -q --std=c11 --enable=warning,performance,portability \
	  --inline-suppr --error-exitcode=1 host
	$(call step,clang-tidy) printf '%s\n' $(SOURCES) | xargs -P $$(nproc) -I{} \
	  clang-tidy --quiet {} -- $(FLAGS) -iquote host $(DEBIAN_CFLAGS)
	$(MAKE) all programs BUILD=$(BUILD)/gcc CC=gcc CFLAGS='$(CFLAGS) -Werror'
	$(MAKE) all programs BUILD=$(BUILD)/clang CC=clang CFLAGS='$(CFLAGS) -Werror'

format: deps
	clang-format -i $(C_FILES)
	$(STYLUA) $(LUA_DIRS)

.PHONY: clean
clean:
	rm -rf $(BUILD)
