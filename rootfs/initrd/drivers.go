package initrd

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// The files that hold a description's drivers, for the tree's tool and whenever it makes an initial RAM disk again.
const (
	initramfsModules = "etc/initramfs-tools/modules"
	dracutDrivers    = "etc/dracut.conf.d/50-drivers.conf"
	mkinitcpioConf   = "etc/mkinitcpio.conf.d/50-drivers.conf"
)

// WantDrivers lets the tree's initial RAM disks have kernel modules. A driver is the name of a module, or a path below the kernel's folder of modules,
// such as drivers/scsi/virtio_scsi.ko or drivers/net/*. The notes say which ones no kernel of the tree has as a module.
func WantDrivers(edit *layers.Editor, drivers []string) (notes []string, err error) {
	tree := edit.Tree()
	tool := Tool(tree)
	if tool == "" {
		return []string{"drivers have no effect: " + ErrNoTool.Error()}, nil
	}
	var names []string
	for _, driver := range drivers {
		found := modules(tree, driver)
		if len(found) == 0 {
			notes = append(notes, fmt.Sprintf("driver %s: no kernel of the root tree has it as a module", driver))
		}
		names = append(names, found...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return notes, nil
	}
	switch tool {
	case "dracut":
		return notes, writeSetting(edit, dracutDrivers, fmt.Sprintf("add_drivers+=\" %s \"\n", strings.Join(names, " ")))
	case "mkinitcpio":
		return notes, writeSetting(edit, mkinitcpioConf, fmt.Sprintf("MODULES+=(%s)\n", strings.Join(names, " ")))
	case "update-initramfs":
		return notes, addLines(edit, initramfsModules, names)
	}
	return append(notes, "drivers have no effect: "+tool+" takes no list of modules"), nil
}

func writeSetting(edit *layers.Editor, name, text string) error {
	if err := edit.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	return edit.WriteFile(name, []byte(text), 0o644)
}

// addLines appends the lines that a file lacks.
func addLines(edit *layers.Editor, name string, lines []string) error {
	data, err := edit.ReadFile(name, maxSetting)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	old := strings.Split(text, "\n")
	for _, line := range lines {
		if !slices.Contains(old, line) {
			text += line + "\n"
		}
	}
	return writeSetting(edit, name, text)
}

// modules returns the names of the modules that a driver of a description means.
func modules(tree *layers.Tree, driver string) []string {
	pattern := strings.TrimPrefix(strings.TrimPrefix(driver, "/"), "kernel/")
	var names []string
	for _, k := range FindKernels(tree) {
		_, dir, err := tree.Resolve(path.Join(k.Modules, "kernel"))
		if k.Modules == "" || err != nil || !dir.IsDir() {
			continue
		}
		walk(dir, "", func(file string) {
			base, _, _ := strings.Cut(path.Base(file), ".ko")
			uncompressed := path.Join(path.Dir(file), base+".ko")
			ok, err := path.Match(pattern, uncompressed)
			if err != nil {
				return // no pattern: no module is called so
			}
			// A folder means what is below it.
			inside := strings.HasPrefix(file, strings.TrimSuffix(strings.TrimSuffix(pattern, "*"), "/")+"/") && (strings.HasSuffix(pattern, "/*") || strings.HasSuffix(pattern, "/"))
			named := !strings.Contains(pattern, "/") && moduleName(strings.TrimSuffix(pattern, ".ko")) == moduleName(base)
			if ok || inside || named {
				names = append(names, moduleName(base))
			}
		})
	}
	return names
}

// moduleName is a module's name as the kernel has it.
func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

// walk calls visit for the modules in a directory and below.
func walk(dir *layers.Node, at string, visit func(file string)) {
	for _, name := range dir.Names() {
		child, file := dir.Child(name), path.Join(at, name)
		switch {
		case child.IsDir():
			walk(child, file, visit)
		case strings.Contains(name, ".ko"):
			visit(file)
		}
	}
}
