package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/testenv"
)

// machineSpec runs a program of this machine.
func machineSpec(script string) Spec {
	return Spec{Root: "/", ReadOnlyRoot: true, Args: []string{"sh", "-c", script}}
}

func output(t *testing.T, spec Spec) string {
	t.Helper()
	var out bytes.Buffer
	spec.Stdout, spec.Stderr = &out, &out
	if err := Run(t.Context(), spec); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// TestReadOnlyMachine runs this machine's programs and tries to change the machine.
func TestReadOnlyMachine(t *testing.T) { testenv.AsBoth(t, testReadOnlyMachine) }

func testReadOnlyMachine(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("/dev/shm", "sandbox-") // another file system than the root directory's
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	script := `exec 2>/dev/null
for f in /etc /usr /var/tmp /root ` + dir + ` ` + home + `; do touch $f/imgbuild-was-here && echo wrote to $f; done
mount -o remount,rw / && echo remounted
echo x > /tmp/x && echo x > /run/x && echo memory
ls /tmp
cmp -s /etc/resolv.conf - && echo names
test -x /usr/bin/sh && echo end`
	spec := machineSpec(script)
	names, err := os.Open("/etc/resolv.conf")
	if err != nil {
		testenv.Missing(t, "a resolv.conf of the host: %v", err)
	}
	defer names.Close()
	spec.Stdin = names
	if diff := cmp.Diff("memory\nx\nnames\nend\n", output(t, spec)); diff != "" {
		t.Error(diff)
	}
	spec.ReadOnlyRoot = false
	if err := Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("a writable machine: %v", err)
	}
}

// TestReadOnlyTree runs programs in a tree that is not theirs to change.
func TestReadOnlyTree(t *testing.T) { testenv.AsBoth(t, testReadOnlyTree) }

func testReadOnlyTree(t *testing.T) {
	root := newRoot(t)
	for _, dir := range []string{"dev", "sys", "run", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(root, "etc/resolv.conf"), "nameserver 192.0.2.1\n")
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		testenv.Missing(t, "a resolv.conf of the host: %v", err)
	}
	spec := hostSpec(root, "sh", "-c", "cat /etc/resolv.conf; touch /etc/x 2>/dev/null || echo end")
	spec.ReadOnlyRoot = true
	if diff := cmp.Diff(string(host)+"end\n", output(t, spec)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("nameserver 192.0.2.1\n", get(t, filepath.Join(root, "etc/resolv.conf"))); diff != "" {
		t.Error(diff)
	}
}

// TestTarget changes a tree from this machine's programs, and chroots into it.
func TestTarget(t *testing.T) { testenv.AsBoth(t, testTarget) }

func testTarget(t *testing.T) {
	const own = "nameserver 192.0.2.1\n"
	root := newRoot(t)
	put(t, filepath.Join(root, "etc/resolv.conf"), own)
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		testenv.Missing(t, "a resolv.conf of the host: %v", err)
	}
	spec := machineSpec(`set -e
cd ` + TargetDir + `
cp -L -t usr/bin /usr/bin/sh /usr/bin/cat /usr/bin/ls
for f in $(ldd /usr/bin/sh /usr/bin/ls | sed -n 's,.*[ \t]\(/[^ ]*\) (.*,\1,p' | sort -u); do mkdir -p .$(dirname $f); cp -L $f .$f; done
chroot . /bin/sh -ec 'cat /etc/resolv.conf; ls /run/imgbuild/bin; ls /dev/null /dev/fd/0; ls -d /proc/1 /sys/class; echo x > /tmp/x; echo x > /run/x; echo x > /dev/null; /usr/sbin/policy-rc.d || echo policy; cat /run/shown/file; echo made > /etc/made'
(echo 1 > proc/sys/vm/drop_caches) 2>/dev/null && echo wrote to the machine
ls tmp
`)
	spec.Target = root
	shown := t.TempDir()
	put(t, filepath.Join(shown, "file"), "shown\n")
	spec.Binds = []Bind{{Source: shown, Target: TargetDir + "/run/shown", ReadOnly: true}}
	want := string(host) + "start-stop-daemon\n/dev/fd/0\n/dev/null\n/proc/1\n/sys/class\npolicy\nshown\nx\n"
	if diff := cmp.Diff(want, output(t, spec)); diff != "" {
		t.Error(diff)
	}
	for name, want := range map[string]string{"etc/made": "made\n", "etc/resolv.conf": own, "etc/hosts": "", "usr/sbin/policy-rc.d": ""} {
		if diff := cmp.Diff(want, get(t, filepath.Join(root, name))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, dir := range []string{"dev", "run", "tmp", "sys", "proc"} {
		entries, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil || len(entries) != 0 {
			t.Errorf("%s has %v, %v", dir, entries, err)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "tmp")); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o777 {
		t.Errorf("tmp: %v, %v", info.Mode(), err)
	}
}

// TestHostileTarget has system directories that lead out of the tree.
func TestHostileTarget(t *testing.T) { testenv.AsBoth(t, testHostileTarget) }

func testHostileTarget(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	for _, name := range []string{"dev", "run", "sys", "tmp", "etc", "proc", "usr"} {
		if err := os.Symlink("../../../../../../../.."+outside, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	spec := machineSpec("true")
	spec.Target, spec.HostNames = root, true
	spec.Binds = []Bind{{Source: outside, Target: outside}}
	err := Run(t.Context(), spec)
	t.Logf("error: %v", err)
	entries, readErr := os.ReadDir(outside)
	if readErr != nil || len(entries) != 0 {
		t.Errorf("a directory outside of the tree has %v, %v", entries, readErr)
	}
	spec.Target = filepath.Join(root, "nowhere")
	if err := Run(t.Context(), spec); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a target that is not there: %v", err)
	}
}

// TestTerminal gives a program the terminal that script(1) makes.
func TestTerminal(t *testing.T) { testenv.AsBoth(t, testTerminal) }

func testTerminal(t *testing.T) {
	testenv.NeedPrograms(t, "script")
	root := newRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "script", "-qec", self, "/dev/null")
	cmd.Env = append(os.Environ(), "SANDBOX_TEST=terminal", "SANDBOX_ROOT="+root, "SHELL=/bin/sh", "TERM=vt220")
	cmd.Stdin = strings.NewReader("read the line\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, got, _ := strings.Cut(strings.ReplaceAll(string(out), "\r", ""), "begin\n")
	if !strings.Contains(got, "a terminal of vt220\nread: read the line\nback in the foreground\n") {
		t.Errorf("%q", got)
	}
	spec := hostSpec(root, "true")
	spec.Terminal = true
	if tty, err := os.Open("/dev/tty"); err == nil {
		tty.Close()
		return
	}
	if err := Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "terminal") {
		t.Errorf("without a terminal: %v", err)
	}
}

// terminalChild is what runs on the terminal of [TestTerminal].
func terminalChild() int {
	spec := hostSpec(os.Getenv("SANDBOX_ROOT"), "sh", "-c", `echo begin; test -t 0 && test -t 1 && test -t 2 && echo a terminal of $TERM; read line; echo "read: $line"`)
	spec.Terminal = true
	if err := Run(context.Background(), spec); err != nil {
		fmt.Println(err)
		return 1
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
		fmt.Println("back in the foreground")
	}
	return 0
}

// TestFilesOfTheTarget puts files into the target's memory, where a hostile tree has links in their way.
func TestFilesOfTheTarget(t *testing.T) { testenv.AsBoth(t, testFilesOfTheTarget) }

func testFilesOfTheTarget(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/run/imgbuild-elsewhere", filepath.Join(root, "tmp")); err != nil {
		t.Fatal(err)
	}
	spec := machineSpec("cat " + TargetDir + "/run/settings/file; ls -A " + TargetDir + "/run/settings; echo $HOME")
	spec.Target = root
	spec.Env = []string{"HOME=/first", "HOME=/last"}
	spec.Files = []File{{Path: TargetDir + "/run/settings/file", Data: []byte("text\n"), Perm: 0o600}}
	var out bytes.Buffer
	spec.Stdout, spec.Stderr = &out, &out
	err := Run(t.Context(), spec)
	if want := "text\nfile\n/last\n"; err != nil && !strings.Contains(err.Error(), "/tmp") || err == nil && out.String() != want {
		t.Errorf("%v\n%s", err, out.String())
	}
	if err := os.Remove(filepath.Join(root, "tmp")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("text\nfile\n/last\n", output(t, spec)); diff != "" {
		t.Error(diff)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "run")); err != nil || len(entries) > 0 {
		t.Errorf("left in the tree: %v, %v", entries, err)
	}
	spec.Files[0].Path = TargetDir + "/etc/file"
	if err := Run(t.Context(), spec); err == nil || !strings.Contains(err.Error(), "would stay") {
		t.Errorf("a file that would stay: %v", err)
	}
}
