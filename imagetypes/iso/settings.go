package iso

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/imagetypes/filesystem"
	"github.com/imgbuild/imgbuild/imagetypes/grub"
	"github.com/imgbuild/imgbuild/imagetypes/xen"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
)

// The ways of a live system, by the attribute flags.
const (
	// flagOverlay is KIWI's module kiwi-live: an ext4 file system in a squashfs.
	flagOverlay = "overlay"
	// flagDMSquash is dracut's module dmsquash-live: the root tree as a squashfs.
	flagDMSquash = "dmsquash"
)

// defaultVolume is the volume identifier if the description gives none, as in KIWI.
const defaultVolume = "CDROM"

// failsafeWords are for machines that do not start otherwise, as in KIWI.
const failsafeWords = "ide=nodma apm=off noresume edd=off nomodeset 3"

// mediaCheckWords start the check of the medium.
const mediaCheckWords = "mediacheck=1 plymouth.enable=0"

// What stands around the menu of systems. Another GRUB, which finds the ISO image as a file of its own disk, sets iso_path before it reads this menu, and dracut looks for
// the file then. The last entry leaves it to the firmware to start something else.
const (
	findImage = `if [ -n "$iso_path" ]; then
  set isoboot="iso-scan/filename=$iso_path"
fi
`
	isoBoot  = `"$isoboot"` // on the kernel command line
	hardDisk = `menuentry 'Boot from Hard Disk' --class os --unrestricted --id 'harddisk' {
  exit
}
`
)

// settings are what a description asks for.
type settings struct {
	typ    *description.Type
	title  string
	arch   string
	flags  string
	volume string
	id     string // tells this medium from all others: 0x and eight digits
	number uint32 // the same as a number
	ids    repro.Source
	bios   bool   // a BIOS is to start it
	efi    bool   // UEFI is to start it
	secure bool   // by signed programs, if the root tree has them
	either bool   // one of both is enough: the description does not say
	theme  string // of GRUB's menu; "" for GRUB's own
	// template is the description's text for grub.cfg, "" for one of our own.
	template string
}

// newSettings reads a description and refuses what can't be built, with the place in the description.
func newSettings(d *description.Image, ids repro.Source) (*settings, error) {
	t := &d.Type
	s := &settings{
		typ: t, title: cmp.Or(d.DisplayName, d.Name), arch: d.Arch, ids: ids, number: ids.Uint32("medium"),
		flags: cmp.Or(t.Flags, flagOverlay), volume: cmp.Or(t.VolID, defaultVolume), theme: d.BootloaderTheme,
	}
	s.id = fmt.Sprintf("0x%08x", s.number)
	for _, c := range []struct {
		asked      bool
		attr, what string
	}{
		{t.LUKS != nil, "luks", "encryption"},
	} {
		if c.asked {
			return nil, t.Errorf(c.attr, "leave it out", "%s is not supported for live ISOs yet", c.what)
		}
	}
	if name := t.Bootloader.Name; name != "" && name != "grub2" {
		return nil, t.Bootloader.Errorf("name", "use grub2", "the boot loader %s is not supported for live ISOs", name)
	}
	if s.flags != flagOverlay && s.flags != flagDMSquash {
		return nil, t.Errorf("flags", "use overlay or dmsquash", "there is no live system of the kind %s", s.flags)
	}
	const longest = 32 // ECMA-119, section 8.4.7, in bytes
	if len(s.volume) > longest {
		return nil, t.Errorf("volid", "", "a volume identifier has at most %d characters, and this has %d", longest, len(s.volume))
	}
	if strings.ContainsAny(s.volume, " /\\\"'$;") {
		return nil, t.Errorf("volid", "use letters, digits, _, - and .", "the volume identifier %q can't be put on the kernel's command line", s.volume)
	}
	for attr, text := range map[string]string{"publisher": t.Publisher, "application_id": t.ApplicationID} {
		const longest = 128 // ECMA-119, sections 8.4.20 and 8.4.22, in bytes
		if len(text) > longest {
			return nil, t.Errorf(attr, "shorten it", "an ISO image holds at most %d bytes of it, and this has %d", longest, len(text))
		}
	}
	if fs := t.HybridPersistentFS; fs != "" && fs != "ext4" && fs != "xfs" {
		return nil, t.Errorf("hybridpersistent_filesystem", "use ext4 or xfs", "changes can't be kept on %s", fs)
	}
	if t.XenServer && s.arch != "x86_64" {
		return nil, t.Errorf("xen_server", "leave it out", "hosts of Xen can be made for x86_64, and the image is for %s", s.arch)
	}
	if err := s.readTemplate(d); err != nil {
		return nil, err
	}
	return s, s.firmware()
}

// warnOfLetters tells what the header of ECMA-119 has no letters for: xorriso writes such texts whole into the header of Joliet, which is UTF-16, and with _ for these letters
// into the other.
func (s *settings) warnOfLetters(log *slog.Logger) {
	for attr, text := range map[string]string{"publisher": s.typ.Publisher, "application_id": s.typ.ApplicationID} {
		if strings.ContainsFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) {
			log.Warn("programs that do not read Joliet's header of the ISO show _ for letters outside of ASCII", "attribute", attr, "text", text, "at", s.typ.At(attr).String())
		}
	}
}

// maxTemplate bounds a template for grub.cfg, in bytes.
const maxTemplate = 1 << 20

// readTemplate reads the description's template for grub.cfg, if it has one.
func (s *settings) readTemplate(d *description.Image) error {
	b := &s.typ.Bootloader
	if b.GrubTemplate == "" {
		return nil
	}
	f, err := files.Source{Dir: d.Dir, FS: d.FS}.Open(b.GrubTemplate)
	if err != nil {
		return b.Errorf("grub_template", "paths are relative to the description's directory", "the template can't be read: %v", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTemplate))
	if err != nil {
		return fmt.Errorf("reading the template %s: %w", b.GrubTemplate, err)
	}
	s.template = string(data)
	_, err = s.fillTemplate(grub.Settings(s.title, s.typ), "boot/grub") // what is wrong in it is told before any work
	return err
}

// fillTemplate makes the menu from the description's template, with KIWI's variables.
func (s *settings) fillTemplate(config grub.Config, grubDir string) (string, error) {
	_, bootFile, err := grub.EFIPlatform(s.arch)
	if err != nil {
		bootFile = ""
	}
	text, err := grub.Fill(s.template, map[string]string{
		"search_params": "--no-floppy --file --set=root " + s.device().File, "default_boot": "0", "kernel_file": "linux", "initrd_file": "initrd", "hypervisor": xenFile,
		"boot_options": grub.Escape(s.cmdline()), "failsafe_boot_options": grub.Escape(s.cmdline() + " " + failsafeWords), "gfxmode": cmp.Or(config.GfxMode, "auto"), "theme": s.theme,
		"boot_timeout": strconv.Itoa(config.Timeout), "boot_timeout_style": cmp.Or(config.Style, "menu"), "serial_line_setup": config.Serial, "title": s.title,
		"bootpath": "/" + s.loaderDir(), "boot_directory_name": path.Base(grubDir), "efi_image_name": strings.ToLower(bootFile), "terminal_setup": strings.Join(config.Output, " "),
	})
	if err != nil {
		return "", s.typ.Bootloader.Errorf("grub_template", "", "filling the template %s: %v", s.typ.Bootloader.GrubTemplate, err)
	}
	return text, nil
}

// loaderDir is the directory of kernel, initial RAM disk and what a BIOS starts.
func (s *settings) loaderDir() string { return "boot/" + s.arch + "/loader" }

// device is where GRUB finds the medium.
func (s *settings) device() grub.Device { return grub.Device{File: "/boot/" + s.id} }

// firmware decides on boot ways.
func (s *settings) firmware() error {
	t := s.typ
	switch {
	case !t.Has("firmware"): // KIWI's default is BIOS alone; a medium that starts everywhere costs 20 MiB
		s.bios, s.efi, s.secure, s.either = s.arch == "x86_64", true, true, true
	case t.Firmware == "bios", t.Firmware == "ec2":
		s.bios = true
	case t.Firmware == "efi", t.Firmware == "uefi":
		s.bios, s.efi, s.secure = s.arch == "x86_64" && t.EFICSM.Or(true), true, t.Firmware == "uefi"
	default:
		return t.Errorf("firmware", "use bios, efi or uefi", "the firmware %s is not supported for live ISOs", t.Firmware)
	}
	if s.bios && s.arch != "x86_64" {
		return t.Errorf("firmware", "use efi or uefi", "there is no BIOS for %s", s.arch)
	}
	if s.efi {
		if _, _, err := grub.EFIPlatform(s.arch); err != nil {
			return t.Errorf("firmware", "", "%v", err)
		}
	}
	return nil
}

// specs are the file systems of the system, the outer one first.
func (s *settings) specs() []filesystem.Spec {
	squashfs := filesystem.Spec{Type: "squashfs", Compression: s.typ.SquashfsCompression}
	if s.flags == flagDMSquash {
		return []filesystem.Spec{squashfs}
	}
	// Nothing is ever written to the inner one: it needs neither a journal nor room.
	return []filesystem.Spec{squashfs, {Type: "ext4", Label: "ROOT", UUID: s.ids.UUID("live root"), MkfsOptions: []string{"-O", "^has_journal", "-m", "0"}}}
}

// ownModule reports whether the initial RAM disk needs what neither dracut nor KIWI has.
func (s *settings) ownModule() bool {
	return s.typ.MediaCheck || s.typ.HybridPersistent && s.flags == flagDMSquash
}

// cmdline is the kernel's command line.
func (s *settings) cmdline() string {
	words := strings.Fields(s.typ.KernelCmdline)
	var front []string
	if !slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "root=") }) {
		front = append(front, "root=live:CDLABEL="+s.volume)
	}
	front = append(front, "rd.live.image")
	if s.flags == flagDMSquash {
		front = append(front, "rd.live.overlay.overlayfs=1")
	}
	if s.typ.HybridPersistent {
		front = append(front, "rd.live.overlay.persistent", "rd.live.overlay.cowfs="+s.persistentFS())
	}
	return strings.Join(append(front, words...), " ")
}

// persistentFS is the file system that changes are kept on.
func (s *settings) persistentFS() string { return cmp.Or(s.typ.HybridPersistentFS, "ext4") }

// menu returns the entries of GRUB's menu for a kernel. Where there is a hypervisor, a path on the medium, it starts by itself, with what the tree's settings tell it; without it
// the same system is there for guests that have none and for when it fails.
func (s *settings) menu(k grub.Kernel, hypervisor string, tree *layers.Tree) []grub.Entry {
	entries := []grub.Entry{{Title: s.title, ID: "live", Kernel: k, Cmdline: s.cmdline(), More: isoBoot}}
	if hypervisor != "" {
		kernel, _, options := xen.HostOptions(tree, s.cmdline())
		h := &grub.Hypervisor{Image: hypervisor, Cmdline: options}
		entries = append([]grub.Entry{{Title: s.title + ", with Xen hypervisor", ID: "live-xen", Kernel: k, Cmdline: kernel, Hypervisor: h}}, entries...)
	}
	if s.typ.InstallProvideFailsafe {
		entries = append(entries, grub.Entry{Title: "Failsafe -- " + s.title, ID: "failsafe", Kernel: k, Cmdline: s.cmdline() + " " + failsafeWords, More: isoBoot})
	}
	if s.typ.MediaCheck {
		entries = append(entries, grub.Entry{Title: "Mediacheck", ID: "mediacheck", Kernel: k, Cmdline: s.cmdline() + " " + mediaCheckWords})
	}
	return entries
}
