package grub

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Device says how GRUB finds the file system that holds its files.
type Device struct {
	UUID string // of the file system; empty: it has none
	File string // a path that only this file system has; used where UUID is empty
	Hint string // where to look first, such as hd0,gpt3, for an image with copies of the file system; empty: anywhere
}

// search returns the command that sets root to the device.
func (d Device) search() string {
	if d.UUID != "" {
		hint := ""
		if d.Hint != "" {
			hint = "--hint=" + d.Hint + " "
		}
		return "search --no-floppy --fs-uuid " + hint + "--set=root " + d.UUID
	}
	return "search --no-floppy --file --set=root " + d.File
}

// Early returns the commands that a core image runs: find the device, then read grub.cfg from prefix on it.
func Early(d Device, prefix string) string {
	return fmt.Sprintf("%s\nset prefix=($root)%s\n", d.search(), prefix)
}

// Stub returns a grub.cfg that does the same for a core image that is signed and so can't have commands built in.
func Stub(d Device, prefix string) string {
	return Early(d, prefix) + "configfile $prefix/grub.cfg\n"
}

// Kernel is a kernel to boot. Paths are as GRUB sees them on the device.
type Kernel struct {
	Version string
	Image   string
	Initrd  string // empty: none
}

// Hypervisor is Xen, which GRUB starts in the kernel's place and which starts the kernel.
type Hypervisor struct {
	Image   string   // as GRUB sees it on the device
	Cmdline string   // of the hypervisor
	Kernels []Kernel // that run on it, newest first
	// KernelCmdline is theirs, root= included.
	KernelCmdline string
}

// Config is what a grub.cfg says.
type Config struct {
	Title   string
	Kernels []Kernel // newest first
	Device  Device
	Prefix  string // GRUB's directory as seen on the device
	Cmdline string // kernel command line, root= included

	Hypervisor *Hypervisor // what starts by itself, before the kernels; nil for none

	Timeout int    // seconds; negative: wait for ever
	Style   string // menu, countdown or hidden; empty: menu
	// Terminals are GRUB's terminals, such as gfxterm, console and serial. Empty leaves the firmware's.
	Output, Input []string
	Serial        string // GRUB's serial command, for the terminal serial
	GfxMode       string // for gfxterm; empty: auto
	Theme         Theme  // for gfxterm
}

// withoutXen makes the second entry, which starts no hypervisor, follow where the first can't: Secure Boot lets GRUB load none.
const withoutXen = "set fallback=1\n\n"

// recovery is what a recovery entry adds to the kernel command line.
const recovery = "single"

// String returns the text of grub.cfg.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("# GRUB's menu, written when the image was built. The distribution's update-grub or grub2-mkconfig writes it anew.\n")
	b.WriteString("if [ -s $prefix/grubenv ]; then\n  load_env\nfi\n")
	b.WriteString("if [ \"${next_entry}\" ]; then\n  set default=\"${next_entry}\"\n  set next_entry=\n  save_env next_entry\nelse\n  set default=\"${saved_entry}\"\nfi\n")
	b.WriteString("if [ -z \"${default}\" ]; then\n  set default=0\nfi\n")
	c.terminals(&b)
	fmt.Fprintf(&b, "set timeout_style=%s\nset timeout=%d\n\n", cmp.Or(c.Style, "menu"), c.Timeout)
	if len(c.Kernels) == 0 {
		return b.String()
	}
	if h := c.Hypervisor; h != nil {
		b.WriteString(withoutXen)
		c.entry(&b, "", Entry{Title: c.Title + ", with Xen hypervisor", ID: "imgbuild-xen", Hypervisor: h, Kernel: h.Kernels[0], Cmdline: h.KernelCmdline})
	}
	c.entry(&b, "", Entry{Title: c.Title, ID: "imgbuild-default", Kernel: c.Kernels[0], Cmdline: c.Cmdline})
	fmt.Fprintf(&b, "submenu %s --id imgbuild-advanced {\n", quote("Advanced options for "+c.Title))
	for _, k := range c.Kernels {
		title := c.Title + ", with Linux " + k.Version
		c.entry(&b, "  ", Entry{Title: title, ID: "imgbuild-" + k.Version, Kernel: k, Cmdline: c.Cmdline})
		c.entry(&b, "  ", Entry{Title: title + " (recovery mode)", ID: "imgbuild-" + k.Version + "-recovery", Kernel: k, Cmdline: strings.TrimSpace(c.Cmdline + " " + recovery)})
	}
	if h := c.Hypervisor; h != nil {
		for _, k := range h.Kernels {
			c.entry(&b, "  ", Entry{Title: c.Title + ", with Xen hypervisor and Linux " + k.Version, ID: "imgbuild-xen-" + k.Version, Hypervisor: h, Kernel: k, Cmdline: h.KernelCmdline})
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// Entry is one line of a menu.
type Entry struct {
	Title, ID  string
	Kernel     Kernel
	Cmdline    string
	More       string      // follows the command line as it is, in GRUB's script language
	Hypervisor *Hypervisor // which starts the kernel, nil for none; only its image and command line count
}

// Menu returns the text of a grub.cfg for a medium that nobody writes to, with these entries, of which the first starts by itself. Of c, title, kernels and
// command line don't matter.
func (c Config) Menu(entries []Entry) string {
	var b strings.Builder
	b.WriteString("# GRUB's menu, written when the image was built.\nset default=0\n")
	c.terminals(&b)
	fmt.Fprintf(&b, "set timeout_style=%s\nset timeout=%d\n\n", cmp.Or(c.Style, "menu"), c.Timeout)
	if len(entries) > 0 && entries[0].Hypervisor != nil {
		b.WriteString(withoutXen)
	}
	for _, e := range entries {
		c.entry(&b, "", e)
	}
	return b.String()
}

// terminals sets up GRUB's terminals. Where the graphical one can't be had, because GRUB lacks a module or Secure Boot refuses the font, the
// firmware's console takes its place.
func (c Config) terminals(b *strings.Builder) {
	if slices.Contains(c.Output, "serial") || slices.Contains(c.Input, "serial") {
		fmt.Fprintf(b, "%s\n", c.Serial)
	}
	if len(c.Input) > 0 {
		fmt.Fprintf(b, "terminal_input %s\n", strings.Join(c.Input, " "))
	}
	output := strings.Join(c.Output, " ")
	if !slices.Contains(c.Output, "gfxterm") {
		if output != "" {
			fmt.Fprintf(b, "terminal_output %s\n", output)
		}
		return
	}
	mode := c.GfxMode
	if mode == "" {
		mode = "auto"
	}
	plain := strings.ReplaceAll(output, "gfxterm", "console")
	fmt.Fprintf(b, "if loadfont $prefix/fonts/unicode.pf2; then\n  set gfxmode=%s\n  insmod all_video\n  insmod gfxterm\n%s  terminal_output %s\nelse\n  terminal_output %s\nfi\n", mode, c.Theme.commands(), output, plain)
}

// entry writes one line of the menu. A hypervisor and what it starts are loaded by the Multiboot2 protocol, which knows BIOS and UEFI; the first word of a
// module's command line is its name, which Xen does not look at.
func (c Config) entry(b *strings.Builder, indent string, e Entry) {
	fmt.Fprintf(b, "%smenuentry %s --class gnu-linux --class os --unrestricted --id %s {\n", indent, quote(e.Title), quote(e.ID))
	lines := []string{"insmod part_gpt", "insmod part_msdos", c.Device.search()}
	linux, ramdisk := "linux "+e.Kernel.Image, "initrd "+e.Kernel.Initrd
	if h := e.Hypervisor; h != nil {
		lines = append(lines, "insmod multiboot2", "echo "+quote("Loading Xen ..."), strings.TrimSpace("multiboot2 "+h.Image+" placeholder "+Escape(h.Cmdline)))
		linux, ramdisk = "module2 "+e.Kernel.Image+" placeholder", "module2 --nounzip "+e.Kernel.Initrd
	}
	lines = append(lines, "echo "+quote("Loading Linux "+e.Kernel.Version+" ..."), strings.TrimSpace(strings.TrimSpace(linux+" "+Escape(e.Cmdline))+" "+e.More))
	if e.Kernel.Initrd != "" {
		lines = append(lines, "echo "+quote("Loading initial ramdisk ..."), ramdisk)
	}
	for _, line := range lines {
		fmt.Fprintf(b, "%s  %s\n", indent, line)
	}
	fmt.Fprintf(b, "%s}\n", indent)
}

// Escape keeps the characters of a kernel command line that mean something to GRUB's script language. What the description has put into quotes stays one word, without what GRUB
// would replace in it; a quote that nothing closes stands for itself.
func Escape(cmdline string) string {
	var b strings.Builder
	var open rune
	for i, c := range cmdline {
		special := "$\\;&|{}<>#"
		switch open {
		case '"':
			special = "$\\"
		case '\'':
			special = ""
		}
		switch {
		case open == 0 && (c == '"' || c == '\'') && strings.ContainsRune(cmdline[i+1:], c):
			open = c
		case open == 0 && (c == '"' || c == '\''), strings.ContainsRune(special, c):
			b.WriteByte('\\')
		case c == open:
			open = 0
		}
		b.WriteRune(c)
	}
	return b.String()
}

// quote makes one word of GRUB's script language.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
