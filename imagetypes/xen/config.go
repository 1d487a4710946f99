package xen

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The kinds of guests, as xl.cfg(5) names them.
const (
	PV  = "pv"  // paravirtual: the kernel knows that it runs under Xen
	PVH = "pvh" // the processor's help for virtual machines, without emulated devices
	HVM = "hvm" // a machine with firmware and emulated devices
)

// Config is the configuration of a guest, in the words of xl.cfg(5). What is empty or 0 is left out.
type Config struct {
	Comment    string // lines to begin with
	Name       string
	Type       string // PV, PVH or HVM
	Memory     int    // MiB
	MaxMemory  int    // MiB
	CPUs       int
	MaxCPUs    int
	Kernel     string // a file, as all names relative to where xl is started
	Ramdisk    string
	Cmdline    string // of the kernel
	Bootloader string // a program of the host that finds the kernel
	BIOS       string // firmware of an HVM guest
	Serial     string // where the serial port of an HVM guest goes
	Disks      []string
	NICs       []string
	// Entries are further lines as they are. What they set is not set otherwise.
	Entries []string
}

// Disk returns the specification of a disk, xl-disk-configuration(5). The target comes last: it may contain anything but a newline.
func Disk(format, device, target string) string {
	return fmt.Sprintf("format=%s,vdev=%s,access=rw,target=%s", format, device, target)
}

// entryKey finds what a line of a configuration sets.
var entryKey = regexp.MustCompile(`^\s*([A-Za-z_][A-Za-z0-9_]*)\s*\+?=`)

// EntryKey returns the name that a line of a configuration sets, and whether the line sets one.
func EntryKey(line string) (string, bool) {
	found := entryKey.FindStringSubmatch(line)
	if found == nil {
		return "", false
	}
	return found[1], true
}

// EntryText returns the text that a line such as type = "pvh" sets.
func EntryText(line string) string {
	_, value, _ := strings.Cut(line, "=")
	return strings.Trim(strings.TrimSpace(value), `"'`)
}

// String returns the text of the configuration.
func (c Config) String() string {
	var b strings.Builder
	for line := range strings.Lines(c.Comment) {
		b.WriteString("# " + line)
	}
	if c.Comment != "" {
		b.WriteString("\n")
	}
	var taken []string
	for _, entry := range c.Entries {
		if key, ok := EntryKey(entry); ok {
			taken = append(taken, key)
		}
	}
	set := func(key, value string) {
		if value != "" && !slices.Contains(taken, key) {
			fmt.Fprintf(&b, "%s = %s\n", key, value)
		}
	}
	number := func(key string, n int) {
		if n > 0 {
			set(key, fmt.Sprint(n))
		}
	}
	text := func(key, value string) {
		if value != "" {
			set(key, quote(value))
		}
	}
	text("name", c.Name)
	text("type", c.Type)
	number("memory", c.Memory)
	number("maxmem", c.MaxMemory)
	number("vcpus", c.CPUs)
	number("maxvcpus", c.MaxCPUs)
	text("kernel", c.Kernel)
	text("ramdisk", c.Ramdisk)
	if !slices.Contains(taken, "cmdline") { // which would make these two void
		root, extra := splitRoot(c.Cmdline)
		text("root", root)
		text("extra", extra)
	}
	text("bootloader", c.Bootloader)
	text("bios", c.BIOS)
	text("serial", c.Serial)
	set("disk", list(c.Disks))
	set("vif", list(c.NICs))
	for _, entry := range c.Entries {
		b.WriteString(strings.TrimSpace(entry) + "\n")
	}
	return b.String()
}

// splitRoot takes the root device out of a kernel's command line: xl has a setting of its own for it, so that an entry can replace the one without the other.
func splitRoot(cmdline string) (root, extra string) {
	words := strings.Fields(cmdline)
	i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "root=") })
	if i < 0 {
		return "", cmdline
	}
	return strings.TrimPrefix(words[i], "root="), strings.Join(slices.Delete(words, i, i+1), " ")
}

// list writes a list of strings, "" for none.
func list(items []string) string {
	if len(items) == 0 {
		return ""
	}
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[ " + strings.Join(quoted, ", ") + " ]"
}

// quote writes a string as xl reads it: between quotes, with a backslash before what has a meaning there. A newline must be written as in C; all else may stand
// for itself, and xl's numbered escapes are not reliable.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}
