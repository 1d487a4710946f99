package deb

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/rootfs/dpkg"
)

// The bounds on what is read of a tree from a stranger, in bytes.
const (
	maxStatus = 256 << 20
	maxList   = 64 << 20
	maxConfig = 1 << 20
)

// existing is what a tree's package database says before packages are added.
type existing struct {
	status    []byte
	names     map[string]bool      // of the packages that it knows, installed or not
	files     map[string]string    // whose they are, by where they lie
	diverted  map[string]diversion // by the names that packages have for the files
	overrides map[string]bool      // files with an owner and a mode of their own (dpkg-statoverride(1))
	interests map[string]bool      // the files and directories that packages wait for changes of
}

// diversion moves a file of all packages but one elsewhere (dpkg-divert(1)).
type diversion struct {
	to string
	by string // the package; ":" is none
}

// names of files here are as in trees: without a slash at the beginning.
func treeName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// readStatus reads which packages the tree has.
func (w *treeWriter) readStatus() (*existing, error) {
	format, err := w.readFile(infoDir+"/format", maxConfig)
	if err != nil {
		return nil, err
	}
	if strings.TrimSpace(string(format)) != "1" {
		return nil, fmt.Errorf("its package database has the format %q", format)
	}
	if journal, err := w.readDir(adminDir + "/updates"); err != nil || len(journal) > 0 {
		return nil, errors.Join(err, errors.New("its package database has changes that are not done"))
	}
	e := &existing{names: map[string]bool{}}
	if e.status, err = w.readFile(adminDir+"/status", maxStatus); err != nil {
		return nil, err
	}
	if e.status = bytes.TrimRight(e.status, "\n"); len(e.status) > 0 {
		e.status = append(e.status, "\n\n"...)
	}
	for _, stanza := range dpkg.Stanzas(e.status) {
		e.names[stanza["Package"]] = true
	}
	return e, nil
}

// readFiles reads which files the packages have, and what is special about some.
func (e *existing) readFiles(w *treeWriter) error {
	e.files, e.diverted, e.overrides, e.interests = map[string]string{}, map[string]diversion{}, map[string]bool{}, map[string]bool{}
	if err := e.readDiversions(w); err != nil {
		return err
	}
	overrides, err := w.readFile(adminDir+"/statoverride", maxList)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	for line := range strings.Lines(string(overrides)) {
		if words := strings.SplitN(strings.TrimSpace(line), " ", 4); len(words) == 4 { // user, group, mode, name
			e.overrides[treeName(words[3])] = true
		}
	}
	interests, err := w.readFile(triggersDir+"/File", maxList)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	for line := range strings.Lines(string(interests)) {
		if words := strings.Fields(line); len(words) == 2 {
			e.interests[treeName(words[0])] = true
		}
	}
	return e.readLists(w)
}

// readDiversions reads a file with three lines for each: the name, the other name, and the package.
func (e *existing) readDiversions(w *treeWriter) error {
	data, err := w.readFile(adminDir+"/diversions", maxList)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	for three := range slices.Chunk(lines, 3) {
		if len(three) == 3 {
			e.diverted[treeName(three[0])] = diversion{treeName(three[1]), three[2]}
		}
	}
	return nil
}

// place is where a file of a package lies.
func (e *existing) place(name, pkg string) string {
	if d, ok := e.diverted[name]; ok && d.by != pkg {
		return d.to
	}
	return name
}

func (e *existing) readLists(w *treeWriter) error {
	all, err := w.readDir(infoDir)
	if err != nil {
		return err
	}
	for _, file := range all {
		pkg, ok := strings.CutSuffix(file, ".list")
		if !ok {
			continue
		}
		data, err := w.readFile(infoDir+"/"+file, maxList)
		if err != nil {
			return err
		}
		pkg, _, _ = strings.Cut(pkg, ":")
		for line := range bytes.Lines(data) {
			e.files[e.place(treeName(string(bytes.TrimSuffix(line, []byte("\n")))), pkg)] = pkg
		}
	}
	return nil
}

// readConfig reads the options in the tree's dpkg.cfg(5) that say which files are unpacked. An option that would matter here otherwise is an error.
func (w *treeWriter) readConfig() ([]string, error) {
	const dir = "etc/dpkg/dpkg.cfg.d"
	names, err := w.readDir(dir)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, err
	}
	slices.Sort(names)
	files := []string{"etc/dpkg/dpkg.cfg"}
	for _, name := range names {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
			files = append(files, dir+"/"+name)
		}
	}
	var options []string
	for _, file := range files {
		data, err := w.readFile(file, maxConfig)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			end := strings.IndexAny(line+"=", "= \t")
			name, value := line[:end], strings.Trim(strings.TrimLeft(line[end:], "= \t"), `"'`)
			switch name {
			case "", "no-debsig", "log", "force-unsafe-io":
			case pathExclude, pathInclude:
				options = append(options, "--"+name+"="+value)
			default:
				if !strings.HasPrefix(name, "#") {
					return nil, fmt.Errorf("/%s has the option %s", file, name)
				}
			}
		}
	}
	return options, nil
}
