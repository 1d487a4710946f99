// Package dpkg reads the database of Debian's package manager from a root tree, without running anything of it.
package dpkg

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// The places of the database in a tree: the file, and the directory with one file a package that containers without dpkg have.
const (
	adminDir   = "var/lib/dpkg"
	statusFile = adminDir + "/status"
	statusDir  = adminDir + "/status.d"
)

// The bounds on what is read of a tree from a stranger, in bytes.
const (
	maxStatus = 256 << 20
	maxInfo   = 64 << 20
)

// Package is an installed package.
type Package struct {
	Name         string
	Version      string // with epoch and revision
	Architecture string // as Debian names it, such as amd64 or all
	Source       string // the source package
	Essential    bool
	MultiArch    string   // the Multi-Arch field
	Provides     []string // names of virtual packages
	Conffiles    []Conffile
}

// Conffile is a configuration file of a package, which an administrator may have changed.
type Conffile struct {
	Path   string // as trees name it
	MD5    string // of the package's version, hexadecimal
	Remove bool   // obsolete or about to be removed
}

// HasDatabase reports whether the tree has a database of dpkg, and whether it is one that dpkg can add to.
func HasDatabase(tree *layers.Tree) (there, writable bool) {
	if _, node, err := tree.Resolve(statusFile); err == nil && node.IsRegular() {
		return true, true
	}
	_, node, err := tree.Resolve(statusDir)
	return err == nil && node.IsDir() && node.Len() > 0, false
}

// Installed returns the installed packages, sorted by name and architecture. A tree without a database has none.
func Installed(tree *layers.Tree) ([]Package, error) {
	var packages []Package
	data, err := tree.ReadFile(statusFile, maxStatus)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the package database: %w", err)
	}
	for _, stanza := range Stanzas(data) {
		if p, ok := installed(stanza); ok {
			packages = append(packages, p)
		}
	}
	single, err := fromDirectory(tree)
	if err != nil {
		return nil, err
	}
	packages = append(packages, single...)
	slices.SortStableFunc(packages, func(a, b Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Architecture, b.Architecture))
	})
	return packages, nil
}

// fromDirectory reads the directory of a container without dpkg. Its packages are installed by their being there.
func fromDirectory(tree *layers.Tree) ([]Package, error) {
	resolved, dir, err := tree.Resolve(statusDir)
	if err != nil || !dir.IsDir() {
		return nil, nil //nolint:nilerr // not there
	}
	var packages []Package
	for _, name := range dir.Names() {
		if strings.HasSuffix(name, ".md5sums") || !dir.Child(name).IsRegular() {
			continue
		}
		data, err := tree.ReadFile(path.Join(resolved, name), maxInfo)
		if err != nil {
			return nil, fmt.Errorf("reading the package database: %w", err)
		}
		for _, stanza := range Stanzas(data) {
			if stanza["Package"] != "" {
				packages = append(packages, fromStanza(stanza))
			}
		}
	}
	return packages, nil
}

func installed(stanza map[string]string) (Package, bool) {
	// "want error state", as in dpkg-query(1). What is half-configured has its files in place.
	status := strings.Fields(stanza["Status"])
	if len(status) != 3 || stanza["Package"] == "" {
		return Package{}, false
	}
	switch status[2] {
	case "installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked":
		return fromStanza(stanza), true
	}
	return Package{}, false
}

func fromStanza(stanza map[string]string) Package {
	p := Package{
		Name: stanza["Package"], Version: stanza["Version"], Architecture: stanza["Architecture"],
		Essential: stanza["Essential"] == "yes", MultiArch: stanza["Multi-Arch"],
	}
	p.Source, _, _ = strings.Cut(stanza["Source"], " ")
	if p.Source == "" {
		p.Source = p.Name
	}
	for _, one := range strings.Split(stanza["Provides"], ",") {
		if fields := strings.Fields(one); len(fields) > 0 {
			p.Provides = append(p.Provides, fields[0])
		}
	}
	for line := range strings.Lines(stanza["Conffiles"]) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		p.Conffiles = append(p.Conffiles, Conffile{Path: layers.Clean(fields[0]), MD5: fields[1], Remove: len(fields) > 2})
	}
	return p
}

// Stanzas splits text in Debian's control format (deb-control(5)) into its paragraphs. Continuation lines are joined with newlines.
func Stanzas(text []byte) []map[string]string {
	var stanzas []map[string]string
	var current map[string]string
	last := ""
	scan := bufio.NewScanner(bytes.NewReader(text))
	scan.Buffer(nil, max(len(text), 1<<16)+1)
	for scan.Scan() {
		line := scan.Text()
		switch {
		case strings.TrimSpace(line) == "":
			current, last = nil, ""
		case line[0] == '#':
		case line[0] == ' ' || line[0] == '\t':
			if last != "" {
				current[last] += "\n" + strings.TrimSpace(line)
			}
		default:
			name, value, ok := strings.Cut(line, ":")
			if !ok {
				last = ""
				continue
			}
			if current == nil {
				current = map[string]string{}
				stanzas = append(stanzas, current)
			}
			last = name
			current[name] = strings.TrimSpace(value)
		}
	}
	return stanzas
}

// Missing returns the wanted names that no installed package has or provides. A name may have an architecture, as in "libc6:i386".
func Missing(packages []Package, wanted []string) []string {
	have := map[string]bool{}
	for _, p := range packages {
		have[p.Name] = true
		have[p.Name+":"+p.Architecture] = true
		for _, virtual := range p.Provides {
			have[virtual] = true
		}
	}
	var missing []string
	for _, name := range wanted {
		if !have[strings.TrimSuffix(name, ":any")] && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return missing
}
