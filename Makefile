# Few verbs. `make` alone prints them.

TARGET  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT     := $(abspath $(or $(CARGO_TARGET_DIR),target))
BIN     := $(OUT)/$(TARGET)/release/cofferdam
SHIM    := $(OUT)/$(TARGET)/release/containerd-shim-cofferdam-v2
CTL     := $(OUT)/$(TARGET)/release/cofferctl
DAEMON  := $(OUT)/$(TARGET)/release/cofferdamd
PREFIX  ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60

# One file that needs nothing but the kernel: libc linked in, loaded at an address of the kernel's choice.
STATIC  := RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=pie" \
           cargo build --quiet --release --target $(TARGET)

.DEFAULT_GOAL := help
.PHONY: help build run run-device check test test-vm bench bench-shim bench-packages attacks fuzz install uninstall

help: ## print these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

build: ## build the release binaries, static, and print their sizes
	@echo "build: cofferdam, its shim, cofferctl and cofferdamd, static, with link-time optimisation (some minutes the first time)"
	@$(STATIC) -p cofferdam -p containerd-shim-cofferdam-v2
	@# Apart: cofferdam must not get what only these ask of a library.
	@$(STATIC) -p cofferctl -p cofferdamd
	@script/static $(BIN)
	@script/static $(SHIM)
	@script/static $(CTL)
	@script/static $(DAEMON)

run: build ## run a throw-away container on a default that needs no image (ARGS="... -- CMD")
	@$(BIN) try $(ARGS)

run-device: build ## run the daemon of devices in the foreground, with packages made of examples/ (as root; Ctrl-C ends it)
	@COFFERCTL=$(CTL) COFFERDAMD=$(DAEMON) script/run-device $(OUT)/device

check: ## fmt, clippy, pure tests, documentation; needs no root
	@echo "check: formatting"
	@cargo fmt --all --check
	@echo "check: clippy"
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@echo "check: pure tests"
	@script/cargo-test --quiet --workspace -- --skip root_ --skip attack_
	@echo "check: documentation"
	@RUSTDOCFLAGS="-D warnings" cargo doc --quiet --workspace --no-deps --document-private-items
	@echo "check: good"

test: build ## run every test that this machine can run, and count the skips
	@COFFERDAM=$(BIN) COFFERDAM_SHIM=$(SHIM) script/test $(OUT)/skips

test-vm: build ## run tests in a virtual machine with systemd, cgroup v2, AppArmor: docs/vm.md (TEST="fields" for one file)
	@COFFERDAM=$(BIN) COFFERDAM_SHIM=$(SHIM) script/test-vm $(TEST)

bench: build ## measure beside runc, crun and the floor, in turns (ARGS="--rounds 500")
	@echo "bench: the driver and the floor, static"
	@$(STATIC) -p bench
	@script/bench-peers
	@$(OUT)/$(TARGET)/release/bench --runtime cofferdam=$(BIN) $(ARGS)
	@$(OUT)/$(TARGET)/release/bench --joins

bench-shim: build ## measure the containerd shim beside containerd's own, in turns (ARGS="--rounds 100")
	@$(STATIC) -p bench
	@$(OUT)/$(TARGET)/release/bench --shim cofferdam=$(SHIM) $(ARGS)

bench-packages: ## measure packages made, installed and mounted, beside mksquashfs (ARGS="--packages DIR")
	@$(STATIC) -p bench
	@$(OUT)/$(TARGET)/release/bench --packages /usr/share/doc $(ARGS)

attacks: ## take each defence out by its patch and show that its attack then succeeds
	@script/attacks

fuzz: ## fuzz every parser of foreign bytes for FUZZ_SECONDS=60 each
	@script/fuzz $(FUZZ_SECONDS)

install: build ## install binaries, manual, completions below PREFIX=/usr/local (DESTDIR goes before it)
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' script/install $(BIN) $(SHIM) $(CTL) $(DAEMON)

uninstall: ## remove what install has put there
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' script/install --remove
