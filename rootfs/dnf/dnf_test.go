package dnf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/rootfs/files"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/packages/managertest"
)

// few are packages with all kinds of relations.
func few() []testrepos.RPM {
	file := func(name string) []testrepos.File { return []testrepos.File{{Path: "/opt/" + name, Content: name}} }
	return []testrepos.RPM{
		{Name: "hello", Version: "1.0", Requires: []string{"greeting >= 1"}, Recommends: []string{"extra"}, Files: file("hello")},
		{Name: "greeting", Epoch: "1", Version: "2.0", Files: append(file("greeting"), testrepos.File{Path: "/usr/share/doc/greeting", Content: "doc", Attr: "%doc"}, testrepos.File{Path: "/opt/de", Content: "de", Attr: "%lang(de)"})},
		{Name: "extra", Version: "3", Files: file("extra")},
		{Name: "needy", Requires: []string{"nowhere"}, Files: file("needy")},
		{Name: "guard", Provides: []string{"/bin/sh"}, Preun: "exit 1"},
	}
}

// world is a root tree, a repository, and what sessions on them need.
type world struct{ *managertest.World }

// newWorld makes an empty tree and a repository with packages.
func (b bench) newWorld(t *testing.T, repo testrepos.RPMRepo) world {
	t.Helper()
	dir := t.TempDir()
	testrepos.MakeRPMRepo(t, dir, repo)
	return b.emptyWorld(t, dir)
}

func (b bench) emptyWorld(t *testing.T, repo string) world {
	t.Helper()
	w := managertest.New(t, b.manager, repo, Open)
	w.Builder = b.builder
	w.Files = files.Source{FS: fstest.MapFS{"edit.sh": {Data: []byte("echo exclude=extra >> \"$1\"\n")}}}
	w.Show = []string{"/etc/dnf"}
	return world{w}
}

// fewWorld is an empty tree and the shared repository.
func (b bench) fewWorld(t *testing.T) world {
	t.Helper()
	return b.emptyWorld(t, shared.path(t))
}

// newWorldLike is an empty tree with another one's repository.
func newWorldLike(t *testing.T, other world) world {
	t.Helper()
	return world{other.Like(t)}
}

// installed lists what the tree's database has.
func (w world) installed(t *testing.T) []string {
	t.Helper()
	out := testenv.Run(t, "rpm", "--root", w.Root, "--dbpath", "/var/lib/rpm", "-qa", "--qf", "%{NAME}-%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}\n")
	return slices.Sorted(strings.FieldsSeq(out))
}

func (w world) wantInstalled(t *testing.T, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, w.installed(t)); diff != "" {
		t.Error(diff)
	}
}

// nothingLeft checks that dnf left nothing but what it leaves on a running machine.
func (w world) nothingLeft(t *testing.T) {
	t.Helper()
	for _, name := range w.Left(t, "opt", "usr", "var/lib/rpm", "var/lib/dnf", "etc/dnf/modules.d") {
		if !slices.Contains([]string{"bin", "sbin", "lib", "lib64", "etc/os-release", "etc/ran"}, name) {
			t.Errorf("%s was left", name)
		}
	}
}

func TestBootstrap(t *testing.T) { asBoth(t, bench.testBootstrap) }

func (b bench) testBootstrap(t *testing.T) {
	distribution := testrepos.Distribution(t, "fedora")
	distribution = append(distribution, testrepos.RPM{Name: "script", Requires: []string{"base"}, Post: "id > /etc/ran; grep ^ID= /etc/os-release >> /etc/ran"})
	w := b.newWorld(t, testrepos.RPMRepo{Packages: distribution})
	s, err := w.Open(t)
	managertest.Must(t, err)
	plan, err := s.Simulate(t.Context(), managertest.Set("script"))
	managertest.Must(t, err)
	if err := s.Bootstrap(t.Context(), managertest.Set("script")); err != nil {
		t.Fatalf("%v\n%s", err, w.Log.String())
	}
	got := s.Installed()
	managertest.Must(t, s.Close())
	w.wantInstalled(t, "base-1", "busybox-1.35", "filesystem-1", "release-15.6", "script-1")
	if ran := w.Read(t, "etc/ran"); !strings.HasPrefix(ran, "uid=0") || !strings.HasSuffix(ran, "ID=fedora\n") {
		t.Errorf("the script says %q", ran)
	}
	w.nothingLeft(t)
	if len(plan.Packages) != 5 || plan.Growth < 500e3 || plan.Download() < 300e3 {
		t.Errorf("simulated: %+v", plan)
	}
	for i, p := range got {
		sum, err := packages.Sum(filepath.Join(w.Repo, p.File))
		managertest.Must(t, err)
		if p.Checksum != sum || p.Name != plan.Packages[i].Name || p.Listed != (p.Name == "script") || p.Installed != plan.Packages[i].Installed || p.Repository != "dir://"+w.Repo {
			t.Errorf("installed %+v, planned %+v, %s", p, plan.Packages[i], sum)
		}
	}
}

func TestInstall(t *testing.T) { asBoth(t, bench.testInstall) }

func (b bench) testInstall(t *testing.T) {
	w := b.fewWorld(t)
	w.Image.RPM = description.RPMSettings{LocaleFiltering: true, ExcludeDocs: true}
	w.Image.Locales = []string{"en_US"}
	what := managertest.Set("hello")
	managertest.Must(t, w.Bootstrap(t, what))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	what.PlusRecommended = true
	what.Packages = managertest.Packages(12, "hello", "extra")
	managertest.Must(t, w.Bootstrap(t, what))
	w.wantInstalled(t, "extra-3", "greeting-1:2.0", "hello-1.0")
	if _, err := os.Stat(filepath.Join(w.Root, "usr/share/doc/greeting")); err == nil {
		t.Error("documentation was installed")
	}
	if _, err := os.Stat(filepath.Join(w.Root, "opt/de")); err == nil {
		t.Error("a file of another language was installed")
	}
	w.nothingLeft(t)

	other := b.fewWorld(t)
	what = managertest.Set("hello")
	what.PlusRecommended = true
	managertest.Must(t, other.Bootstrap(t, what))
	other.wantInstalled(t, "extra-3", "greeting-1:2.0", "hello-1.0")
	if doc := other.Read(t, "usr/share/doc/greeting") + other.Read(t, "opt/de"); doc != "docde" {
		t.Error(doc)
	}
	other = b.fewWorld(t)
	what.Ignore = managertest.Packages(13, "extra")
	managertest.Must(t, other.Bootstrap(t, what))
	other.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	what.Ignore = managertest.Packages(13, "greeting")
	managertest.WantError(t, newWorldLike(t, other).Bootstrap(t, what), "the packages don't fit together", "greeting")
}

func TestRemove(t *testing.T) { asBoth(t, bench.testRemove) }

func (b bench) testRemove(t *testing.T) {
	w := b.fewWorld(t)
	what := managertest.Set("hello", "guard")
	what.PlusRecommended = true
	managertest.Must(t, w.Bootstrap(t, what))
	s, err := w.Open(t)
	managertest.Must(t, err)
	defer func() { managertest.Must(t, s.Close()) }()
	// By force: hello still needs it; a script is not run.
	managertest.Must(t, s.Delete(t.Context(), managertest.Packages(20, "greeting", "guard", "nonsense")))
	w.wantInstalled(t, "extra-3", "hello-1.0")
	if !strings.Contains(w.Log.String(), "package=nonsense") {
		t.Error("nothing is said of a package that is not installed")
	}
	managertest.Must(t, s.Delete(t.Context(), managertest.Packages(20, "nonsense")))
	managertest.Must(t, s.Install(t.Context(), managertest.Set("greeting")))
	managertest.Must(t, s.Uninstall(t.Context(), managertest.Packages(21, "greeting", "nothing")))
	// With what needs it, and with what came along.
	w.wantInstalled(t)
	if !strings.Contains(w.Log.String(), "package=nothing") {
		t.Error("nothing is said of a package that is not installed")
	}
}

func TestFailingScripts(t *testing.T) { each(t, bench.testFailingScripts) }

// testFailingScripts has packages whose scripts fail, before and after they are installed.
func (b bench) testFailingScripts(t *testing.T) {
	w := b.newWorld(t, testrepos.RPMRepo{Packages: append(testrepos.Distribution(t, "fedora"),
		testrepos.RPM{Name: "after", Requires: []string{"base", "along"}, Post: "exit 3"}, testrepos.RPM{Name: "along"}, testrepos.RPM{Name: "before", Requires: []string{"base"}, Pre: "exit 4"})})
	managertest.Must(t, w.Bootstrap(t, managertest.Set("after", "base")))
	all := []string{"after-1", "along-1", "base-1", "busybox-1.35", "filesystem-1", "release-15.6"}
	w.wantInstalled(t, all...)
	if !strings.Contains(w.Log.String(), `msg="a package's script failed"`) {
		t.Error("nothing is said of the script")
	}
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("before")), "a package does not install", "before-1-1.noarch", "scriptlet")
	w.wantInstalled(t, all...)
	managertest.Must(t, w.With(t, func(s packages.Session) error { return s.Uninstall(t.Context(), managertest.Packages(20, "after")) }))
	w.wantInstalled(t, "base-1", "busybox-1.35", "filesystem-1", "release-15.6")
}

func TestGroups(t *testing.T) { each(t, bench.testGroups) }

func (b bench) testGroups(t *testing.T) {
	w := b.fewWorld(t)
	managertest.Must(t, w.Bootstrap(t, description.PackageSet{Collections: managertest.Packages(14, "basics")}))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0")
	if !strings.Contains(w.Log.String(), "a group names a package that no repository has") {
		t.Errorf("nothing is said of the package that the group lacks: %s", w.Log.String())
	}
	err := newWorldLike(t, w).Bootstrap(t, description.PackageSet{Collections: managertest.Packages(14, "basicks"), Packages: managertest.Packages(12, "extra")})
	managertest.WantError(t, err, "config.xml:14:5", "no repository has the group basicks")
}

func TestModules(t *testing.T) { each(t, bench.testModules) }

func (b bench) testModules(t *testing.T) {
	testenv.NeedPrograms(t, "modifyrepo_c")
	server := func(version string) testrepos.RPM { return testrepos.RPM{Name: "server", Version: version} }
	w := b.newWorld(t, testrepos.RPMRepo{
		Packages: []testrepos.RPM{server("1"), server("2")},
		Modules:  testrepos.Module("web", "1", "server", "server-0:1-1.noarch") + testrepos.Module("web", "2", "server", "server-0:2-1.noarch"),
	})
	w.Image.Packages.Modules = []description.CollectionModule{{Origin: managertest.Origin(15), Name: "web", Stream: "1", Enable: true}}
	managertest.Must(t, w.Bootstrap(t, managertest.Set("server")))
	w.wantInstalled(t, "server-1")
	if state := w.Read(t, "etc/dnf/modules.d/web.module") + w.Read(t, "usr/lib/sysimage/libdnf5/modules.toml"); !strings.Contains(state, "state=enabled") && !strings.Contains(state, `state = "Enabled"`) {
		t.Error(state)
	}
	w.Image.Packages.Modules = []description.CollectionModule{{Origin: managertest.Origin(15), Name: "web"}}
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("server")), "server")
	w.Image.Packages.Modules = []description.CollectionModule{{Origin: managertest.Origin(15), Name: "mail", Stream: "1", Enable: true}}
	managertest.WantError(t, newWorldLike(t, w).Bootstrap(t, managertest.Set("server")), "config.xml:15:5", "no repository has the module mail")
}

func TestMissingPackages(t *testing.T) { each(t, bench.testMissingPackages) }

func (b bench) testMissingPackages(t *testing.T) {
	w := b.fewWorld(t)
	err := w.Bootstrap(t, managertest.Set("extra", "helo", "zzzzzzzzzz"))
	managertest.WantError(t, err, `config.xml:12:5: no repository has the package helo; did you mean "hello"?`, "no repository has the package zzzzzzzzzz; check its name", w.Repo)
	managertest.WantError(t, w.Bootstrap(t, managertest.Set("needy")), "the packages don't fit together", "nothing provides nowhere needed by needy-1-1.noarch")
	w.wantInstalled(t)
	s, err := w.Open(t)
	managertest.Must(t, err)
	defer func() { managertest.Must(t, s.Close()) }()
	_, err = s.Simulate(t.Context(), managertest.Set("helo"))
	managertest.WantError(t, err, "no repository has the package helo")
}

func TestInside(t *testing.T) { asBoth(t, bench.testInside) }

// testInside works with this machine's programs as if they were the tree's.
func (b bench) testInside(t *testing.T) {
	w := b.fewWorld(t)
	w.Borrow = []string{b.program, "rpm", "bash"}
	b.ownState(t, w)
	for _, dir := range []string{"usr/bin", "usr/lib", "usr/lib64", "usr/share", "usr/sbin", "etc/dnf", "etc/yum.repos.d", "root", "tmp", "var"} {
		managertest.Must(t, os.MkdirAll(filepath.Join(w.Root, dir), 0o755))
	}
	for _, link := range []string{"bin", "lib", "lib64", "sbin"} {
		managertest.Must(t, os.Symlink("usr/"+link, filepath.Join(w.Root, link)))
	}
	w.Image.ReleaseVersion = "9"
	w.Image.RPM.ExcludeDocs = true
	s, err := w.Open(t, description.Repository{Origin: managertest.Origin(7), Source: "dir://" + w.Repo, Alias: "mine", Customize: "edit.sh"})
	managertest.Must(t, err)
	what := managertest.Set("hello")
	what.PlusRecommended = true
	managertest.Must(t, s.Install(t.Context(), what))
	w.wantInstalled(t, "greeting-1:2.0", "hello-1.0") // the script took extra away
	managertest.Must(t, s.Delete(t.Context(), managertest.Packages(20, "greeting")))
	w.wantInstalled(t, "hello-1.0")
	managertest.Must(t, s.Uninstall(t.Context(), managertest.Packages(20, "hello")))
	managertest.Must(t, s.Close())
	if commands := strings.Join(w.Commands, "\n"); !strings.Contains(commands, "inside: "+b.program+" ") || !strings.Contains(commands, "inside: rpm -e") || !strings.Contains(commands, " --releasever=9 ") ||
		strings.Contains(commands, "--installroot") || strings.Contains(commands, "--root") {
		t.Error(commands)
	}
	w.nothingLeft(t)
}
