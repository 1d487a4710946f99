package database

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// pacmanDir holds a directory for each package, NAME-VERSION-RELEASE, with the files desc, files, mtree and perhaps changelog.
const pacmanDir = "var/lib/pacman/local"

// pacmanReader reads Arch Linux's database.
type pacmanReader struct {
	tree     *layers.Tree
	packages []pacmanPackage
	names    nameSet
}

type pacmanPackage struct {
	Package
	dir    string
	files  []string // as trees name them, directories left out
	backup nameSet  // configuration files
}

func openPacman(tree *layers.Tree) (reader, error) {
	where, dir, err := tree.Resolve(pacmanDir)
	if err != nil || !dir.IsDir() {
		return nil, nil //nolint:nilerr // not there
	}
	r := &pacmanReader{tree: tree, names: nameSet{}}
	for _, name := range dir.Names() {
		if !dir.Child(name).IsDir() {
			continue
		}
		if err := r.read(where + "/" + name); err != nil {
			return nil, err
		}
	}
	if len(r.packages) == 0 && dir.Child("ALPM_DB_VERSION") == nil {
		return nil, nil
	}
	slices.SortStableFunc(r.packages, func(a, b pacmanPackage) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

// read reads the files desc and files of one package.
func (r *pacmanReader) read(dir string) error {
	desc, err := r.sections(dir + "/desc")
	if err != nil {
		return err
	}
	lists, err := r.sections(dir + "/files")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	first := func(section string) string {
		if list := desc[section]; len(list) > 0 {
			return list[0]
		}
		return ""
	}
	version, release, _ := strings.Cut(first("VERSION"), "-")
	p := pacmanPackage{dir: dir, backup: nameSet{}, Package: Package{
		Name: first("NAME"), Version: version, Release: release, Arch: first("ARCH"), License: strings.Join(desc["LICENSE"], " AND "), Source: cmp.Or(first("BASE"), first("NAME")),
	}}
	if p.Name == "" {
		return fmt.Errorf("/%s/desc names no package", dir)
	}
	for _, file := range lists["FILES"] {
		if !strings.HasSuffix(file, "/") {
			p.files = append(p.files, layers.Clean(file))
		}
	}
	for _, line := range lists["BACKUP"] {
		file, _, _ := strings.Cut(line, "\t")
		p.backup.add(layers.Clean(file))
	}
	r.packages = append(r.packages, p)
	r.names.add(p.Name)
	for _, provided := range desc["PROVIDES"] {
		name, _, _ := strings.Cut(provided, "=")
		r.names.add(name)
	}
	for _, group := range desc["GROUPS"] {
		r.names.add(group)
	}
	return nil
}

// sections reads a file of sections: a line %NAME%, the lines of its value, and an empty line.
func (r *pacmanReader) sections(name string) (map[string][]string, error) {
	data, err := r.tree.ReadFile(name, maxText)
	if err != nil {
		return nil, err
	}
	sections := map[string][]string{}
	section := ""
	for line := range strings.Lines(string(data)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "":
			section = ""
		case section == "" && len(line) > 2 && line[0] == '%' && line[len(line)-1] == '%':
			section = line[1 : len(line)-1]
		case section != "":
			sections[section] = append(sections[section], line)
		}
	}
	return sections, nil
}

func (r *pacmanReader) installed() []Package {
	list := make([]Package, 0, len(r.packages))
	for _, p := range r.packages {
		list = append(list, p.Package)
	}
	return list
}

func (r *pacmanReader) has(name string) bool { return r.names.has(name) }

func (r *pacmanReader) lines() []string {
	var list []string
	for _, p := range r.packages {
		list = append(list, fields("None", p.Name, "", p.Version, p.Release, p.Arch, "", p.License))
	}
	return list
}

// wants asks for the lists of digests, which are not read yet, and the SHA-256 that they have of every file.
func (r *pacmanReader) wants(ask func(want)) error {
	for _, p := range r.packages {
		for _, name := range []string{"/mtree", "/changelog"} {
			if node := firstFile(r.tree, []string{p.dir + name}); node != nil {
				ask(want{node: node, text: true})
			}
		}
		for _, file := range p.files {
			if _, node, err := r.tree.ResolveParent(file); err == nil && node != nil && node.IsRegular() {
				ask(want{node: node, digest: crypto.SHA256})
			}
		}
	}
	return nil
}

func (r *pacmanReader) changelog(s *Survey, i int) ([]byte, error) {
	return slices.Clone(s.text[firstFile(r.tree, []string{r.packages[i].dir + "/changelog"})]), nil
}

func (r *pacmanReader) claims(s *Survey, i int) ([]claim, error) {
	p := r.packages[i]
	packed := s.text[firstFile(r.tree, []string{p.dir + "/mtree"})]
	if packed == nil {
		return nil, nil
	}
	text, err := s.unpack(packed)
	if err != nil {
		return nil, fmt.Errorf("reading its mtree: %w", err)
	}
	var list []claim
	for _, entry := range parseMtree(string(text)) {
		c, ok := entry.claim()
		if !ok {
			continue
		}
		if p.backup.has(c.path) {
			c.attribute = 'c'
		}
		if _, node, err := r.tree.ResolveParent(c.path); err == nil && node != nil {
			c.checks &= forType(node)
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b claim) int { return strings.Compare(a.path, b.path) })
	return list, nil
}

// mtreeEntry is a line of mtree(5) with the defaults that hold for it.
type mtreeEntry struct {
	path   string
	values map[string]string
}

// parseMtree reads the part of mtree(5) that packages have: full paths, and the command /set.
func parseMtree(text string) []mtreeEntry {
	defaults := map[string]string{}
	var list []mtreeEntry
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		values := map[string]string{}
		for name, value := range defaults {
			values[name] = value
		}
		for _, word := range words[1:] {
			name, value, _ := strings.Cut(word, "=")
			values[name] = value
		}
		switch {
		case words[0] == "/set":
			defaults = values
		case strings.HasPrefix(words[0], "./."): // about the package itself: .PKGINFO, .INSTALL
		default:
			list = append(list, mtreeEntry{layers.Clean(unescape(words[0])), values})
		}
	}
	return list
}

// unescape decodes the octal escapes of mtree(5), such as \040.
func unescape(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+4 <= len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(text[i])
	}
	return out.String()
}

// claim is what the entry says, and whether it is about a file that can be compared.
func (e mtreeEntry) claim() (claim, bool) {
	number := func(name string, base int) int64 {
		n, _ := strconv.ParseInt(e.values[name], base, 64) // a damaged one differs
		return n
	}
	c := claim{
		path: e.path, attribute: ' ', unknown: true, checks: checkMode | checkUser | checkGroup | checkTime, permMask: layers.TypeMask | layers.PermMask,
		mode: uint32(number("mode", 8)), user: e.values["uid"], group: e.values["gid"],
	}
	seconds, _, _ := strings.Cut(e.values["time"], ".")
	c.mtime, _ = strconv.ParseInt(seconds, 10, 64)
	switch e.values["type"] {
	case "dir":
		c.mode |= layers.TypeDir
	case "link":
		c.mode, c.target = c.mode|layers.TypeSymlink, unescape(e.values["link"])
		c.checks |= checkTarget
	case "file":
		c.mode |= layers.TypeRegular
		c.size, c.digest, c.algorithm = number("size", 10), e.values["sha256digest"], crypto.SHA256
		c.checks |= checkSize
		if c.digest != "" {
			c.checks |= checkDigest
		}
	default:
		return claim{}, false
	}
	return c, true
}
