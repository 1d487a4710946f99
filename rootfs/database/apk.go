package database

import (
	"cmp"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// apkFiles are where apk keeps its database: version 2, and version 3 on a system whose /lib is below /usr.
func apkFiles() []string { return []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} }

// maxAPK bounds the database of a tree from a stranger, in bytes.
const maxAPK = 512 << 20

// apkReader reads Alpine Linux's database: a paragraph for each package, of lines with a letter, a colon and a value
// (https://wiki.alpinelinux.org/wiki/Apk_spec#Installed_Database_V2).
type apkReader struct {
	tree     *layers.Tree
	packages []apkPackage
	names    nameSet
}

type apkPackage struct {
	Package
	files []apkFile
}

// apkFile is a file or directory of a package.
type apkFile struct {
	path     string
	dir      bool
	owner    string // UID:GID:MODE, "" for what is usual
	checksum string // Q1 and the SHA-1, or Q2 and the SHA-256, in base64; of a symbolic link, that of its target
}

func openAPK(tree *layers.Tree) (reader, error) {
	for _, name := range apkFiles() {
		if _, node, err := tree.Resolve(name); err != nil || !node.IsRegular() {
			continue
		}
		data, err := tree.ReadFile(name, maxAPK)
		if err != nil {
			return nil, err
		}
		r := &apkReader{tree: tree, names: nameSet{}}
		for paragraph := range strings.SplitSeq(string(data), "\n\n") {
			r.read(paragraph)
		}
		slices.SortStableFunc(r.packages, func(a, b apkPackage) int { return cmp.Compare(a.Name, b.Name) })
		return r, nil
	}
	return nil, nil
}

// read takes one paragraph.
func (r *apkReader) read(paragraph string) {
	var p apkPackage
	dir := ""
	for line := range strings.Lines(paragraph) {
		line = strings.TrimRight(line, "\n")
		letter, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		last := len(p.files) - 1
		switch letter {
		case "P":
			p.Name = value
		case "V":
			p.Version = value
			if i := strings.LastIndex(value, "-r"); i > 0 {
				p.Version, p.Release = value[:i], value[i+1:]
			}
		case "A":
			p.Arch = value
		case "L":
			p.License = value
		case "o":
			p.Source = value
		case "p":
			for provided := range strings.FieldsSeq(value) {
				name, _, _ := strings.Cut(provided, "=")
				r.names.add(name)
			}
		case "F":
			dir = value
			if value != "" {
				p.files = append(p.files, apkFile{path: layers.Clean(dir), dir: true})
			}
		case "R":
			p.files = append(p.files, apkFile{path: layers.Clean(dir + "/" + value)})
		case "M", "a":
			if last >= 0 && p.files[last].dir == (letter == "M") {
				p.files[last].owner = value
			}
		case "Z":
			if last >= 0 {
				p.files[last].checksum = value
			}
		}
	}
	if p.Name != "" {
		r.names.add(p.Name)
		r.packages = append(r.packages, p)
	}
}

func (r *apkReader) installed() []Package {
	list := make([]Package, 0, len(r.packages))
	for _, p := range r.packages {
		list = append(list, p.Package)
	}
	return list
}

func (r *apkReader) has(name string) bool { return r.names.has(name) }

func (r *apkReader) lines() []string {
	var list []string
	for _, p := range r.packages {
		list = append(list, fields("None", p.Name, "", p.Version, p.Release, p.Arch, "", p.License))
	}
	return list
}

// digest decodes a check sum.
func (f apkFile) digest() (crypto.Hash, string) {
	if len(f.checksum) < 2 {
		return 0, ""
	}
	hash := map[string]crypto.Hash{"Q1": crypto.SHA1, "Q2": crypto.SHA256}[f.checksum[:2]]
	value, err := base64.StdEncoding.DecodeString(f.checksum[2:])
	if err != nil || hash == 0 || len(value) != hash.Size() {
		return 0, ""
	}
	return hash, hex.EncodeToString(value)
}

func (r *apkReader) wants(ask func(want)) error {
	for _, p := range r.packages {
		for _, f := range p.files {
			hash, _ := f.digest()
			if _, node, err := r.tree.ResolveParent(f.path); hash != 0 && err == nil && node != nil && node.IsRegular() {
				ask(want{node: node, digest: hash})
			}
		}
	}
	return nil
}

// changelog is empty: Alpine Linux's packages have none.
func (r *apkReader) changelog(*Survey, int) ([]byte, error) { return nil, nil }

func (r *apkReader) claims(_ *Survey, i int) ([]claim, error) {
	var list []claim
	for _, f := range r.packages[i].files {
		c, err := f.claim(r.tree)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// claim is what the package says of the file. It says nothing of its type, so that this is taken from the tree.
func (f apkFile) claim(tree *layers.Tree) (claim, error) {
	c := claim{path: f.path, attribute: ' ', unknown: true, permMask: layers.PermMask, user: "0", group: "0", mode: 0o644}
	if f.dir {
		c.mode = 0o755
	}
	if f.owner != "" {
		parts := strings.Split(f.owner, ":")
		if len(parts) < 3 {
			return claim{}, fmt.Errorf("the database has the owner %q", f.owner)
		}
		mode, err := strconv.ParseUint(parts[2], 8, 32)
		if err != nil {
			return claim{}, fmt.Errorf("the database has the mode %q", parts[2])
		}
		c.user, c.group, c.mode = parts[0], parts[1], uint32(mode)
	}
	_, node, err := tree.ResolveParent(f.path)
	if err != nil || node == nil {
		return c, nil //nolint:nilerr // it is missing, which is told
	}
	c.checks = (checkMode | checkUser | checkGroup) & forType(node)
	hash, sum := f.digest()
	switch {
	case hash != 0 && node.IsRegular():
		c.checks |= checkDigest
		c.algorithm, c.digest = hash, sum
	case hash != 0 && node.IsSymlink():
		h := hash.New()
		h.Write([]byte(node.Target))
		c.checks |= checkTarget
		if c.target = node.Target; hex.EncodeToString(h.Sum(nil)) != sum {
			c.target = ""
		}
	}
	return c, nil
}
