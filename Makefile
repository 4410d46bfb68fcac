# Targets for people and for continuous integration. `make demo` and `make test` need nothing but Go, git and root.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
export CGO_ENABLED = 0

# How much of the long proofs runs in `make test`, and in their own targets.
SIM_HOURS      ?= 30
SIM_HOURS_LONG ?= 2000
VIRTUAL_SEEDS      ?= 12
VIRTUAL_SEEDS_LONG ?= 6000
SIM_TESTS      := TestNeverTwoOwners|TestDuels|TestCanariesAreCaught
FUZZ_TIME      ?= 2s
FUZZ_TIME_LONG ?= 10m
TAKEOVERS_LONG ?= 100

.PHONY: all build demo test unit race lint fuzz fuzz-short sim sim-short integ faults vm takeovers interop bench tools man compat clean

all: build

build:
	go build $(GOFLAGS_BUILD) -o bin/ ./cmd/...

# The main job, played in network namespaces: three nodes, a client, failures, and who owned the virtual IP.
demo: build
	bin/hactl demo

# Everything that proves the project, the short slice of each long proof included. What a test needs is there, so that a test
# which cannot run fails.
test: export HAD_NO_SKIP = 1
test: tools build lint unit race fuzz-short sim-short integ vm interop

# Debian packages that the tests run against, and nothing else.
tools:
	tools/install

unit:
	go test ./...

race:
	CGO_ENABLED=1 go test -race -short ./...

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt would change these files"; exit 1; }
	go vet -tags integ,interop ./...
	go tool -modfile=tools/go.mod staticcheck -tags integ,interop ./...

# Every fuzz target for a while.
fuzz:
	FUZZ_TIME=$(FUZZ_TIME_LONG) tools/fuzz

fuzz-short:
	FUZZ_TIME=$(FUZZ_TIME) tools/fuzz

# The simulated cluster, and the lease protocol alone. `make sim SEED=n` replays one seed.
sim:
ifdef SEED
	go test ./internal/agent/sim -run TestNeverTwoOwners -count=1 -v -sim.seed=$(SEED)
else
	go test ./internal/agent/sim -run '$(SIM_TESTS)|TestHold|TestTheGateway' -count=1 -timeout 6h -v -sim.hours=$(SIM_HOURS_LONG) -sim.duels=100000 -sim.slow
	go test ./internal/agent/sim -run 'TestNeverTwoOwners$$' -count=1 -timeout 6h -v -sim.hours=$(SIM_HOURS_LONG) -sim.adversarial
	go test ./cluster -run TestTheRealLogInVirtualTime -count=1 -timeout 6h -v -virtual.seeds=$(VIRTUAL_SEEDS_LONG)
endif

sim-short:
	go test ./internal/agent/sim -run '$(SIM_TESTS)' -count=1 -timeout 30m -v -sim.hours=$(SIM_HOURS) -sim.duels=1000 -sim.slow
	go test ./internal/agent/sim -run 'TestNeverTwoOwners$$' -count=1 -timeout 30m -v -sim.hours=3 -sim.adversarial
	go test ./cluster -run TestTheRealLogInVirtualTime -count=1 -timeout 30m -v -virtual.seeds=$(VIRTUAL_SEEDS)

# Real daemons in network namespaces, with an outside observer: the tests in *_integ_test.go. Needs root; what needs stock keepalived
# needs `make tools`. The figures that the tests have to show come at the end. Where faults are judged to the millisecond nothing else
# runs.
INTEG_FILES    = $(shell find . -name '*_integ_test.go')
INTEG_ALONE    = ./internal/integ/
INTEG_OTHERS   = $(filter-out $(INTEG_ALONE),$(sort $(dir $(INTEG_FILES))))
INTEG_TESTS    = ^($(shell sed -n 's/^func \(Test[A-Za-z0-9_]*\).*/\1/p' $(INTEG_FILES) | sort -u | paste -sd '|'))$$
IN_VM          = ^(TestVM.*|TestSetWallClock)$$
REPORT         = $(CURDIR)/build/report
INTEG          = go test -tags integ -count=1 -timeout 30m -run '$(INTEG_TESTS)' -skip '$(IN_VM)'
integ: build
	@mkdir -p build && rm -f $(REPORT) $(REPORT).faults
	@export HAD_BIN=$(CURDIR)/bin HAD_REPORT=$(REPORT); code=0; \
	$(INTEG) $(INTEG_ALONE) || code=1; $(INTEG) -p 2 $(INTEG_OTHERS) || code=1; cat $(REPORT); exit $$code

# The page of faults, with what the observer saw of each in a run of all tests with real daemons.
faults: integ
	go run ./internal/lab/faults/gendoc $(REPORT).faults docs/faults.md

# What may not be done to this machine, as steps of the wall clock, and what takes another kernel, as IPVS: in a virtual machine. A
# package with *_vm_test.go runs there as a whole. Needs `make tools`; qemu without acceleration is slow, and computes only, so that
# all run side by side.
VM_PACKAGES = $(sort $(dir $(shell find . -name '*_vm_test.go')))
vm: build
	@export HAD_BIN=$(CURDIR)/bin; go test -tags integ -count=1 -timeout 30m -v -run '$(IN_VM)' ./internal/integ & some=$$!; \
	go test -tags integ -count=1 -p 2 -timeout 30m -v $(VM_PACKAGES); others=$$?; wait $$some && exit $$others

# Directors that take over from each other while checks of real servers fail and succeed, more often than in `make vm`.
takeovers: build
	HAD_BIN=$(CURDIR)/bin go test -tags integ -count=1 -timeout 30m -v ./internal/balance/clustered -run TestTakeovers -takeovers=$(TAKEOVERS_LONG)

# How long elections of the log's leader take with and without what shortens them, how often threads give up a processor for a message, what
# the guard costs, what of had's memory a check holds, and beside stock keepalived, in a virtual machine: how soon a large table of virtual
# servers is complete, and what ten thousand health checks cost.
bench: build
	go test -run '^$$' -bench . -benchtime 30x ./cluster
	go test -run '^$$' -bench . -benchtime 400x ./cluster/transport
	go test -tags integ -run '^$$' -bench . ./fencing/guard
	HAD_BIN=$(CURDIR)/bin go test -tags integ -run '^$$' -bench LargeTable -benchtime 3x -timeout 30m ./internal/balance
	go test -run '^$$' -bench MemoryOfChecks -benchtime 1x ./internal/agent
	HAD_BIN=$(CURDIR)/bin go test -tags integ -run '^$$' -bench Checks -benchtime 1x -timeout 30m ./internal/balance

# Stock keepalived and FRR as strangers on the same LAN. Needs root and `make tools`.
interop: build
	HAD_BIN=$(CURDIR)/bin go test -tags interop -count=1 -p 1 -timeout 20m -v ./internal/interop

man:
	go run ./internal/control/cli/gendoc docs/man

# The page that compares every word with keepalived.
compat:
	go run ./internal/compat docs/keepalived-compat.md

clean:
	rm -rf bin build
