package testrepos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// PacmanPackage describes a package for pacman.
type PacmanPackage struct {
	Name    string
	Version string // [EPOCH:]VERSION-RELEASE; 1-1
	Arch    string // any
	// The relations, each as .PKGINFO has it: "name", "name>=1".
	Depends, Provides, Conflicts, Replaces, Groups []string
	// Backup are configuration files, without the slash at their beginning.
	Backup []string
	// Files are its files; Attr does not count.
	Files []File
	// Install is its install scriptlet: shell functions such as post_install.
	Install string
}

// FileName is the name of the package's file.
func (p PacmanPackage) FileName() string {
	p = p.withDefaults()
	return p.Name + "-" + p.Version + "-" + p.Arch + ".pkg.tar.zst"
}

func (p PacmanPackage) withDefaults() PacmanPackage {
	if p.Version == "" {
		p.Version = "1-1"
	}
	if p.Arch == "" {
		p.Arch = "any"
	}
	return p
}

// BuildPacman builds an unsigned package into dir and returns its path.
func BuildPacman(t testing.TB, dir string, p PacmanPackage) string {
	t.Helper()
	testenv.NeedPrograms(t, "bsdtar")
	p = p.withDefaults()
	work := t.TempDir()
	for _, f := range p.Files {
		f.place(t, work)
	}
	var info strings.Builder
	fmt.Fprintf(&info, "pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = The test's %s\nurl = https://example.org/\nbuilddate = 1700000000\npackager = Test <test@example.org>\nsize = %d\narch = %s\nlicense = MIT\n",
		p.Name, p.Name, p.Version, p.Name, 1000, p.Arch)
	for _, relation := range []struct {
		field string
		list  []string
	}{
		{"depend", p.Depends}, {"provides", p.Provides}, {"conflict", p.Conflicts}, {"replaces", p.Replaces}, {"group", p.Groups}, {"backup", p.Backup},
	} {
		for _, text := range relation.list {
			fmt.Fprintf(&info, "%s = %s\n", relation.field, text)
		}
	}
	write(t, filepath.Join(work, ".PKGINFO"), info.String(), 0o644)
	names := []string{".PKGINFO"}
	if p.Install != "" {
		write(t, filepath.Join(work, ".INSTALL"), p.Install, 0o644)
		names = append(names, ".INSTALL")
	}
	entries, err := os.ReadDir(work)
	must(t, err)
	var content []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			content = append(content, e.Name())
		}
	}
	must(t, os.MkdirAll(dir, 0o755))
	testenv.Run(t, "bsdtar", append(append([]string{"-C", work, "-czf", filepath.Join(work, ".MTREE"), "--format=mtree", "--options=!all,use-set,type,uid,gid,mode,time,size,sha256,link", "--uid", "0", "--gid", "0"}, names...), content...)...)
	file := filepath.Join(dir, p.FileName())
	testenv.Run(t, "bsdtar", append(append([]string{"-C", work, "--zstd", "--uid", "0", "--gid", "0", "-cf", file, ".MTREE"}, names...), content...)...)
	return file
}

// PacmanRepo describes a repository for pacman.
type PacmanRepo struct {
	// Name is that of its database; "test".
	Name     string
	Packages []PacmanPackage
	// Key signs the packages, IndexKey the database; nil leaves them unsigned.
	Key, IndexKey *Key
}

// MakePacmanRepo builds a repository in dir, which may have one already: then packages are added, or replaced by other versions.
func MakePacmanRepo(t testing.TB, dir string, r PacmanRepo) {
	t.Helper()
	testenv.NeedPrograms(t, "repo-add", "bsdtar")
	if r.Name == "" {
		r.Name = "test"
	}
	args := []string{"--quiet", filepath.Join(dir, r.Name+".db.tar.gz")}
	for _, p := range r.Packages {
		file := BuildPacman(t, dir, p)
		must(t, removeIfThere(file+".sig"))
		if r.Key != nil {
			r.Key.gpg(t, "--output", file+".sig", "--detach-sign", file)
		}
		args = append(args, file)
	}
	must(t, os.Chmod(dir, 0o755))
	testenv.Run(t, "repo-add", args...)
	database := filepath.Join(dir, r.Name+".db")
	must(t, removeIfThere(database+".sig"))
	if r.IndexKey != nil {
		r.IndexKey.gpg(t, "--output", database+".sig", "--detach-sign", database)
	}
}

// PacmanDistribution is the packages of a minimal distribution: "filesystem" with the directories and "busybox" as its shell and programs, both required by "base".
func PacmanDistribution(t testing.TB) []PacmanPackage {
	t.Helper()
	var packages []PacmanPackage
	for _, p := range Distribution(t, "arch") {
		q := PacmanPackage{Name: p.Name, Version: "1-1", Depends: p.Requires, Files: p.Files}
		if p.Name == "busybox" {
			q.Provides, q.Arch = []string{"sh"}, HostArch()
		}
		packages = append(packages, q)
	}
	return packages
}
