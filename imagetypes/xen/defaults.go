package xen

import (
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// maxDefaults bounds a file with settings of GRUB, in bytes.
const maxDefaults = 1 << 20

// Tree is what [HostOptions] reads: a [layers.Tree], or an editor of one.
type Tree interface {
	Resolve(name string) (string, *layers.Node, error)
	ReadFile(name string, limit int64) ([]byte, error)
}

// HostOptions returns what the kernel of a host is told, whose command line without a hypervisor is cmdline, and what the hypervisor is told: always, and at first, which is what
// starts by itself.
func HostOptions(tree Tree, cmdline string) (kernel, always, first string) {
	kernel, consoles := hostConsole(cmdline)
	always, first = hypervisorOptions(tree)
	always = addWords(consoles, always)
	return kernel, always, addWords(always, first)
}

// addWords returns the words of both, each once.
func addWords(words, more string) string {
	var all []string
	for word := range strings.FieldsSeq(words + " " + more) {
		if !slices.Contains(all, word) {
			all = append(all, word)
		}
	}
	return strings.Join(all, " ")
}

// hypervisorOptions returns what the tree's settings of GRUB tell the hypervisor: GRUB_CMDLINE_XEN for every entry and GRUB_CMDLINE_XEN_DEFAULT for the first, from
// /etc/default/grub and, as on Debian, /etc/default/grub.d/*.cfg. Values that only a shell understands are left out.
func hypervisorOptions(tree Tree) (always, first string) {
	files := []string{"etc/default/grub"}
	if dir, node, err := tree.Resolve("etc/default/grub.d"); err == nil && node.IsDir() {
		names := slices.Sorted(slices.Values(node.Names()))
		for _, name := range names {
			if strings.HasSuffix(name, ".cfg") {
				files = append(files, path.Join(dir, name))
			}
		}
	}
	for _, file := range files {
		data, err := tree.ReadFile(file, maxDefaults)
		if err != nil {
			continue // none, or nothing that GRUB's tools could read either
		}
		for line := range strings.Lines(string(data)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			value = strings.Trim(value, `"'`)
			if strings.ContainsAny(value, "$`\\\"'#") {
				continue
			}
			switch key {
			case "GRUB_CMDLINE_XEN":
				always = value
			case "GRUB_CMDLINE_XEN_DEFAULT":
				first = value
			}
		}
	}
	return always, first
}
