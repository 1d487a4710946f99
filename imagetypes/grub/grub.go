// Package grub brings GRUB 2 onto images: it finds GRUB's modules in the root tree or on this machine, makes its core images, patches its
// boot sectors and writes its configuration.
//
// Nothing is installed as grub-install does it, which needs devices: boot sectors are patched as bytes, and modules are put into the root
// tree as a value.
package grub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/layers"
)

// The platforms of GRUB that are used here, in its own words.
const (
	PlatformBIOS  = "i386-pc"
	PlatformEFI64 = "x86_64-efi"
	PlatformEFIA6 = "arm64-efi"
	// GRUB as the kernel of a guest of Xen.
	PlatformXenPV  = "x86_64-xen"
	PlatformXenPVH = "i386-xen_pvh"
)

// FormatElTorito is the core image that a BIOS starts from a CD: see [ImageSpec].Format.
const FormatElTorito = "i386-pc-eltorito"

// EFIPlatform returns the platform for an architecture as uname -m names it, and the name of the boot loader that firmware looks for on a
// disk: UEFI specification 2.10, section 3.5.1.1.
func EFIPlatform(arch string) (platform, bootFile string, err error) {
	switch arch {
	case "x86_64":
		return PlatformEFI64, "BOOTX64.EFI", nil
	case "aarch64":
		return PlatformEFIA6, "BOOTAA64.EFI", nil
	}
	return "", "", fmt.Errorf("booting %s by UEFI is not supported yet; x86_64 and aarch64 are", arch)
}

// moduleDirs lists where distributions keep the modules of a platform: Debian, Fedora and Arch; SUSE; old SUSE.
func moduleDirs(platform string) []string {
	return []string{"usr/lib/grub/" + platform, "usr/share/grub2/" + platform, "usr/lib/grub2/" + platform}
}

// Modules are GRUB's files for one platform.
type Modules struct {
	Platform string
	Dir      string       // on this machine, or in the tree
	Tree     *layers.Tree // nil: Dir is on this machine
}

// ErrNoModules says that neither the root tree nor this machine has GRUB's modules for a platform.
var ErrNoModules = errors.New("no GRUB modules")

// Find looks for the modules of a platform in the root tree and then on this machine; tree may be nil. The error wraps [ErrNoModules].
func Find(tree *layers.Tree, platform string) (*Modules, error) {
	for _, dir := range moduleDirs(platform) {
		if tree != nil {
			if resolved, _, err := tree.Resolve(dir + "/kernel.img"); err == nil {
				return &Modules{Platform: platform, Dir: path.Dir(resolved), Tree: tree}, nil
			}
		}
	}
	for _, dir := range moduleDirs(platform) {
		if _, err := os.Stat("/" + dir + "/kernel.img"); err == nil {
			return &Modules{Platform: platform, Dir: "/" + dir}, nil
		}
	}
	return nil, fmt.Errorf("%w for %s, neither in the root tree nor on this machine: %s", ErrNoModules, platform, PackageHint(platform))
}

// PackageHint says which package brings the modules of a platform.
func PackageHint(platform string) string {
	names := map[string]string{
		PlatformBIOS:  "grub-pc-bin (Debian), grub2-pc-modules (Fedora) or grub2-i386-pc (openSUSE)",
		PlatformEFI64: "grub-efi-amd64-bin (Debian), grub2-efi-x64-modules (Fedora) or grub2-x86_64-efi (openSUSE)",
		PlatformEFIA6: "grub-efi-arm64-bin (Debian), grub2-efi-aa64-modules (Fedora) or grub2-arm64-efi (openSUSE)",

		PlatformXenPV:  "grub-xen-bin (Debian) or grub2-x86_64-xen (openSUSE)",
		PlatformXenPVH: "grub-xen-bin (Debian)",
	}
	return "add the package " + names[platform] + " to the description"
}

// String says where the modules are from.
func (m *Modules) String() string {
	if m.Tree == nil {
		return m.Dir + " of this machine"
	}
	return "/" + m.Dir + " of the root tree"
}

// node is one file of the modules.
type node struct {
	name string
	node *layers.Node
}

// nodes lists the files that GRUB reads at boot or when it is installed.
func (m *Modules) nodes(modTime layers.Timespec) ([]node, error) {
	var list []node
	if m.Tree != nil {
		_, dir, err := m.Tree.Resolve(m.Dir)
		if err != nil {
			return nil, fmt.Errorf("reading GRUB's modules: %w", err)
		}
		for _, name := range dir.Names() {
			if n := dir.Child(name); n.IsRegular() && isModule(name) {
				list = append(list, node{name, n})
			}
		}
		return list, nil
	}
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return nil, fmt.Errorf("reading GRUB's modules: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !isModule(e.Name()) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(m.Dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading GRUB's modules: %w", err)
		}
		list = append(list, node{e.Name(), layers.NewFile(data, 0o644, modTime)})
	}
	return list, nil
}

// isModule tells files that boot from what only belongs to building GRUB.
func isModule(name string) bool {
	switch path.Ext(name) {
	case ".mod", ".lst", ".o", ".img":
		return true
	}
	return false
}

// maxModule bounds one file of GRUB, in bytes.
const maxModule = 32 << 20

// Extract returns a directory of this machine that holds the modules: a new one below scratch if they are in the tree.
func (m *Modules) Extract(ctx context.Context, scratch string) (string, error) {
	if m.Tree == nil {
		return m.Dir, nil
	}
	nodes, err := m.nodes(layers.Timespec{})
	if err != nil {
		return "", err
	}
	dir := filepath.Join(scratch, m.Platform)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("extracting GRUB's modules: %w", err)
	}
	names := map[*layers.Node]string{}
	var contents []*layers.Node
	for _, n := range nodes {
		if n.node.Size > maxModule {
			return "", fmt.Errorf("extracting GRUB's modules: %s/%s has %d bytes", m.Dir, n.name, n.node.Size)
		}
		names[n.node] = filepath.Join(dir, n.name)
		contents = append(contents, n.node)
	}
	err = layers.EachContent(ctx, contents, func(n *layers.Node, data io.Reader) error {
		f, err := os.OpenFile(names[n], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, data)
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		return err
	})
	if err != nil {
		return "", fmt.Errorf("extracting GRUB's modules: %w", err)
	}
	return dir, nil
}

// Directory returns the directory in /boot that the distribution of the tree uses: boot/grub2 on Fedora and SUSE, else boot/grub.
func Directory(tree *layers.Tree) string {
	for _, name := range []string{"boot/grub2", "usr/sbin/grub2-mkconfig", "usr/share/grub2", "usr/lib/grub2"} {
		if _, _, err := tree.Resolve(name); err == nil {
			return "boot/grub2"
		}
	}
	return "boot/grub"
}

// Resolver finds files: a [layers.Tree], or an editor of one.
type Resolver interface {
	Resolve(name string) (string, *layers.Node, error)
}

// Install puts modules, and the font for graphical terminals if fonts has it where GRUB's package installs it, into dir of the tree, so that GRUB finds
// there what its core image lacks.
func (m *Modules) Install(edit *layers.Editor, fonts Resolver, dir string) error {
	nodes, err := m.nodes(edit.ModTime)
	if err != nil {
		return err
	}
	into := path.Join(dir, m.Platform)
	if err := edit.MkdirAll(into, 0o755); err != nil {
		return fmt.Errorf("installing GRUB's modules: %w", err)
	}
	for _, n := range nodes {
		if path.Ext(n.name) == ".img" {
			continue
		}
		copied := *n.node
		copied.Mode = layers.TypeRegular | 0o644
		if err := edit.Put(path.Join(into, n.name), &copied); err != nil {
			return fmt.Errorf("installing GRUB's modules: %w", err)
		}
	}
	return installFont(edit, fonts, dir)
}

// installFont copies the font of GRUB's package to where grub.cfg loads it from.
func installFont(edit *layers.Editor, fonts Resolver, dir string) error {
	for _, name := range []string{"usr/share/grub/unicode.pf2", "usr/share/grub2/unicode.pf2"} {
		_, font, err := fonts.Resolve(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("installing GRUB's font: %w", err)
		}
		if err := edit.MkdirAll(path.Join(dir, "fonts"), 0o755); err != nil {
			return fmt.Errorf("installing GRUB's font: %w", err)
		}
		copied := *font
		return edit.Put(path.Join(dir, "fonts/unicode.pf2"), &copied)
	}
	return nil
}

// ImageSpec says what core image to make.
type ImageSpec struct {
	Platform string
	Format   string   // what to make, as grub-mkimage -O names it; empty: Platform
	Modules  string   // directory of this machine
	Prefix   string   // GRUB's directory as seen on the root device
	Config   string   // commands to run first
	Names    []string // modules to build in
}

// mkimagePrograms are the names of one program, on Debian and on Fedora and SUSE.
func mkimagePrograms() []string { return []string{"grub-mkimage", "grub2-mkimage"} }

// FindMkimage returns the name of the program that makes core images. The error is a *command.MissingError.
func FindMkimage() (string, error) {
	var first error
	for _, name := range mkimagePrograms() {
		_, err := command.Find(name)
		if err == nil {
			return name, nil
		}
		if first == nil {
			first = err
		}
	}
	return "", first
}

// MakeImage makes a core image and returns its bytes. Scratch is a directory for temporary files.
func MakeImage(ctx context.Context, spec ImageSpec, scratch string) ([]byte, error) {
	program, err := FindMkimage()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(scratch, spec.Platform+".cfg")
	if err := os.WriteFile(config, []byte(spec.Config), 0o600); err != nil {
		return nil, fmt.Errorf("making GRUB's core image: %w", err)
	}
	out := filepath.Join(scratch, spec.Platform+".core")
	args := []string{"-O", cmp.Or(spec.Format, spec.Platform), "-d", spec.Modules, "-p", spec.Prefix, "-c", config, "-o", out}
	var present []string
	for _, name := range spec.Names {
		if _, err := os.Stat(filepath.Join(spec.Modules, name+".mod")); err == nil {
			present = append(present, name)
		}
	}
	if err := command.Run(ctx, command.Cmd{Name: program, Args: append(args, present...)}); err != nil {
		return nil, fmt.Errorf("making GRUB's core image for %s: %w", spec.Platform, err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("making GRUB's core image: %w", err)
	}
	return data, nil
}

// CoreModules returns the modules that a core image needs to find and read grub.cfg and to start a kernel without loading more.
func CoreModules(platform string) []string {
	names := []string{
		"part_gpt", "part_msdos", "fat", "ext2", "xfs", "btrfs", "squash4", "normal", "configfile", "linux", "search", "search_fs_uuid", "search_fs_file",
		"search_label", "echo", "test", "true", "loadenv", "gzio", "zstd", "minicmd", "ls", "cat", "serial", "terminal", "gfxterm", "font", "regexp", "reboot", "halt", "sleep",
	}
	switch platform {
	case PlatformBIOS:
		return append(names, "biosdisk", "vga", "vbe", "boot", "chain")
	case PlatformXenPV: // unpacks kernels, as none does that the hypervisor starts
		return append(names, "boot", "xzio", "lzopio")
	case PlatformXenPVH:
		return append(names, "boot")
	}
	return append(names, "all_video", "efi_gop", "boot", "chain", "gfxmenu", "png", "gettext", "lvm", "luks", "luks2", "cryptodisk", "gcry_rijndael", "gcry_sha256", "gcry_sha512",
		"efi_uga", "iso9660")
}

// Places in GRUB's boot sectors, from include/grub/i386/pc/boot.h of GRUB 2.
const (
	bootCodeSize     = 440  // what comes before disk signature and partition table
	bootKernelSector = 0x5c // where boot.img keeps the first sector of the core image, 64 bits
	bootDrive        = 0x64 // 0xff: the drive that the BIOS started from
	bootDriveCheck   = 0x66 // a jump to code that is wrong for some BIOSes on hard disks
	coreBlockList    = 512 - 12
	sectorSize       = 512
)

// BIOSBoot patches GRUB's boot sector and core image for a disk on which the core image begins at the given sector of 512 bytes. It returns the
// bytes that go to the begin of the disk, and the core image.
func BIOSBoot(bootImage, core []byte, coreSector uint64) (boot, patched []byte, err error) {
	if len(bootImage) != sectorSize || bootImage[510] != 0x55 || bootImage[511] != 0xaa {
		return nil, nil, errors.New("patching GRUB's boot.img: it is not a boot sector")
	}
	if len(core) < 2*sectorSize {
		return nil, nil, errors.New("patching GRUB's core image: it is too short")
	}
	boot = bytes.Clone(bootImage[:bootCodeSize])
	binary.LittleEndian.PutUint64(boot[bootKernelSector:], coreSector)
	boot[bootDrive] = 0xff
	boot[bootDriveCheck], boot[bootDriveCheck+1] = 0x90, 0x90
	patched = bytes.Clone(core)
	binary.LittleEndian.PutUint64(patched[coreBlockList:], coreSector+1)
	return boot, patched, nil
}

// ReadImage returns a file of the modules, such as boot.img.
func (m *Modules) ReadImage(name string) ([]byte, error) {
	if m.Tree != nil {
		return m.Tree.ReadFile(path.Join(m.Dir, name), maxModule)
	}
	data, err := os.ReadFile(filepath.Join(m.Dir, name))
	if err != nil {
		return nil, fmt.Errorf("reading GRUB's %s: %w", name, err)
	}
	return data, nil
}

// Environment is an empty environment block (grubenv): 1024 bytes, which GRUB changes in place.
func Environment() []byte {
	const size = 1024
	head := "# GRUB Environment Block\n"
	return []byte(head + strings.Repeat("#", size-len(head)))
}
