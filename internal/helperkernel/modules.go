package helperkernel

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// moduleSet is a kernel's directory of modules, as depmod(8) has described it.
type moduleSet struct {
	fsys  fs.FS
	dir   string
	deps  map[string][]string // path of a module below dir -> those that must be loaded before
	paths map[string]string   // name of a module -> its path
	soft  map[string][]string // name -> names that are good to have too
	alias map[string][]string // other name -> names; patterns are left out
}

// readModules reads what depmod has left in a directory of modules.
func readModules(fsys fs.FS, dir string) (*moduleSet, error) {
	m := &moduleSet{fsys: fsys, dir: dir, deps: map[string][]string{}, paths: map[string]string{}, soft: map[string][]string{}, alias: map[string][]string{}}
	data, err := fs.ReadFile(fsys, path.Join(dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's modules: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		file, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok {
			m.deps[file] = strings.Fields(deps)
			m.paths[moduleName(file)] = file
		}
	}
	m.eachWord("modules.softdep", func(words []string) {
		if len(words) > 2 && words[0] == "softdep" {
			m.soft[moduleName(words[1])] = slices.DeleteFunc(words[2:], func(w string) bool { return w == "pre:" || w == "post:" })
		}
	})
	m.eachWord("modules.alias", func(words []string) {
		if len(words) == 3 && words[0] == "alias" && !strings.ContainsAny(words[1], "*?[") {
			m.alias[words[1]] = append(m.alias[words[1]], moduleName(words[2]))
		}
	})
	return m, nil
}

// Has reports whether the kernel has a module, as a file or built in.
func (k Kernel) Has(module string) (bool, error) {
	m, err := readModules(k.FS, k.Modules)
	if err != nil {
		return false, err
	}
	_, has := m.paths[moduleName(module)]
	m.eachWord("modules.builtin", func(words []string) {
		has = has || len(words) == 1 && moduleName(words[0]) == moduleName(module)
	})
	return has, nil
}

// eachWord calls fn with the words of each line of a file that may be missing.
func (m *moduleSet) eachWord(file string, fn func(words []string)) {
	data, err := fs.ReadFile(m.fsys, path.Join(m.dir, file))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(data)) {
		fn(strings.Fields(line))
	}
}

// moduleName is the name of a module by its file: without directory and endings, with underscores.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// closure returns the files of the named modules and of all that they need, sorted. A name that no file has is built into the kernel or
// not there at all.
func (m *moduleSet) closure(names []string) []string {
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		file, ok := m.paths[moduleName(name)]
		if !ok {
			for _, other := range slices.Concat(m.alias[name], m.alias["crypto-"+name], m.alias["fs-"+name]) {
				if _, ok := m.paths[other]; ok {
					visit(other)
				}
			}
			return
		}
		if seen[file] {
			return
		}
		seen[file] = true
		for _, dep := range m.deps[file] {
			visit(moduleName(dep))
		}
		for _, dep := range m.soft[moduleName(file)] {
			visit(dep)
		}
	}
	for _, name := range names {
		visit(name)
	}
	files := make([]string, 0, len(seen))
	for file := range seen {
		files = append(files, file)
	}
	slices.Sort(files)
	return files
}

// add puts the named modules with all that they need, and depmod's files, into an archive where modprobe finds them.
func (m *moduleSet) add(out *initrdWriter, names []string) error {
	to := "lib/modules/" + path.Base(m.dir)
	for _, file := range m.closure(names) {
		data, err := fs.ReadFile(m.fsys, path.Join(m.dir, file))
		if err != nil {
			return fmt.Errorf("reading a kernel module: %w", err)
		}
		out.add(path.Join(to, file), 0o100644, data)
	}
	for _, file := range []string{
		"modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.softdep", "modules.symbols", "modules.symbols.bin",
		"modules.builtin", "modules.builtin.bin", "modules.builtin.alias.bin", "modules.builtin.modinfo", "modules.order", "modules.devname",
	} {
		data, err := fs.ReadFile(m.fsys, path.Join(m.dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the kernel's modules: %w", err)
		}
		out.add(path.Join(to, file), 0o100644, data)
	}
	return nil
}
