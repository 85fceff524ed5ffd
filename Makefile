# Every target works from a fresh checkout; "make run" and "make test" also
# install the Debian packages they need.

# A pipe fails when any part of it does.
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c

GO      ?= $(or $(shell command -v go),/usr/local/go/bin/go)
PREFIX  ?= /usr/local
GOLDEN  ?= $(abspath ../shared/golden)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)
# Tests of the file system and of guests need root: as a user they are built
# here and run through sudo.
ASROOT  := $(if $(SUDO),-exec "sudo -E")
FUZZTIME ?= 10m

TOOLS   := qm qmrestore pvesm ha-manager pve-ha-simulator pve-firewall

.PHONY: run go build test check golden bench lab man install fuzz clean

# Without a Go that can build this, that is said before anything is installed.
go:
	@contrib/setup go "$(GO)"

## build: executables into bin/
build: go
	$(GO) build -o bin/ ./cfs/pmxcfs ./agents/pveagent
	ln -sf pmxcfs bin/pvecm
	for tool in $(TOOLS); do ln -sf pveagent bin/$$tool; done

## run: a single node in the foreground, /etc/pve mounted, all agents on
run: go
	$(SUDO) contrib/setup run
	$(MAKE) --no-print-directory build
	$(SUDO) env $(foreach v,MOUNT DB NODE GUESTDIR GUESTS,$(if $($(v)),$(v)="$($(v))")) contrib/run

## test: everything that can be tested on this machine
test: go
	$(SUDO) contrib/setup test
	$(MAKE) --no-print-directory build check
	$(GO) build -o bin/verdict ./fixtures/verdict
	$(GO) test $(ASROOT) -json -timeout 30m ./... | bin/verdict

## check: format, vet, staticcheck, house rules
check:
	@unformatted=$$(gofmt -l cfs agents plugins fixtures 2>/dev/null); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -count=1 ./fixtures/house

## golden: conformance suites below GOLDEN, a line each
golden:
	@GO="$(GO)" contrib/golden $(GOLDEN)

## bench: the table of a single node, then the benchmarks of the parts; BENCH=PACKAGES
BENCH   ?= ./cfs/...
bench:
	$(GO) test $(ASROOT) -run '^$$' -bench SingleNode -timeout 10m ./cfs/pmxcfs
	$(GO) test $(ASROOT) -run '^$$' -bench . -skip SingleNode -benchmem -benchtime 200ms -timeout 60m $(BENCH)

## lab: three nodes on this machine
lab: build
	$(SUDO) contrib/lab up 3

## man: read the pages as they are in the checkout
man:
	@mandoc -T lint -W warning man/*.[1-8]

## install: executables, man pages, units and completion below PREFIX
install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man
	install bin/pmxcfs bin/pveagent $(DESTDIR)$(PREFIX)/bin
	ln -sf pmxcfs $(DESTDIR)$(PREFIX)/bin/pvecm
	for tool in $(TOOLS); do ln -sf pveagent $(DESTDIR)$(PREFIX)/bin/$$tool; done
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for unit in contrib/systemd/*.service; do \
		sed 's|/usr/local|$(PREFIX)|' $$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; \
	done
	install -m 644 contrib/completion/* $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	for page in man/*.[1-8]; do \
		dir=$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}; install -d $$dir; install -m 644 $$page $$dir; \
	done

## fuzz: every fuzz function for FUZZTIME
fuzz:
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) contrib/fuzz

clean:
	rm -rf bin
