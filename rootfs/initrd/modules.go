package initrd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// dracutModules holds a description's choice of dracut's modules, for whenever dracut makes an initial RAM disk.
const dracutModules = "etc/dracut.conf.d/51-modules.conf"

// Modules change what goes into initial RAM disks. Those of dracut are units of its own, drivers are the kernel's modules.
type Modules struct {
	Add, Omit, Set                      []string // modules of dracut; Set replaces all that it would take otherwise
	AddDrivers, OmitDrivers, SetDrivers []string
}

// Empty reports whether nothing is changed.
func (m Modules) Empty() bool {
	return len(m.Add)+len(m.Omit)+len(m.Set)+len(m.AddDrivers)+len(m.OmitDrivers)+len(m.SetDrivers) == 0
}

// WantModules lets the tree's initial RAM disks have other modules. Only dracut obeys all of it; other tools get added drivers. The notes say what
// has no effect.
func WantModules(edit *layers.Editor, m Modules) (notes []string, err error) {
	tool := Tool(edit.Tree())
	if tool != "dracut" {
		if len(m.AddDrivers) > 0 {
			if notes, err = WantDrivers(edit, m.AddDrivers); err != nil {
				return nil, err
			}
		}
		m.AddDrivers = nil
		if !m.Empty() {
			notes = append(notes, "<initrd> has no effect: its modules are dracut's, and the root tree has no dracut; add the package dracut to the description")
		}
		return notes, nil
	}
	var b strings.Builder
	for _, s := range []struct {
		variable string
		names    []string
	}{
		{"dracutmodules+", m.Set}, {"add_dracutmodules+", m.Add}, {"omit_dracutmodules+", m.Omit},
		{"drivers+", m.SetDrivers}, {"add_drivers+", m.AddDrivers}, {"omit_drivers+", m.OmitDrivers},
	} {
		if len(s.names) > 0 {
			fmt.Fprintf(&b, "%s=\" %s \"\n", s.variable, strings.Join(s.names, " "))
		}
	}
	return nil, writeSetting(edit, dracutModules, b.String())
}

// HasModule reports whether the tree's dracut has a module: a directory with two digits before its name.
func HasModule(tree *layers.Tree, name string) bool {
	_, dir, err := tree.Resolve("usr/lib/dracut/modules.d")
	return err == nil && dir.IsDir() && slices.ContainsFunc(dir.Names(), func(n string) bool { return len(n) == len(name)+2 && strings.HasSuffix(n, name) })
}
