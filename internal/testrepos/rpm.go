package testrepos

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// RPM describes a package to build. Nothing is required or provided but what it says, its own name, and the interpreters of its scripts.
type RPM struct {
	Name    string
	Epoch   string // none
	Version string // 1
	Release string // 1
	Arch    string // noarch
	// The relations, each as a spec file has it: "name", "name >= 1", "(a if b)".
	Requires, Provides, Recommends, Suggests, Supplements, Enhances, Conflicts, Obsoletes []string
	Files                                                                                 []File
	// Pre, Post, Preun and Postun are scripts for /bin/sh. PostLua is one for the interpreter in rpm itself.
	Pre, Post, Preun, Postun, PostLua string
	// Preamble and Changelog are further lines of the spec file.
	Preamble, Changelog string
}

// File is one file of a package.
type File struct {
	Path    string // absolute; with a slash at its end it is a directory
	Content string // text; unless Link, Copy or the slash say otherwise
	Link    string // target of a symbolic link
	Copy    string // file of this machine whose content it gets
	Mode    uint32 // permission bits, 0644 or, for directories, 0755
	Attr    string // such as "%config(noreplace)", "%doc", "%lang(de)", "%attr(4755, root, root)", "%ghost"
}

// HostArch is the architecture of this machine as rpm names it.
func HostArch() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

// BuildRPM builds an unsigned package into dir and returns its path.
func BuildRPM(t testing.TB, dir string, p RPM) string {
	t.Helper()
	testenv.NeedPrograms(t, "rpmbuild")
	p = p.withDefaults()
	work := t.TempDir()
	spec := filepath.Join(work, p.Name+".spec")
	write(t, spec, p.spec(t, filepath.Join(work, "content")), 0o644)
	must(t, os.MkdirAll(dir, 0o755))
	testenv.Run(t, "rpmbuild", "-bb", "--quiet", "--target", p.Arch+"-linux", "--define", "_topdir "+work, "--define", "_rpmdir "+dir, "--define", "_rpmfilename "+p.FileName(), "--define", "_build_id_links none",
		"--define", "debug_package %{nil}", "--define", "__os_install_post %{nil}", "--define", "_buildhost test", "--define", "source_date_epoch_from_changelog 0", spec)
	file := filepath.Join(dir, p.FileName())
	must(t, os.Chmod(file, 0o644))
	return file
}

// FileName is the name of the package's file.
func (p RPM) FileName() string {
	p = p.withDefaults()
	return fmt.Sprintf("%s-%s-%s.%s.rpm", p.Name, p.Version, p.Release, p.Arch)
}

func (p RPM) withDefaults() RPM {
	for field, value := range map[*string]string{&p.Version: "1", &p.Release: "1", &p.Arch: "noarch"} {
		if *field == "" {
			*field = value
		}
	}
	return p
}

// spec writes the content of the package below dir and returns its spec file.
func (p RPM) spec(t testing.TB, dir string) string {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	var s strings.Builder
	fmt.Fprintf(&s, "Name: %s\nVersion: %s\nRelease: %s\nSummary: The test's %s\nLicense: MIT\nAutoReqProv: no\n", p.Name, p.Version, p.Release, p.Name)
	if p.Epoch != "" {
		fmt.Fprintf(&s, "Epoch: %s\n", p.Epoch)
	}
	for _, relation := range []struct {
		tag  string
		list []string
	}{
		{"Requires", p.Requires}, {"Provides", p.Provides}, {"Recommends", p.Recommends}, {"Suggests", p.Suggests}, {"Supplements", p.Supplements}, {"Enhances", p.Enhances},
		{"Conflicts", p.Conflicts}, {"Obsoletes", p.Obsoletes},
	} {
		for _, text := range relation.list {
			fmt.Fprintf(&s, "%s: %s\n", relation.tag, text)
		}
	}
	fmt.Fprintf(&s, "%s\n%%description\nFor a test.\n%%install\ncp -a '%s/.' '%%{buildroot}/'\n", p.Preamble, dir)
	for _, script := range []struct{ section, text string }{
		{"pre", p.Pre}, {"post", p.Post}, {"preun", p.Preun}, {"postun", p.Postun}, {"post -p <lua>", p.PostLua},
	} {
		if script.text != "" {
			fmt.Fprintf(&s, "%%%s\n%s\n", script.section, script.text)
		}
	}
	s.WriteString("%files\n")
	for _, f := range p.Files {
		s.WriteString(f.place(t, dir) + "\n")
	}
	if p.Changelog != "" {
		fmt.Fprintf(&s, "%%changelog\n%s\n", p.Changelog)
	}
	return s.String()
}

// place puts the file below dir and returns its line for the spec file.
func (f File) place(t testing.TB, dir string) string {
	t.Helper()
	name := filepath.Join(dir, f.Path)
	attr := f.Attr
	switch {
	case f.Link != "":
		must(t, os.MkdirAll(filepath.Dir(name), 0o755))
		must(t, os.Symlink(f.Link, name))
	case strings.HasSuffix(f.Path, "/"):
		must(t, os.MkdirAll(name, 0o755))
		attr += " %dir"
		if f.Mode != 0 {
			attr += fmt.Sprintf(" %%attr(%o, root, root)", f.Mode)
		}
	default:
		text := f.Content
		if f.Copy != "" {
			data, err := os.ReadFile(f.Copy)
			must(t, err)
			text = string(data)
		}
		perm := os.FileMode(f.Mode)
		if perm == 0 {
			perm = 0o644
		}
		write(t, name, text, perm)
	}
	return strings.TrimSpace(attr + " " + filepath.Clean(f.Path))
}

// SignRPM signs packages in place.
func (k Key) SignRPM(t testing.TB, files ...string) {
	t.Helper()
	testenv.NeedPrograms(t, "rpmsign")
	gpg := testenv.NeedProgram(t, "gpg")
	testenv.Run(t, "rpmsign", append([]string{"--addsign", "--define", "__gpg " + gpg, "--define", "_gpg_path " + k.Home, "--define", "_gpg_name " + k.User, "--define", "_gpg_digest_algo sha256"}, files...)...)
}

// RPMRepo describes a repository with an index (rpm-md).
type RPMRepo struct {
	Packages []RPM
	// Key signs the packages, IndexKey repomd.xml; nil leaves them unsigned.
	Key, IndexKey *Key
	// Groups is a comps.xml, Modules a modules.yaml; "" is none.
	Groups, Modules string
}

// MakeRPMRepo builds a repository in dir, which may have packages already.
func MakeRPMRepo(t testing.TB, dir string, r RPMRepo) {
	t.Helper()
	var built []string
	for _, p := range r.Packages {
		built = append(built, BuildRPM(t, dir, p))
	}
	if r.Key != nil && len(built) > 0 {
		r.Key.SignRPM(t, built...)
	}
	IndexRPM(t, dir, r)
}

// IndexRPM writes a repository's index for what is in dir, in place of the one that is there. Packages and Key of r don't count.
func IndexRPM(t testing.TB, dir string, r RPMRepo) {
	t.Helper()
	testenv.NeedPrograms(t, "createrepo_c")
	must(t, os.Chmod(dir, 0o755))
	args := []string{"--quiet", "--general-compress-type", "gz"}
	work := t.TempDir()
	if r.Groups != "" {
		write(t, filepath.Join(work, "comps.xml"), r.Groups, 0o644)
		args = append(args, "--groupfile", filepath.Join(work, "comps.xml"))
	}
	must(t, os.RemoveAll(filepath.Join(dir, "repodata")))
	testenv.Run(t, "createrepo_c", append(args, dir)...)
	index := filepath.Join(dir, "repodata")
	if r.Modules != "" {
		testenv.NeedPrograms(t, "modifyrepo_c")
		write(t, filepath.Join(work, "modules.yaml"), r.Modules, 0o644)
		testenv.Run(t, "modifyrepo_c", "--mdtype=modules", filepath.Join(work, "modules.yaml"), index)
	}
	if r.IndexKey != nil {
		repomd := filepath.Join(index, "repomd.xml")
		r.IndexKey.Detach(t, repomd, repomd+".asc")
		data, err := os.ReadFile(r.IndexKey.Public)
		must(t, err)
		write(t, repomd+".key", string(data), 0o644)
	}
}
