package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/internal/qemu"
)

// system boots a kernel-initrd-system, as the image types kis and pxe have it, from a directory.
func (m *machine) system(ctx context.Context, dir string) error {
	m.kind = "kernel-initrd-system"
	if m.spec.Firmware == "" {
		m.spec.Firmware = qemu.BIOS // QEMU's own, which starts the kernel at once
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var base string // what all names begin with
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".initrd"); ok {
			base, m.spec.Initrd = name, filepath.Join(dir, e.Name())
		} else if name, ok := strings.CutSuffix(e.Name(), ".append"); ok {
			base = name
		}
	}
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		switch {
		case strings.HasSuffix(e.Name(), ".kernel"):
			m.spec.Kernel = file
		case strings.HasSuffix(e.Name(), ".append"):
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			m.spec.Append = strings.TrimSpace(string(text))
		case base != "" && (e.Name() == base || e.Name() == base+".xz" || e.Name() == base+".gz" || e.Name() == base+".zst"):
			if e.Name() != base {
				if file, err = m.unpack(ctx, file); err != nil {
					return err
				}
			}
			m.spec.Disks = []qemu.Disk{{File: file, Format: "raw"}}
		}
	}
	if m.spec.Kernel == "" {
		return fmt.Errorf("%w: there is no kernel (NAME.kernel) in it", ErrUnknown)
	}
	if len(m.spec.Disks) > 0 && !strings.Contains(" "+m.spec.Append, " root=") {
		m.spec.Append = strings.TrimSpace("root=/dev/vda " + m.spec.Append) // of a squashfs there is no identifier to tell, and this is its name here
	}
	// A machine without a screen shows nothing otherwise.
	if !strings.Contains(m.spec.Append, "console=") {
		m.spec.Append += " console=" + serialPort(m.spec.Arch)
	}
	return nil
}
