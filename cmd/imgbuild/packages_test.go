package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
	"github.com/imgbuild/imgbuild/system"
)

// debianVariable names a tar file with a minimal Debian root tree, as the project's Makefile makes one.
const debianVariable = "IMGBUILD_TEST_DEBIAN"

// debs is a repository of tiny packages, a Debian container to install them into, and a description of both.
type debs struct {
	*killed
	repo string
	key  testrepos.Key
}

func newDebs(t *testing.T) *debs {
	t.Helper()
	testenv.NeedPrograms(t, "dpkg-deb", "apt-ftparchive", "gpg")
	archive := os.Getenv(debianVariable)
	if archive == "" {
		testenv.Missing(t, "%s names no archive with a root tree", debianVariable)
	}
	d := &debs{killed: newKilled(t), key: testrepos.NewKey(t, "right")}
	d.repo = filepath.Join(d.dir, "repo")
	d.add("hello", "1.0", "")
	d.add("needy", "1.0", "hello")
	d.add("other", "1.0", "")
	d.index(d.key)
	stash := []string{"stash", "--root", testenv.NeedFile(t, archive), "--container-name", "debian"}
	for _, large := range []string{"share/locale", "share/doc", "share/man", "share/zoneinfo", "share/perl", "lib/*/perl", "lib/*/gconv"} { // nothing here needs them
		stash = append(stash, "--exclude", "/usr/"+large)
	}
	d.must(stash...)
	return d
}

// add makes a package with one file that says its version.
func (d *debs) add(name, version, depends string) {
	d.t.Helper()
	dir := filepath.Join(d.t.TempDir(), name)
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nInstalled-Size: 5\nMaintainer: M <m@example.org>\nDescription: a test\n", name, version)
	if depends != "" {
		control += "Depends: " + depends + "\n"
	}
	d.write(filepath.Join(dir, "DEBIAN/control"), control, 0o644)
	d.write(filepath.Join(dir, "usr/share", name), version+"\n", 0o644)
	if err := errors.Join(os.MkdirAll(d.repo, 0o755), os.Chmod(filepath.Join(dir, "DEBIAN"), 0o755)); err != nil {
		d.t.Fatal(err)
	}
	testenv.Run(d.t, "dpkg-deb", "--root-owner-group", "-b", dir, d.repo)
}

// index writes the lists of the repository and signs them.
func (d *debs) index(key testrepos.Key) {
	d.t.Helper()
	testenv.Run(d.t, "sh", "-ec", `cd "$1"; rm -f Release*; apt-ftparchive packages . > Packages; apt-ftparchive release . > ../Release; mv ../Release .`, "sh", d.repo)
	key.Detach(d.t, filepath.Join(d.repo, "Release"), filepath.Join(d.repo, "Release.gpg"))
}

// describe writes a description that is derived from the Debian container and installs packages from the repository at address.
func (d *debs) describe(address string, packages ...string) string {
	d.t.Helper()
	var list strings.Builder
	for _, name := range packages {
		fmt.Fprintf(&list, "<package name=%q/>", name)
	}
	dir := filepath.Join(d.dir, "description")
	d.write(filepath.Join(dir, "config.xml"), fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="web">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.0.0</version><packagemanager>apt</packagemanager>
    <type image="oci" derived_from="debian"><containerconfig name="web"/></type></preferences>
  <repository type="apt-deb" alias="tests" repository_gpgcheck="true"><source path=%q><signing key=%q/></source></repository>
  <packages type="image">%s</packages>
</image>
`, address, "file://"+d.key.Public, list.String()), 0o644)
	return dir
}

// fails runs imgbuild and checks its exit code and what it says.
func (d *debs) fails(code int, want []string, args ...string) string {
	d.t.Helper()
	cmd := d.command(args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != code {
		d.t.Errorf("imgbuild %s ended with %v, want exit code %d: %s", strings.Join(args, " "), err, code, out)
	}
	for _, text := range want {
		if !strings.Contains(string(out), text) {
			d.t.Errorf("imgbuild %s does not say %q: %s", strings.Join(args, " "), text, out)
		}
	}
	d.nothingLeft()
	return string(out)
}

// state describes every entry of a root tree.
func (d *debs) state(root string) string {
	d.t.Helper()
	// An ordinary user can't look into directories of other users in the tree.
	return testenv.Run(d.t, "sh", "-c", `find "$1" -printf '%p %i %T@ %s %m\n' 2> /dev/null || true`, "sh", root)
}

func (d *debs) noTree(root string) {
	d.t.Helper()
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		d.t.Errorf("%s is there: %v", root, err)
	}
	if hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(root), ".*.imgbuild")); len(hidden) > 0 {
		d.t.Errorf("left over: %v", hidden)
	}
}

func TestRepositoriesThatFail(t *testing.T) {
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "", "")
	root := filepath.Join(d.dir, "root")
	prepare := []string{"prepare", "--description", d.describe(server.URL, "hello"), "--root", root}
	d.must(prepare...)
	existing := append(slices.Clone(prepare), "--allow-existing-root", "--add-package", "needy", "--clear-cache")
	before := d.state(root)

	d.fails(exitInvalid, []string{"command line", "hallo", "hello"}, append(slices.Clone(prepare), "--allow-existing-root", "--add-package", "hallo")...)
	d.index(testrepos.NewKey(t, "wrong"))
	d.fails(exitInvalid, []string{"config.xml:6:", "signature", "signing key"}, existing...)
	d.index(d.key)
	server.Cut(func(path string) bool { return strings.HasSuffix(path, ".deb") })
	d.fails(exitInvalid, []string{"config.xml:6:", "needy"}, existing...)
	server.Cut(nil)
	server.Close()
	d.fails(exitInvalid, []string{"config.xml:6:", server.URL}, existing...)
	if diff := cmp.Diff(before, d.state(root)); diff != "" {
		t.Errorf("the root tree is another after failures: %s", diff)
	}

	// The same for a tree that is not there yet.
	never := filepath.Join(d.dir, "never")
	prepare[len(prepare)-1] = never
	d.fails(exitInvalid, []string{"config.xml:6:"}, append(prepare, "--clear-cache")...)
	d.noTree(never)
}

func TestCredentialsAreToldToNobody(t *testing.T) {
	const secret = "pass-7261-word"
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "ann", secret)
	d.write(filepath.Join(d.dir, "credentials"), "ann:"+secret+"\n", 0o600)
	target := filepath.Join(d.dir, "out")
	build := []string{"--debug", "--logfile", filepath.Join(d.dir, "log"), "build", "--description", d.describe(server.URL, "hello"), "--target-dir", target,
		"--set-repo", server.URL + ",apt-deb,tests,,true,,{file://" + d.key.Public + "}"}
	said := d.fails(exitInvalid, []string{"401", server.URL}, build...)
	cmd := d.command(append(build, "--set-repo-credentials", filepath.Join(d.dir, "credentials"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.Contains(said+string(out), secret) {
		t.Error("the password was shown")
	}
	found := exec.Command("grep", "-rlaF", secret, target, filepath.Join(d.dir, "log"), filepath.Join(d.dir, "cache"))
	if list, _ := found.Output(); len(list) > 0 { // it finds nothing
		t.Errorf("the password is in %s", list)
	}
}

func TestOfflineAndLocked(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1790000000")
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "", "")
	description := d.describe(server.URL, "needy")
	build := func(target string, more ...string) []string {
		return append([]string{"build", "--description", description, "--target-dir", filepath.Join(d.dir, target)}, more...)
	}
	version := func(target string) string {
		data, err := os.ReadFile(filepath.Join(d.dir, target, system.RootDir, "usr/share/hello"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(data))
	}
	d.fails(exitInvalid, []string{"offline"}, build("never", "--offline")...)
	d.must(build("first")...)
	lock := "--locked=" + filepath.Join(d.dir, "first", system.LockFile)

	// A newer version is there: without the lock it is taken, with the lock it is not.
	d.add("hello", "2.0", "")
	d.index(d.key)
	d.must(build("newest")...)
	d.must(build("again", lock)...)
	if first, newest, again := version("first"), version("newest"), version("again"); first != "1.0" || newest != "2.0" || again != "1.0" {
		t.Errorf("the versions are %s, %s, and locked %s", first, newest, again)
	}
	d.fails(exitInvalid, []string{"other", "--locked"}, build("never", lock, "--add-package", "other")...)

	// The version that is locked is gone, and there is another with its number.
	d.must(build("cleared", "--clear-cache")...)
	if err := os.Remove(filepath.Join(d.repo, "hello_1.0_all.deb")); err != nil {
		t.Fatal(err)
	}
	d.index(d.key)
	d.fails(exitInvalid, []string{"hello", "1.0"}, build("never", lock, "--clear-cache")...)
	d.add("hello", "1.0", "debconf")
	d.index(d.key)
	d.fails(exitInvalid, []string{"hello", "1.0"}, build("never", lock, "--clear-cache")...)

	// Everything is in the cache now.
	d.must(build("online")...)
	server.Close()
	d.must(build("offline", "--offline")...)
	if online, offline := d.results("online"), d.results("offline"); online != offline {
		t.Errorf("offline the results are others:\n%s\n%s", online, offline)
	}
	d.noTree(filepath.Join(d.dir, "never", system.RootDir))
}

func TestResolvedPackages(t *testing.T) {
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "", "")
	var info system.Information
	text := d.must("image", "info", "--description", d.describe(server.URL, "needy"), "--resolve-package-list")
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		t.Fatal(err)
	}
	want := map[string]system.ResolvedPackage{
		"needy": {Source: "tests", Arch: "all", Version: "1.0", Status: system.StatusListed},
		"hello": {Source: "tests", Arch: "all", Version: "1.0", Status: system.StatusAdded},
	}
	for name, p := range info.ResolvedPackages {
		if p.InstallSize < 0 {
			t.Errorf("%s has the size %d", name, p.InstallSize)
		}
		p.InstallSize = 0
		info.ResolvedPackages[name] = p
	}
	if diff := cmp.Diff(want, info.ResolvedPackages); diff != "" {
		t.Error(diff)
	}
	if server.Fetched(".deb") {
		t.Error("packages were downloaded")
	}
	plan := d.must("build", "--description", filepath.Join(d.dir, "description"), "--target-dir", filepath.Join(d.dir, "out"), "--plan")
	if !strings.Contains(plan, "install 2 packages") || !strings.Contains(plan, "needy") {
		t.Errorf("the plan is %s", plan)
	}
}

func TestUpdatedRootTree(t *testing.T) {
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "", "")
	root := filepath.Join(d.dir, "root")
	d.must("prepare", "--description", d.describe(server.URL, "needy"), "--root", root)
	version := func(name string) string {
		data, _ := os.ReadFile(filepath.Join(root, "usr/share", name)) // "" if it is not there
		return strings.TrimSpace(string(data))
	}
	d.add("hello", "2.0", "")
	d.index(d.key)
	d.must("system", "update", "--root", root, "--add-package", "other", "--delete-package", "needy")
	if version("other") != "1.0" || version("needy") != "" || version("hello") != "1.0" {
		t.Errorf("after adding and deleting: other %s, needy %s, hello %s", version("other"), version("needy"), version("hello"))
	}
	d.must("update", "--root", root)
	if version("hello") != "2.0" {
		t.Errorf("after the update hello is %s", version("hello"))
	}
	lock, err := system.ReadLock(filepath.Join(root, "image", system.LockFile))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, p := range lock.Packages {
		list = append(list, p.Name+" "+p.Version)
	}
	if !slices.Contains(list, "hello 2.0") || !slices.Contains(list, "other 1.0") || slices.Contains(list, "hello 1.0") {
		t.Errorf("the lock has %v", list)
	}
	before := d.state(root)
	server.Close()
	d.fails(exitInvalid, []string{server.URL}, "update", "--root", root)
	if diff := cmp.Diff(before, d.state(root)); diff != "" {
		t.Errorf("the root tree is another after a failure: %s", diff)
	}
}

// TestInterruptedInstallation ends a run while a package is on its way.
func TestInterruptedInstallation(t *testing.T) {
	d := newDebs(t)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	files := http.FileServer(http.Dir(d.repo))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, ".deb") {
			files.ServeHTTP(w, r)
			return
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		select { // a mirror that says nothing any more
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	root := filepath.Join(d.dir, "top/root")
	var output bytes.Buffer
	cmd := d.command("prepare", "--description", d.describe(server.URL, "hello"), "--root", root)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		t.Fatalf("the package was not asked for: %s", &output)
	}
	d.interrupt(cmd, &output)
	d.noTree(root)
	if _, err := os.Stat(filepath.Dir(root)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory above is left: %v", err)
	}
}

// prepareKills is how often the preparation of a root tree is killed.
const prepareKills = 12

func TestKilledPrepareLeavesNothing(t *testing.T) {
	d := newDebs(t)
	server := testrepos.Serve(t, d.repo, "", "")
	root := filepath.Join(d.dir, "root")
	prepare := []string{"prepare", "--description", d.describe(server.URL, "needy"), "--root", root}
	d.time(func() { d.must(prepare...) })
	before := d.state(root)
	again := append(slices.Clone(prepare), "--allow-existing-root", "--add-package", "hello")
	fresh := filepath.Join(d.dir, "fresh")
	for i := range prepareKills {
		if i%2 == 0 {
			d.attempt("prepare", "--description", filepath.Join(d.dir, "description"), "--root", fresh)
			if names, err := os.ReadDir(fresh); err == nil { // it was quicker than the kill
				if _, err := os.Stat(filepath.Join(fresh, "image", system.LockFile)); err != nil {
					t.Fatalf("kill %d left an unfinished root tree: %v", i, names)
				}
				if err := os.RemoveAll(fresh); err != nil {
					t.Fatal(err)
				}
			}
			continue
		}
		d.attempt(again...)
		if after := d.state(root); after != before {
			if _, err := os.Stat(filepath.Join(root, "image", system.LockFile)); err != nil {
				t.Fatalf("kill %d left an unfinished root tree: %v", i, err)
			}
			before = after // it was quicker than the kill
		}
	}
	d.must(again...)
	d.must("prepare", "--description", filepath.Join(d.dir, "description"), "--root", fresh)
	for _, root := range []string{root, fresh} {
		if hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(root), ".*.imgbuild")); len(hidden) > 0 {
			t.Errorf("a run that went through left %v", hidden)
		}
	}
}

// ownMounts makes unshare give a program mounts of its own, and all ids that the user has.
func ownMounts() []string {
	if os.Getuid() == 0 {
		return []string{"--mount"}
	}
	return []string{"-Urm", "--map-auto"}
}

func TestNoSpaceForARootTree(t *testing.T) {
	d := newDebs(t)
	testenv.NeedProgram(t, "unshare")
	server := testrepos.Serve(t, d.repo, "", "")
	script := filepath.Join(d.dir, "full.sh")
	d.write(script, `set -eu
mkdir "$1/full"
mount -t tmpfs -o size=64m tmpfs "$1/full"
shift
if "$@"; then echo "it had room"; exit 1; fi
echo "left: $(ls -A "$(dirname "$0")/full")."
`, 0o755)
	args := append(ownMounts(), "sh", script, d.dir, d.program, "prepare", "--description", d.describe(server.URL, "hello"), "--root", filepath.Join(d.dir, "full/root"))
	cmd := exec.Command("unshare", args...)
	cmd.Env = d.command().Env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "no space left on device") || !strings.Contains(string(out), "left: .") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestBuilderContainer asks for packages on a machine whose apt is hidden: a container lends its own.
func TestBuilderContainer(t *testing.T) {
	d := newDebs(t)
	testenv.NeedProgram(t, "unshare")
	d.add("apt", "1.0", "") // which every root tree gets
	d.index(d.key)
	server := testrepos.Serve(t, d.repo, "", "")
	description := d.describe(server.URL, "needy")
	config := filepath.Join(description, "config.xml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	d.write(config, strings.Replace(strings.Replace(string(text), ` derived_from="debian"`, "", 1), `type="image"><p`, `type="bootstrap"><p`, 1), 0o644)
	d.write(filepath.Join(d.dir, "nothing"), "not executable\n", 0o644)
	d.write(filepath.Join(d.dir, "without.sh"), `for file in /usr/bin/apt-get /usr/bin/apt /usr/bin/apt-cache /usr/lib/apt/apt-helper; do
	[ ! -e "$file" ] || mount --bind "$1" "$file" || exit 99
done
shift
exec "$@"
`, 0o755)
	without := func(more ...string) (string, int) {
		args := append(ownMounts(), "sh", filepath.Join(d.dir, "without.sh"), filepath.Join(d.dir, "nothing"), d.program,
			"image", "info", "--description", description, "--resolve-package-list")
		cmd := exec.Command("unshare", append(args, more...)...)
		cmd.Env = d.command().Env
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return string(out), exit.ExitCode()
		}
		return string(out), 0
	}
	if out, code := without(); code != exitMissing || !strings.Contains(out, "--builder") {
		t.Errorf("without a builder: exit code %d: %s", code, out)
	}
	if out, code := without("--builder", "debian"); code != exitDone || !strings.Contains(out, `"hello": {`) {
		t.Errorf("with a builder: exit code %d: %s", code, out)
	}
}
