package dnf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// TestCommandLines shows what each flavor is called with. microdnf is not run in the tests of this package.
func TestCommandLines(t *testing.T) {
	const dirs = "/run/imgbuild/dnf-settings/"
	for _, test := range []struct {
		flavor  string
		outside bool
		place   place
		want    string
	}{
		{"dnf4", true, place{release: "9"}, "dnf-3 --config=" + dirs + "dnf.conf --setopt=cachedir=/run/imgbuild/dnf/cache/dnf4 --setopt=logdir=/run/imgbuild/dnf/log --setopt=pluginpath=" + dirs +
			"plugins --setopt=pluginconfpath=/run/imgbuild/dnf/none --setopt=reposdir=" + dirs + "repos --setopt=varsdir=/run/imgbuild/dnf/none --installroot=/run/imgbuild/target --releasever=9 install --downloadonly a @b"},
		{"dnf4", false, place{own: true}, "dnf-3 --config=" + dirs + "dnf.conf --setopt=cachedir=/run/imgbuild/dnf/cache/dnf4 --setopt=logdir=/run/imgbuild/dnf/log --setopt=pluginpath=" + dirs +
			"plugins --setopt=pluginconfpath=/run/imgbuild/dnf/none --setopt=*.metadata_expire=-1 install --downloadonly a @b"},
		{"dnf5", true, place{release: "41", arch: "aarch64"}, "dnf5 --config=" + dirs + "dnf.conf --setopt=cachedir=/run/imgbuild/dnf/cache/dnf5 --setopt=system_cachedir=/run/imgbuild/dnf/cache/dnf5" +
			" --setopt=logdir=/run/imgbuild/dnf/log --no-plugins --setopt=reposdir=" + dirs + "repos --setopt=varsdir=/run/imgbuild/dnf/none --installroot=/run/imgbuild/target --forcearch=aarch64 --releasever=41 install --downloadonly a @b"},
		{"microdnf", true, place{release: "9"}, "microdnf --config=" + dirs + "dnf.conf --setopt=cachedir=/run/imgbuild/dnf/cache/microdnf --noplugins --setopt=reposdir=" + dirs +
			"repos --setopt=varsdir=/run/imgbuild/dnf/none --installroot=/run/imgbuild/target --releasever=9 install --setopt=tsflags=test a @b"},
	} {
		f := family(test.flavor)[0]
		tool := tool{flavor: f, program: f.programs[0], outside: test.outside}
		got := strings.Join(tool.arguments(test.place, append(append([]string{"install"}, f.download...), "a", "@b")...), " ")
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.flavor, diff)
		}
	}
}

func TestFamily(t *testing.T) {
	for _, name := range []string{"dnf4", "dnf5", "microdnf"} {
		if got := family(name); len(got) != 3 || got[0].name != name {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestToolOf(t *testing.T) {
	for _, test := range []struct {
		about, wanted string
		programs      []string
		links         map[string]string
		want          string
	}{
		{"none", "dnf4", []string{"rpm"}, nil, ""},
		{"as wanted", "microdnf", []string{"dnf-3", "microdnf"}, nil, "microdnf microdnf"},
		{"another one", "dnf5", []string{"dnf-3"}, nil, "dnf4 dnf-3"},
		{"a link", "dnf4", []string{"dnf-3"}, map[string]string{"dnf": "dnf-3"}, "dnf4 dnf-3"},
		{"a link to dnf5", "dnf4", []string{"dnf5"}, map[string]string{"dnf": "dnf5"}, "dnf5 dnf"},
		{"microdnf is dnf5", "microdnf", []string{"dnf5"}, map[string]string{"microdnf": "dnf5"}, "dnf5 microdnf"},
	} {
		edit := layers.NewTree().Edit(layers.Timespec{})
		for _, name := range test.programs {
			managertest.Must(t, edit.WriteFile("usr/bin/"+name, []byte("x"), 0o755))
		}
		for name, target := range test.links {
			managertest.Must(t, edit.Symlink(target, "usr/bin/"+name))
		}
		tool, ok := toolOf(edit.Tree(), test.wanted)
		got := tool.name + " " + tool.program
		if ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%s: %q, %v", test.about, got, ok)
		}
	}
}

// The tables as dnf5 5.2 and microdnf 3.9 print them.
const (
	tableDNF5 = `Package                   Arch   Version          Repository      Size
Upgrading:
 bash                     x86_64 5.2.26-4.fc41    fedora       8.2 MiB
   replacing bash         x86_64 5.2.15-1.fc41    fedora       8.1 MiB
Installing:
 hello                    x86_64 0:2.12-1.fc41    fedora     179.4 KiB
Installing dependencies:
 info                     x86_64 1:7.1-2.fc41     updates-a  357.0   B
Removing:
 old                      noarch 1-1              fedora       1.0 MiB
Installing groups:
 Basic things

Transaction Summary:
 Installing:         2 packages
 Upgrading:          1 package

Total size of inbound packages is 9 MiB. Need to download 9 MiB.
After this operation, 2 MiB extra will be used (install 12 MiB, remove 10 MiB).
`
	tableMicrodnf = "Package                        Repository       Size\n" +
		"Installing:\n" +
		" hello-world-1:2.12-1.el9.x86_64   baseos      179.4\u00a0kB\n" +
		" info-7.1-2.el9.noarch   baseos      357\u00a0bytes\n" +
		"Upgrading:\n" +
		" bash-5.2-1.el9.x86_64   baseos      1.5\u00a0MB\n" +
		"  replacing bash-5.1-1.el9.x86_64\n" +
		"Removing:\n" +
		" old-1-1.noarch   @System      1.5\u00a0MB\n" +
		"Transaction Summary:\n" +
		" Installing:        2 packages\n"
)

func TestParseTable(t *testing.T) {
	for _, test := range []struct {
		columns columns
		text    string
		want    packages.Transaction
	}{
		{nameArchVersion, tableDNF5, packages.Transaction{Growth: 2 << 20, Packages: []packages.Package{
			{Name: "bash", Version: "5.2.26-4.fc41", Arch: "x86_64", Repository: "fedora", File: "bash-5.2.26-4.fc41.x86_64.rpm", Download: -1, Installed: 8598323},
			{Name: "hello", Version: "2.12-1.fc41", Arch: "x86_64", Repository: "fedora", File: "hello-2.12-1.fc41.x86_64.rpm", Download: -1, Installed: 183705, Listed: true},
			{Name: "info", Version: "1:7.1-2.fc41", Arch: "x86_64", Repository: "updates-a", File: "info-7.1-2.fc41.x86_64.rpm", Download: -1, Installed: 357},
		}}},
		{nevra, tableMicrodnf, packages.Transaction{Packages: []packages.Package{
			{Name: "hello-world", Version: "1:2.12-1.el9", Arch: "x86_64", Repository: "baseos", File: "hello-world-2.12-1.el9.x86_64.rpm", Download: 179400, Installed: -1},
			{Name: "info", Version: "7.1-2.el9", Arch: "noarch", Repository: "baseos", File: "info-7.1-2.el9.noarch.rpm", Download: 357, Installed: -1},
			{Name: "bash", Version: "5.2-1.el9", Arch: "x86_64", Repository: "baseos", File: "bash-5.2-1.el9.x86_64.rpm", Download: 1500000, Installed: -1},
		}}},
		{nevra, "", packages.Transaction{}},
	} {
		got := parseTable(test.columns, strings.Split(test.text, "\n"))
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Error(diff)
		}
	}
	if got := parseGrowth("10 MiB will be freed (install 0 B, remove 10 MiB)."); got != -10<<20 {
		t.Errorf("%d bytes", got)
	}
}

func FuzzParseTable(f *testing.F) {
	f.Add(tableDNF5, true)
	f.Add(tableMicrodnf, false)
	f.Fuzz(func(t *testing.T, text string, five bool) {
		c := nevra
		if five {
			c = nameArchVersion
		}
		for _, p := range parseTable(c, strings.Split(text, "\n")).Packages {
			if p.Name == "" || p.Version == "" || strings.ContainsAny(p.String(), " \n") {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestReadReport(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report")
	if plan, err := readReport(name); err != nil || len(plan.Packages) > 0 {
		t.Errorf("without a file: %+v, %v", plan, err)
	}
	managertest.Must(t, os.WriteFile(name, []byte(`{"packages": [{"name": "a", "version": "1-1", "arch": "noarch", "repository": "r", "file": "../../a.rpm", "checksum": "sha1:x", "download": 5, "installed": 70, "listed": true}], "removed": 100}`), 0o600))
	plan, err := readReport(name)
	want := packages.Transaction{Growth: -30, Packages: []packages.Package{{Name: "a", Version: "1-1", Arch: "noarch", Repository: "r", Checksum: "sha1:x", Download: 5, Installed: 70, Listed: true}}}
	if diff := cmp.Diff(want, plan); diff != "" || err != nil {
		t.Error(diff, err)
	}
	managertest.Must(t, os.WriteFile(name, []byte(`{`), 0o600))
	if _, err := readReport(name); err == nil {
		t.Error("a report that is cut short was read")
	}
}

func TestConfiguration(t *testing.T) {
	c := settings{weak: true, exclude: []string{"a", "b*"}, rpm: description.RPMSettings{ExcludeDocs: true, CheckSignatures: true}}
	text := string(c.configuration())
	for _, line := range []string{"[main]", "install_weak_deps=1", "gpgcheck=1", "tsflags=nodocs", "excludepkgs=a,b*"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%s lacks: %s", line, text)
		}
	}
	if strings.Contains(text, "includepkgs") {
		t.Error("packages are restricted without a lock")
	}
	text = string(settings{only: []string{}}.configuration())
	if !strings.Contains(text, "includepkgs=imgbuild-nothing-else\n") || !strings.Contains(text, "install_weak_deps=0\n") {
		t.Errorf("an empty lock allows packages: %s", text)
	}
}

func TestMissingNames(t *testing.T) {
	got := missingNames([]string{
		"No match for argument: helo", "Error: Unable to find a match: helo", "All matches were filtered out by exclude filtering for argument: locked", "error: No package matches 'micro'",
		"Module or Group 'basicks' is not available.", "No match for argument: helo",
		"Argument 'hidden' matches only excluded packages.", "No packages to remove for argument: gone",
	})
	if diff := cmp.Diff([]string{"helo", "locked", "micro", "@basicks", "hidden", "gone"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRepositoryOf(t *testing.T) {
	for name, want := range map[string]string{"a-0123456789abcdef": "a", "a-b-0123456789abcdef": "a-b", "a-b": "a-b", "a": "a", "-0123456789abcdef": "-0123456789abcdef"} {
		if got := repositoryOf(name); got != want {
			t.Errorf("%s: %s, not %s", name, got, want)
		}
	}
}

func TestWriteRepositories(t *testing.T) {
	testenv.NeedRoot(t)
	set := &repositories.Set{
		Image: []repositories.Repository{
			{Alias: "main", URI: "https://example.org/$releasever/", Keys: []byte{1}, KeyFile: "/run/k", User: "ann", Password: "s3cret", Description: description.Repository{Source: "https://example.org/", Priority: 5, PackageGPGCheck: description.True}},
			{Alias: "list", URI: "https://example.org/mirrors", Description: description.Repository{Source: "https://example.org/mirrors", SourceType: "mirrorlist", RepoGPGCheck: description.True, Customize: "x.sh"}},
			{Alias: "here", URI: "file:///run/x", Local: "/srv/x", Description: description.Repository{Source: "dir:///srv/x"}},
		},
		Files: []sandbox.File{{Path: "/run/k", Data: []byte("armored")}},
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	scripts := files.Source{FS: fstest.MapFS{"x.sh": {Data: []byte("sed -i s/^name=.*/name=Changed/ \"$1\"\necho \"# ${1##*/}\" >> \"$1\"\n")}}}
	notes, err := WriteRepositories(edit, set, managertest.Change(t, scripts))
	managertest.Must(t, err)
	if len(notes) != 2 || !strings.Contains(notes[0], "user name and password") || !strings.Contains(notes[1], "directory of this machine") {
		t.Errorf("%q", notes)
	}
	tree := edit.Tree()
	for name, want := range map[string]string{
		"etc/yum.repos.d/main.repo":        "[main]\nname=main\nbaseurl=https://example.org/$releasever/\nenabled=1\npriority=5\ngpgcheck=1\nrepo_gpgcheck=0\ngpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-main\n",
		"etc/yum.repos.d/list.repo":        "[list]\nname=Changed\nmirrorlist=https://example.org/mirrors\nenabled=1\ngpgcheck=0\nrepo_gpgcheck=1\n# list.repo\n",
		"etc/pki/rpm-gpg/RPM-GPG-KEY-main": "armored",
	} {
		data, err := tree.ReadFile(name, 1<<20)
		if diff := cmp.Diff(want, string(data)); diff != "" || err != nil {
			t.Errorf("%s: %s %v", name, diff, err)
		}
	}
	if dir, err := tree.Lookup("etc/yum.repos.d"); err != nil || dir.Len() != 2 {
		t.Error("another repository was written")
	}
	// The real dnf understands it.
	root := t.TempDir()
	if _, err := layers.WriteDir(t.Context(), root, tree, layers.DirOptions{Overwrite: true}); err != nil {
		t.Fatal(err)
	}
	testenv.NeedPrograms(t, "dnf-3")
	out := testenv.Run(t, "dnf-3", "--setopt=reposdir="+root+"/etc/yum.repos.d", "--setopt=logdir="+root, "--setopt=cachedir="+root+"/cache", "repolist", "--all")
	if !strings.Contains(out, "Changed") {
		t.Errorf("dnf shows %s", out)
	}
}
