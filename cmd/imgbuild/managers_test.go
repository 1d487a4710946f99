package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/testrepos"
)

// managed is a package manager of this machine with a signed repository of tiny packages: hello, other, and sleepy, whose script takes long.
type managed struct {
	*debs
	manager, program, suffix string
	sleep                    string // the seconds that sleepy sleeps, by which it is found
}

func eachManager(t *testing.T, test func(t *testing.T, m *managed)) {
	t.Helper()
	for _, m := range []managed{
		{manager: "zypper", program: "zypper", suffix: ".rpm"}, {manager: "dnf4", program: "dnf-3", suffix: ".rpm"}, {manager: "pacman", program: "pacman", suffix: ".pkg.tar.zst"},
	} {
		t.Run(m.manager, func(t *testing.T) {
			testenv.NeedPrograms(t, m.program)
			m.debs = &debs{killed: newKilled(t), key: testrepos.NewKey(t, "right")}
			m.sleep = fmt.Sprint(300000 + os.Getpid())
			m.repo = m.repository("repo", m.key)
			test(t, &m)
		})
	}
}

// repository makes a repository whose packages are signed with a key.
func (m *managed) repository(name string, key testrepos.Key) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	file := func(name string) []testrepos.File { return []testrepos.File{{Path: "/opt/" + name, Content: name}} }
	own := strings.TrimSuffix(m.manager, "4") // a package of this name comes along with others; this one has no program
	if m.manager == "pacman" {
		list := append(testrepos.PacmanDistribution(m.t), testrepos.PacmanPackage{Name: "hello", Depends: []string{"base"}, Files: file("hello")}, testrepos.PacmanPackage{Name: "other", Files: file("other")}, testrepos.PacmanPackage{Name: own},
			testrepos.PacmanPackage{Name: "sleepy", Depends: []string{"base"}, Install: "post_install() {\n\tsleep " + m.sleep + "\n}\n"})
		testrepos.MakePacmanRepo(m.t, dir, testrepos.PacmanRepo{Name: "tests", Packages: list, Key: &key})
		return dir
	}
	list := append(testrepos.Distribution(m.t, "test"), testrepos.RPM{Name: "hello", Requires: []string{"base"}, Files: file("hello")}, testrepos.RPM{Name: "other", Files: file("other")}, testrepos.RPM{Name: own},
		testrepos.RPM{Name: "sleepy", Requires: []string{"base"}, Post: "sleep " + m.sleep})
	testrepos.MakeRPMRepo(m.t, dir, testrepos.RPMRepo{Packages: list, Key: &key})
	return dir
}

// describe writes a description of a root tree with packages from the repository at address.
func (m *managed) describe(address string, packages ...string) string {
	m.t.Helper()
	dir := filepath.Join(m.dir, "description")
	m.write(filepath.Join(dir, "config.xml"), fmt.Sprintf(`<?xml version="1.0" encoding="utf-8"?>
<image schemaversion="7.4" name="tests">
  <description type="system"><author>A</author><contact>a@example.org</contact><specification>S</specification></description>
  <preferences><version>1.0.0</version><packagemanager>%s</packagemanager><type image="oci"><containerconfig name="tests"/></type></preferences>
  <packages type="bootstrap"><package name="%s"/></packages>
  <repository alias="tests" package_gpgcheck="true" repository_gpgcheck="false"><source path=%q><signing key=%q/></source></repository>
</image>
`, strings.TrimSuffix(m.manager, "4"), strings.Join(packages, `"/><package name="`), address, "file://"+m.key.Public), 0o644)
	return dir
}

// TestManagersThatFail has for each package manager what can be wrong with packages and their mirrors: a root tree that is there stays as it was, and a new one does not appear.
func TestManagersThatFail(t *testing.T) { eachManager(t, testThatFails) }

func testThatFails(t *testing.T, m *managed) {
	server := testrepos.Serve(t, m.repo, "", "")
	wrong := testrepos.Serve(t, m.repository("wrong", testrepos.NewKey(t, "wrong")), "", "")
	root, fresh := filepath.Join(m.dir, "root"), filepath.Join(m.dir, "fresh")
	m.must("prepare", "--description", m.describe(server.URL, "hello"), "--root", root)
	before := m.state(root)
	fails := func(what string, add string, want ...string) {
		t.Helper()
		more := []string{"--description", filepath.Join(m.dir, "description"), "--add-package", add, "--clear-cache"}
		m.fails(exitInvalid, want, append([]string{"prepare", "--allow-existing-root", "--root", root}, more...)...)
		if diff := cmp.Diff(before, m.state(root)); diff != "" {
			t.Errorf("%s: the root tree is another: %s", what, diff)
		}
		if strings.Contains(what, "mirror") {
			return // that takes a while, since each tries again
		}
		m.fails(exitInvalid, want, append([]string{"prepare", "--root", fresh}, more...)...)
		m.noTree(fresh)
	}
	fails("a missing package", "hallo", "command line", "no repository has the package hallo", `"hello"`)
	server.Cut(func(path string) bool { return strings.Contains(path, "other") })
	fails("a mirror that is gone in the middle", "other", "config.xml:6:", "can't be read", "other")
	server.Close()
	fails("a mirror that is gone", "other", "config.xml:6:", "can't be read", "check its address")
	m.describe(wrong.URL, "hello")
	fails("a wrong signature", "other", "config.xml:6:", "signature", "can't be verified", "<signing key=")
}

// TestManagersWithoutSpace makes a root tree where there is no room for it.
func TestManagersWithoutSpace(t *testing.T) { eachManager(t, testWithoutSpace) }

func testWithoutSpace(t *testing.T, m *managed) {
	testenv.NeedProgram(t, "unshare")
	script := filepath.Join(m.dir, "full.sh")
	m.write(script, `set -eu
mkdir "$1/full"
mount -t tmpfs -o size=1600k tmpfs "$1/full"
shift
if "$@"; then echo "it had room"; exit 1; fi
echo "left: $(ls -A "$(dirname "$0")/full" | grep -v '^root.log$')."
`, 0o755)
	args := append(ownMounts(), "sh", script, m.dir, m.killed.program, "prepare", "--description", m.describe("dir://"+m.repo, "hello"), "--root", filepath.Join(m.dir, "full/root"))
	cmd := exec.Command("unshare", args...)
	cmd.Env = m.command().Env
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(strings.ToLower(string(out)), "no space left") || !strings.Contains(string(out), "left: .") {
		t.Errorf("%v: %s", err, out)
	}
	m.nothingLeft()
}

// TestManagersInterrupted ends a run while a package is on its way, and while a package's script runs.
func TestManagersInterrupted(t *testing.T) { eachManager(t, testInterrupted) }

func testInterrupted(t *testing.T, m *managed) {
	asked := make(chan struct{}, 100)
	files := http.FileServer(http.Dir(m.repo))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "other") {
			files.ServeHTTP(w, r)
			return
		}
		asked <- struct{}{}
		<-r.Context().Done() // a mirror that says nothing any more
	}))
	defer server.Close()
	root := filepath.Join(m.dir, "top/root")
	fetching := func() bool { return len(asked) > 0 }
	inScript := func() bool { return len(sleepers(t, m.sleep)) > 0 }
	for _, test := range []struct {
		about, add string
		reached    func() bool
		signal     syscall.Signal
	}{
		{"interrupted while it fetches", "other", fetching, syscall.SIGINT}, {"terminated in a package's script", "sleepy", inScript, syscall.SIGTERM},
		{"killed while it fetches", "other", fetching, syscall.SIGKILL}, {"killed in a package's script", "sleepy", inScript, syscall.SIGKILL},
	} {
		for len(asked) > 0 {
			<-asked
		}
		var output bytes.Buffer
		cmd := m.command("prepare", "--description", m.describe(server.URL, "hello", test.add), "--root", root)
		cmd.Stdout, cmd.Stderr = &output, &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !waitFor(t, test.about, test.reached) {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()
			t.Fatalf("%s: it did not get there: %s", test.about, &output)
		}
		if test.signal == syscall.SIGKILL {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed
			m.nothingLeft()
		} else {
			m.endBy(cmd, test.signal, &output)
			if _, err := os.Stat(filepath.Dir(root)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: the directory above is left: %v", test.about, err)
			}
		}
		if !waitFor(t, "the script to end", func() bool { return !inScript() }) {
			t.Errorf("%s: the script goes on", test.about)
		}
		if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %s is there: %v", test.about, root, err)
		}
	}
	m.must("prepare", "--description", m.describe(server.URL, "hello"), "--root", root)
	if hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(root), ".*")); len(hidden) > 0 {
		t.Errorf("a run that went through left %v", hidden)
	}
}
