package database

import (
	"crypto"
	"crypto/md5"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
)

// Where dpkg, or a container without it, keeps what packages say of themselves.
const (
	dpkgInfo   = "var/lib/dpkg/info"
	dpkgStatus = "var/lib/dpkg/status.d"
)

// dpkgReader reads Debian's database.
type dpkgReader struct {
	tree     *layers.Tree
	packages []dpkg.Package
}

func openDPKG(tree *layers.Tree) (reader, error) {
	if there, _ := dpkg.HasDatabase(tree); !there {
		return nil, nil
	}
	packages, err := dpkg.Installed(tree)
	return dpkgReader{tree, packages}, err
}

func (r dpkgReader) installed() []Package {
	list := make([]Package, 0, len(r.packages))
	for _, p := range r.packages {
		list = append(list, Package{Name: p.Name, Version: p.Version, Arch: p.Architecture, Source: p.Source})
	}
	return list
}

func (r dpkgReader) has(name string) bool { return len(dpkg.Missing(r.packages, []string{name})) == 0 }

func (r dpkgReader) lines() []string {
	var list []string
	for _, p := range r.packages {
		list = append(list, fields("None", p.Name, "", p.Version, "", p.Architecture, "", ""))
	}
	return list
}

// wants asks for the MD5 of every file: which ones count is in files that are not read yet.
func (r dpkgReader) wants(ask func(want)) error {
	for _, p := range r.packages {
		for _, names := range [][]string{changelogNames(p), sumNames(p)} {
			if node := firstFile(r.tree, names); node != nil {
				ask(want{node: node, text: true})
			}
		}
	}
	return r.tree.Walk(func(_ string, n *layers.Node) error {
		if n.IsRegular() {
			ask(want{node: n, digest: crypto.MD5})
		}
		return nil
	})
}

// firstFile returns the first of the names that is a regular file of the tree, nil if none is.
func firstFile(tree *layers.Tree, names []string) *layers.Node {
	for _, name := range names {
		if _, node, err := tree.Resolve(name); err == nil && node.IsRegular() {
			return node
		}
	}
	return nil
}

// changelogNames are where a package has its Debian change log, or one of another kind.
func changelogNames(p dpkg.Package) []string {
	dir := "usr/share/doc/" + p.Name + "/changelog"
	return []string{dir + ".Debian.gz", dir + ".gz", dir + ".Debian." + p.Architecture + ".gz"}
}

// sumNames are where the check sums of a package's files lie.
func sumNames(p dpkg.Package) []string {
	return []string{dpkgInfo + "/" + p.Name + ":" + p.Architecture + ".md5sums", dpkgInfo + "/" + p.Name + ".md5sums", dpkgStatus + "/" + p.Name + ".md5sums"}
}

func (r dpkgReader) changelog(s *Survey, i int) ([]byte, error) {
	node := firstFile(r.tree, changelogNames(r.packages[i]))
	if node == nil || node.Size == 0 {
		return nil, nil
	}
	return s.unpack(s.text[node])
}

func (r dpkgReader) claims(s *Survey, i int) ([]claim, error) {
	p := r.packages[i]
	check := claim{attribute: ' ', checks: checkDigest, algorithm: crypto.MD5, unknown: true, dpkg: true}
	var list []claim
	add := func(path, sum string, attribute byte) {
		one := check
		one.path, one.digest, one.attribute = path, sum, attribute
		list = append(list, one)
	}
	for line := range strings.Lines(string(s.text[firstFile(r.tree, sumNames(p))])) {
		if sum, file, ok := strings.Cut(strings.TrimRight(line, "\n"), "  "); ok && len(sum) == 2*md5.Size {
			add(layers.Clean(file), sum, ' ')
		}
	}
	for _, c := range p.Conffiles {
		if !c.Remove && len(c.MD5) == 2*md5.Size {
			add(c.Path, c.MD5, 'c')
		}
	}
	slices.SortStableFunc(list, func(a, b claim) int { return strings.Compare(a.path, b.path) })
	return list, nil
}
