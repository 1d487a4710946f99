package boot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/imagetypes/image"
	"github.com/imgbuild/imgbuild/imagetypes/results"
	"github.com/imgbuild/imgbuild/inside"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/qemu"
)

// ErrUnknown says that a file is nothing that a machine boots from.
var ErrUnknown = errors.New("it is no disk, ISO image or kernel-initrd-system")

// machine is what an image needs to boot.
type machine struct {
	kind string // for people
	spec qemu.Spec
	dir  string // temporary files, "" for none
}

func (m *machine) close() error {
	if m.dir == "" {
		return nil
	}
	return os.RemoveAll(m.dir)
}

// newDir makes a directory for temporary files, in $TMPDIR or else in /var/tmp, where large files belong.
func (m *machine) newDir() (dir string, err error) {
	if m.dir == "" {
		place := os.Getenv("TMPDIR")
		if place == "" {
			place = "/var/tmp"
		}
		if m.dir, err = os.MkdirTemp(place, "imgbuild-boot-"); err != nil {
			return "", fmt.Errorf("making a temporary directory: %w", err)
		}
	}
	return os.MkdirTemp(m.dir, "")
}

// headSize is how many bytes of an image are looked at: up to the volume descriptors of an ISO image.
const headSize = 40 << 10

// inspect finds out what an image is.
func inspect(ctx context.Context, opts Options) (*machine, error) {
	m := &machine{spec: qemu.Spec{Arch: archOf(opts.Arch, opts.Image), Firmware: qemu.Firmware(opts.Firmware)}}
	err := m.find(ctx, opts.Image, opts)
	if errors.Is(err, ErrUnknown) {
		err = explainGuest(opts.Image, err)
	}
	if errors.Is(err, fs.ErrNotExist) && !strings.Contains(opts.Image, "/") && (filepath.Ext(opts.Image) == "" || strings.Contains(opts.Image, ":")) {
		err = fmt.Errorf("%w; if it is a container: %w", err, ErrContainer)
	}
	if err == nil && m.spec.Arch != "x86_64" && opts.Firmware != "" && opts.Firmware != string(qemu.UEFI) {
		err = fmt.Errorf("the firmware %s is for x86_64, and the machine for %s: leave out --firmware", opts.Firmware, m.spec.Arch)
	}
	if err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// find finds out what lies at name, in compression and archives too.
func (m *machine) find(ctx context.Context, name string, opts Options) error {
	const most = 4 // shells, such as an archive of a disk that is compressed
	for range most {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe would wait for who writes
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		if info.Mode()&(fs.ModeNamedPipe|fs.ModeCharDevice) != 0 {
			return fmt.Errorf("%w: it is neither a file, a block device nor a directory", ErrUnknown)
		}
		if info.IsDir() {
			result, err := bootable(name)
			if err != nil {
				return err
			}
			if result == "" {
				return m.system(ctx, name)
			}
			name, m.spec.Arch = result, archOf(opts.Arch, result)
			continue
		}
		head := make([]byte, headSize)
		n, err := io.ReadFull(f, head)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			return fmt.Errorf("reading it: %w", err)
		}
		head = head[:n]
		switch {
		case isISO(head):
			return m.iso(f, name, opts)
		case !isShell(head):
			return m.disk(ctx, f, head, name, opts)
		case opts.Writable:
			return errors.New("changes can't be kept in it, since it is compressed or an archive: unpack it, and boot what is in it")
		}
		if name, err = m.unpack(ctx, name); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it is packed too often", ErrUnknown)
}

// archOf is the architecture in a result's name, NAME.ARCH-VERSION, where none is asked for.
func archOf(asked, image string) string {
	if asked != "" {
		return asked
	}
	if strings.Contains(filepath.Base(image), ".aarch64-") {
		return "aarch64"
	}
	return "x86_64"
}

// bootable finds the one result of a build that boots, by the list in its target directory. It returns "" for a directory without such a list.
func bootable(dir string) (string, error) {
	list, err := results.ReadList(dir)
	if none := (*results.NoListError)(nil); errors.As(err, &none) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	found := map[string][]string{}
	for _, r := range list.Results {
		key, _, _ := strings.Cut(r.Key, ".") // a type may follow
		found[key] = append(found[key], r.Path)
	}
	disks := found[image.KeyDiskFormatImage]
	if len(disks) == 0 {
		disks = found[image.KeyDiskImage]
	}
	all := slices.Concat(disks, found[image.KeyLiveImage], found[image.KeyKISArchive])
	switch len(all) {
	case 0:
		return "", fmt.Errorf("%w: nothing of what was built there boots", ErrUnknown)
	case 1:
		return all[0], nil
	}
	return "", fmt.Errorf("several results in it boot: choose one of %s", strings.Join(all, ", "))
}

// The places of an ISO 9660 image (ECMA-119, section 8) and of El Torito (version 1.0, section 2), in bytes.
const (
	isoSector      = 2048
	isoDescriptors = 16 * isoSector // primary volume descriptor, then the boot record
	isoBootRecord  = 17 * isoSector
	isoCatalog     = isoBootRecord + 0x47 // the sector of the boot catalog, little-endian
)

func isISO(head []byte) bool {
	return len(head) >= isoDescriptors+6 && string(head[isoDescriptors+1:isoDescriptors+6]) == "CD001"
}

// iso boots an ISO image by the firmware that its boot catalog names first.
func (m *machine) iso(f *os.File, name string, opts Options) error {
	m.kind = "ISO image"
	if m.spec.Firmware == "" {
		var sector [4]byte
		if _, err := f.ReadAt(sector[:], isoCatalog); err != nil {
			return fmt.Errorf("reading its boot record: %w", err)
		}
		entry := make([]byte, 32)
		if _, err := f.ReadAt(entry, int64(binary.LittleEndian.Uint32(sector[:]))*isoSector); err != nil {
			return fmt.Errorf("reading its boot catalog: %w", err)
		}
		const validation, platformEFI = 1, 0xef
		if entry[0] != validation {
			return fmt.Errorf("%w: the ISO image has no boot catalog", ErrUnknown)
		}
		m.spec.Firmware = qemu.BIOS
		if entry[1] == platformEFI || m.spec.Arch != "x86_64" {
			m.spec.Firmware = qemu.UEFI
		}
	}
	if opts.AsDisk {
		m.spec.Disks = []qemu.Disk{{File: name, Format: "raw", Writable: opts.Writable}}
		return nil
	}
	m.spec.CDROM = name
	return nil
}

// disk boots a disk by the firmware that its first sectors are made for.
func (m *machine) disk(ctx context.Context, f *os.File, head []byte, name string, opts Options) error {
	format, err := formatOf(f, head)
	if err != nil {
		return err
	}
	m.kind = format + " disk"
	m.spec.Disks = []qemu.Disk{{File: name, Format: format, Writable: opts.Writable}}
	if format != "raw" {
		if err := inside.RefuseForeign(ctx, name, format); err != nil {
			return err
		}
		if head, err = m.firstSectors(ctx, name, format); err != nil {
			return err
		}
	}
	found, err := firmwareOf(head, m.spec.Arch)
	if m.spec.Firmware == "" {
		m.spec.Firmware = found
		return err
	}
	return nil
}

// formatOf tells disk formats by what they begin with, as QEMU names them. VHD has its mark at the end, too.
func formatOf(f *os.File, head []byte) (string, error) {
	for _, format := range []struct {
		name, magic string
		at          int
	}{
		{"qcow2", "QFI\xfb", 0}, {"vmdk", "KDMV", 0}, {"vmdk", "# Disk DescriptorFile", 0}, {"vhdx", "vhdxfile", 0}, {"vdi", "\x7f\x10\xda\xbe", 0x40}, {"vpc", "conectix", 0},
	} {
		if len(head) > format.at && bytes.HasPrefix(head[format.at:], []byte(format.magic)) {
			return format.name, nil
		}
	}
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	const footer = 512
	mark := make([]byte, 8)
	if _, err := f.ReadAt(mark, info.Size()-footer); err == nil && string(mark) == "conectix" {
		return "vpc", nil
	}
	if len(head) >= sector && head[510] == 0x55 && head[511] == 0xaa {
		return "raw", nil
	}
	return "", ErrUnknown
}

const sector = 512

// firstSectors reads the beginning of a disk in another format than raw.
func (m *machine) firstSectors(ctx context.Context, image, format string) ([]byte, error) {
	dir, err := m.newDir()
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "head")
	if err := command.Run(ctx, command.Cmd{Name: "qemu-img", Args: []string{"dd", "-f", format, "-O", "raw", "bs=4096", "count=10", "if=" + image, "of=" + out}}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// espType is the type of an EFI system partition as a GPT has it (UEFI specification, table 5.7), and efiByte as an MBR has it.
var espType = [16]byte{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

const efiByte = 0xef

// firmwareOf tells from a disk's first sectors what boots it. Where it is made for both, it is the BIOS, which is faster.
func firmwareOf(head []byte, arch string) (qemu.Firmware, error) {
	const bootCode = 440 // bytes, before the disk's signature
	if len(head) < 2*sector || head[510] != 0x55 || head[511] != 0xaa {
		return "", fmt.Errorf("%w: its first sector is no boot sector", ErrUnknown)
	}
	if arch != "x86_64" {
		return qemu.UEFI, nil
	}
	if len(bytes.Trim(head[:bootCode], "\x00")) > 0 {
		return qemu.BIOS, nil
	}
	if bytes.Contains(head[sector:], espType[:]) || bytes.IndexByte([]byte{head[450], head[466], head[482], head[498]}, efiByte) >= 0 {
		return qemu.UEFI, nil
	}
	return "", fmt.Errorf("%w: the disk has neither boot code for a BIOS nor an EFI system partition", ErrUnknown)
}
