// Package database reads what package managers say is installed in a root tree: the databases of dpkg, rpm, pacman and apk have one face
// here. Nothing of the tree is run.
package database

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// Kind is whose database it is.
type Kind string

// The kinds of databases.
const (
	DPKG   Kind = "dpkg"
	RPM    Kind = "rpm"
	Pacman Kind = "pacman"
	APK    Kind = "apk"
)

// Package is an installed package.
type Package struct {
	Name    string
	Epoch   string // "" is none; dpkg's, pacman's and apk's is part of the version
	Version string // with the revision where the database does not part them
	Release string
	Arch    string // as the manager writes it
	DistURL string // where its source is, as the Open Build Service notes it
	License string
	Source  string // the source package, "" if it is not known
}

// EVR is the version in full: [EPOCH:]VERSION[-RELEASE].
func (p Package) EVR() string {
	text := p.Version
	if p.Epoch != "" {
		text = p.Epoch + ":" + text
	}
	if p.Release != "" {
		text += "-" + p.Release
	}
	return text
}

// Database is the database of one tree.
type Database struct {
	kind   Kind
	tree   *layers.Tree
	reader reader
}

// reader is what the kinds of databases differ in. Packages are numbered in order of their names.
type reader interface {
	// installed are the packages, sorted by name.
	installed() []Package
	// has reports whether a package has or provides the name, in the manager's notation.
	has(name string) bool
	// lines are the lines of .packages.
	lines() []string
	// wants tells what of the tree's contents changelog and claims will need.
	wants(ask func(want)) error
	// changelog is the change log of package i, "" if it has none in the tree.
	changelog(s *Survey, i int) ([]byte, error)
	// claims are what package i says of its files.
	claims(s *Survey, i int) ([]claim, error)
}

// Open reads the tree's database. A tree without one gives nil and no error; of a tree with several, the first of dpkg, rpm, pacman and apk counts.
func Open(tree *layers.Tree) (*Database, error) {
	for _, one := range []struct {
		kind Kind
		open func(*layers.Tree) (reader, error)
	}{{DPKG, openDPKG}, {RPM, openRPM}, {Pacman, openPacman}, {APK, openAPK}} {
		r, err := one.open(tree)
		if err != nil {
			return nil, fmt.Errorf("reading the database of %s: %w", one.kind, err)
		}
		if r != nil {
			return &Database{one.kind, tree, r}, nil
		}
	}
	return nil, nil
}

// Kind is whose database it is.
func (d *Database) Kind() Kind { return d.kind }

// Installed are the installed packages, sorted by name.
func (d *Database) Installed() []Package { return d.reader.installed() }

// Missing returns those of the names, each once, that no installed package has or provides.
func (d *Database) Missing(names []string) []string {
	var missing []string
	for _, name := range names {
		if !d.reader.has(name) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	return missing
}

// WritePackages writes one line a package, in KIWI's form: name|epoch|version|release|arch|disturl|license. What is not known is None or, as rpm
// writes it, (none). The lines are sorted as a whole, as KIWI has them.
func (d *Database) WritePackages(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, line := range slices.Sorted(slices.Values(d.reader.lines())) {
		if _, err := out.WriteString(line + "\n"); err != nil {
			return err
		}
	}
	return out.Flush()
}

// fields joins the fields of a line of .packages; an empty one is written as none.
func fields(none string, list ...string) string {
	for i, field := range list {
		if field == "" {
			list[i] = none
		}
	}
	return strings.Join(list, "|")
}

// nameSet is a set of names that packages have or provide.
type nameSet map[string]struct{}

func (s nameSet) add(names ...string) {
	for _, name := range names {
		s[name] = struct{}{}
	}
}

func (s nameSet) has(name string) bool {
	_, ok := s[name]
	return ok
}
