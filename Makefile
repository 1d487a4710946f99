# imgbuild: containers become machines. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

export CGO_ENABLED := 0
PREFIX ?= /usr/local
BUILD := build
VERSION ?= $(shell git describe --always --dirty --tags 2> /dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

# What runs imgbuild, what the demonstration and the tests need besides, and the tools that `make bench` compares with.
RUN_PACKAGES := ca-certificates e2fsprogs dosfstools mtools patch grub-common grub-pc-bin grub-efi-amd64-bin qemu-utils user-mode-linux kmod xfsprogs \
	btrfs-progs squashfs-tools-ng xorriso uidmap xz-utils tar
DEMO_PACKAGES := $(RUN_PACKAGES) curl git qemu-system-x86 ovmf docker-registry mmdebstrap
TEST_PACKAGES := $(DEMO_PACKAGES) acl apache2-utils attr buildah cpio fdisk gdisk gnupg debian-archive-keyring dpkg-dev apt-utils libarchive-tools libcap2-bin openssl podman fuse-overlayfs rsync skopeo \
	squashfs-tools erofs-utils reiserfsprogs umoci zstd jq docker.io busybox-static util-linux python3 rpm dnf zypper createrepo-c pacman-package-manager makepkg qemu-user-static \
	libxml2-utils isomd5sum shellcheck zsync selinux-utils sqlite3 db5.3-util python3-jsonschema osslsigncode cryptsetup-bin lvm2 mdadm gcc libc6-dev xen-utils-4.17 grub-xen-bin
BOOT_PACKAGES := qemu-system-arm qemu-efi-aarch64 ipxe-qemu
BENCH_PACKAGES := $(TEST_PACKAGES) libguestfs-tools time kiwi debootstrap

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## build ./imgbuild, one static binary
	go build -trimpath -ldflags '$(LDFLAGS)' -o imgbuild ./cmd/imgbuild

.PHONY: install
install: build ## install imgbuild, its manual pages and shell completion below PREFIX (/usr/local)
	install -D -m 0755 imgbuild $(DESTDIR)$(PREFIX)/bin/imgbuild
	./imgbuild reference --output $(DESTDIR)$(PREFIX)/share/man/man1
	mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	./imgbuild completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/imgbuild
	./imgbuild completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_imgbuild
	./imgbuild completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/imgbuild.fish

# Installs those of the given packages that are missing, as root or with sudo.
define install_packages
missing=()
for package in $(1); do
	dpkg-query -W -f '$${Status}\n' "$$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$$package")
done
if [ "$${#missing[@]}" -gt 0 ]; then
	echo "installing: $${missing[*]}"
	as_root=(); [ "$$(id -u)" = 0 ] || as_root=(sudo)
	"$${as_root[@]}" apt-get -q update
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$${missing[@]}"
fi
endef

# Debian 12's own osslsigncode knows no packages for Windows. That of its backports does.
SIGNER := pool/main/o/osslsigncode/osslsigncode_2.9-1~bpo12+1_amd64.deb
SIGNER_SHA256 := d867e4f38487eda98ce4400f1e0b96eb947bb170f88481931f6d50b733e9a4df
define install_signer
if dpkg --compare-versions "$$(dpkg-query -W -f '$${Version}' osslsigncode)" lt 2.6; then
	mkdir -p $(BUILD)
	curl -fsS -o $(BUILD)/osslsigncode.deb "http://deb.debian.org/debian/$(SIGNER)"
	echo "$(SIGNER_SHA256)  $(BUILD)/osslsigncode.deb" | sha256sum --check --quiet
	as_root=(); [ "$$(id -u)" = 0 ] || as_root=(sudo)
	"$${as_root[@]}" apt-get -q install -y ./$(BUILD)/osslsigncode.deb
fi
endef

.PHONY: deps
deps: ## install what the tests need and is missing (Debian)
	@$(call install_packages,$(TEST_PACKAGES))
	$(install_signer)

.PHONY: boot-deps
boot-deps: deps
	@$(call install_packages,$(BOOT_PACKAGES))

.PHONY: demo-deps
demo-deps:
	@$(call install_packages,$(DEMO_PACKAGES))

.PHONY: bench-deps
bench-deps:
	@$(call install_packages,$(BENCH_PACKAGES))

.PHONY: demo
demo: demo-deps build ## make a Debian container, serve it from a registry, turn it into a disk, boot it
	examples/container-to-vm/demo.sh

TEST_TREES := $(addprefix $(BUILD)/,debian.tar debian-vm.tar debian-live.tar debian-xen.tar)

.PHONY: test
test: deps build $(TEST_TREES) ## install what is missing and run every test, as root also as an ordinary user
	.ci/test

.PHONY: test-boot
test-boot: boot-deps build $(TEST_TREES) ## boot every image type in every way, which takes an hour
	.ci/test boot

# A Debian container: what packages are installed into.
$(BUILD)/debian.tar:
	mkdir -p $(BUILD)
	mmdebstrap --quiet --format=tar --variant=minbase bookworm - > $@.tmp
	mv $@.tmp $@

# A Debian system with kernel and boot loader: what the tests boot.
$(BUILD)/debian-vm.tar:
	mkdir -p $(BUILD)
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,login,passwd,iproute2,linux-image-cloud-amd64,initramfs-tools,grub-pc-bin,grub-efi-amd64-bin,grub-common,grub2-common,shim-signed,grub-efi-amd64-signed,systemd-boot-efi,zstd \
		--customize-hook='echo root:linux | chroot "$$1" chpasswd' bookworm - > $@.tmp
	mv $@.tmp $@

# A host of Xen.
$(BUILD)/debian-xen.tar:
	mkdir -p $(BUILD)
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,login,passwd,linux-image-amd64,initramfs-tools,xen-hypervisor-4.17-amd64,xen-utils-4.17,qemu-system-xen,grub-pc-bin,grub-efi-amd64-bin,grub-common,zstd,iproute2,busybox-static \
		--customize-hook='echo root:linux | chroot "$$1" chpasswd' bookworm - > $@.tmp
	mv $@.tmp $@

# A Debian system whose dracut makes live media.
$(BUILD)/debian-live.tar:
	mkdir -p $(BUILD)
	mmdebstrap --quiet --format=tar --variant=minbase --include=systemd,systemd-sysv,udev,dbus,login,passwd,linux-image-cloud-amd64,dracut,dracut-live,kiwi-dracut-live,kiwi-dracut-oem-repart,fdisk,e2fsprogs,isomd5sum,grub-pc-bin,grub-efi-amd64-bin,grub-common,shim-signed,grub-efi-amd64-signed,zstd \
		--customize-hook='echo root:linux | chroot "$$1" chpasswd' bookworm - > $@.tmp
	mv $@.tmp $@

.PHONY: test-dnf5
test-dnf5: deps $(BUILD)/debian-dnf5.tar ## test with dnf5, which Debian's development version has
	IMGBUILD_TEST_DNF5_TAR=$(CURDIR)/$(BUILD)/debian-dnf5.tar go test -count=1 -timeout 30m ./rootfs/dnf

# What Debian will be: it changes each day, and its index may be out of date.
$(BUILD)/debian-dnf5.tar:
	mkdir -p $(BUILD)
	mmdebstrap --quiet --format=tar --variant=apt --include=dnf5,rpm,createrepo-c,gpg --aptopt='Acquire::Check-Valid-Until "false"' sid - > $@.tmp
	mv $@.tmp $@

.PHONY: lint
lint: ## check format, vet, and the rules of the house
	@test -z "$$(gofmt -l .)" || { gofmt -d . | head -50; exit 1; }
	go vet ./...
	.ci/house

.PHONY: bench
bench: bench-deps build ## measure against the tools one would use instead, side by side
	go run ./internal/bench

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (1m)
	.ci/fuzz $${FUZZTIME:-1m}

.PHONY: clean
clean: ## remove what make made
	rm -rf $(BUILD) imgbuild
