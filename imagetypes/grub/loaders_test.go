package grub

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/layers"
)

// TestFindLoaders looks for the loaders of another architecture, which this machine has not, in small trees.
func TestFindLoaders(t *testing.T) {
	if _, err := Find(nil, PlatformEFIA6); err == nil {
		t.Skip("not possible here: this machine has the modules that are to be missed")
	}
	const bios, efi, shim, signed = "usr/lib/grub/i386-pc/kernel.img", "usr/lib/grub/arm64-efi/kernel.img", "usr/lib/shim/shimaa64.efi.signed", "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed"
	for name, c := range map[string]struct {
		files  []string
		wanted Wanted
		want   string // what starts the image
		says   string // in the log or the error
		fails  bool
	}{
		"both":         {[]string{bios, efi}, Wanted{BIOS: true, EFI: true}, "BIOS (GRUB from /usr/lib/grub/i386-pc of the root tree), UEFI (GRUB from /usr/lib/grub/arm64-efi of the root tree)", "", false},
		"no UEFI":      {[]string{bios}, Wanted{BIOS: true, EFI: true, Firmware: "efi"}, "", `firmware="efi": no GRUB modules for arm64-efi`, true},
		"either":       {[]string{bios}, Wanted{BIOS: true, EFI: true, Either: true}, "BIOS (GRUB from /usr/lib/grub/i386-pc of the root tree)", "by BIOS only", false},
		"secure":       {[]string{shim, signed}, Wanted{EFI: true, Secure: true}, "UEFI with Secure Boot (" + shim + ")", "", false},
		"not secure":   {[]string{efi}, Wanted{EFI: true, Secure: true}, "UEFI (GRUB from /usr/lib/grub/arm64-efi of the root tree)", "will not boot with Secure Boot", false},
		"not wanted":   {[]string{bios, efi}, Wanted{BIOS: true}, "BIOS (GRUB from /usr/lib/grub/i386-pc of the root tree)", "", false},
		"no such UEFI": {nil, Wanted{EFI: true, Arch: "s390x"}, "", "s390x", true},
	} {
		edit := layers.NewTree().Edit(layers.Timespec{})
		for _, file := range c.files {
			if err := edit.WriteFile(file, []byte("x"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if c.wanted.Arch == "" {
			c.wanted.Arch = "aarch64"
		}
		c.wanted.Image = "image"
		var log bytes.Buffer
		loaders, err := FindLoaders(edit.Tree(), c.wanted, slog.New(slog.NewTextHandler(&log, nil)))
		text := log.String()
		if err != nil {
			text += err.Error()
		}
		if c.fails != (err != nil) || loaders.String() != c.want || !strings.Contains(text, c.says) || c.says == "" && text != "" {
			t.Errorf("%s: %s; %v; log %s", name, loaders, err, &log)
		}
		if c.fails && strings.Contains(c.says, "modules") && !errors.Is(err, ErrNoModules) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
