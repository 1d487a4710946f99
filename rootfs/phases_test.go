package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// busyboxTree is a root tree that has busybox and nothing else.
func busyboxTree(t *testing.T, files map[string]string) *layers.Tree {
	t.Helper()
	busybox, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{Sec: 1})
	if err := edit.WriteFile("bin/busybox", busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "cat", "rm", "env", "sleep"} {
		if err := edit.Symlink("busybox", "bin/"+name); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		if err := edit.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return edit.Tree()
}

// TestPhases prepares a tree in a directory, reads it from there, and creates: the same as at once.
func TestPhases(t *testing.T) { testenv.AsBoth(t, testPhases) }

func testPhases(t *testing.T) {
	files := map[string]string{
		"config.xml": describe("tbz"), "config.sh": "echo config $kiwi_iname >> /order\n", "images.sh": "echo images >> /order\n", "root/etc/motd": "hello\n",
		"post_bootstrap.sh": "echo post >> /order\n", "disk.sh": "echo x",
	}
	tree := busyboxTree(t, map[string]string{"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/shadow": "root:*:1:0:99999:7:::\n", "etc/group": "root:x:0:\n"})
	image := load(t, files)
	r := request(t, tree, image)
	whole, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	r = request(t, tree, image)
	r.Phase = Prepare
	prepared, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"post_bootstrap.sh", "config.sh"}, prepared.Ran); diff != "" {
		t.Error(diff)
	}
	if err := prepared.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	onDisk, _, err := layers.ScanDir(t.Context(), r.Dir, layers.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, onDisk, "order"); got != "post\nconfig Test_Machine\n" {
		t.Errorf("after prepare: %q", got)
	}
	if n, err := onDisk.Lookup("etc/machine-id"); err == nil && n.Size > 0 {
		t.Error("the directory was not cleaned up")
	}
	for _, inPlace := range []bool{false, true} {
		name := map[bool]string{false: "elsewhere", true: "in place"}[inPlace]
		create := request(t, onDisk, image)
		create.Phase, create.InPlace = Create, inPlace
		if inPlace {
			create.Dir = r.Dir
		}
		created, err := Overlay(t.Context(), create)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if created.Dir != create.Dir {
			t.Errorf("%s: it ran in %q", name, created.Dir)
		}
		differences, err := layers.Diff(t.Context(), layers.Clamp(whole.Tree, epoch()), layers.Clamp(created.Tree, epoch()))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range differences {
			if d.Path != "." && d.Path != "dev" && d.Path != "proc" && d.Path != "run" && d.Path != "sys" && d.Path != "tmp" && d.Path != "etc" {
				t.Errorf("%s: /%s differs from a build at once: %v %q", name, d.Path, d.Kind, d.What)
			}
		}
	}
}

// TestEmptyTree makes the base directories of a tree that is made from nothing.
func TestEmptyTree(t *testing.T) {
	r := request(t, layers.NewTree(), load(t, map[string]string{"config.xml": describe("tbz")}))
	r.Phase = Prepare
	result, err := Overlay(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dev/pts", "proc", "sys", "run", "etc/sysconfig", "var/cache/kiwi"} {
		if n, err := result.Tree.Lookup(name); err != nil || !n.IsDir() {
			t.Errorf("/%s: %v", name, err)
		}
	}
	if n, err := result.Tree.Lookup("dev/stdout"); err != nil || n.Target != "fd/1" {
		t.Errorf("/dev/stdout: %v", err)
	}
	if err := result.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(r.Dir, "image/config.xml")); err != nil {
		t.Error(err)
	}
}

// TestRunAfterwards runs programs on a finished tree, inside and outside.
func TestRunAfterwards(t *testing.T) {
	testenv.NeedRoot(t)
	r := request(t, busyboxTree(t, map[string]string{"etc/x": "1\n"}), load(t, map[string]string{"config.xml": describe("tbz")}))
	result, err := Overlay(t.Context(), r)
	if err != nil || result.Dir != "" {
		t.Fatalf("%v in %q", err, result.Dir)
	}
	edit := result.Tree.Edit(layers.Timespec{})
	if err := edit.WriteFile("etc/y", []byte("2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := result.Run(t.Context(), edit.Tree(), sandbox.Spec{Args: []string{"sh", "-c", "cat /etc/x /etc/y > /both"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, tree, "both"); got != "1\n2\n" {
		t.Errorf("%q", got)
	}
	tree, err = result.RunOutside(t.Context(), tree, sandbox.Spec{Dir: sandbox.TargetDir, Args: []string{"sh", "-c", "echo outside > both; echo x > /etc/imgbuild-was-here || exit 0"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, tree, "both"); got != "outside\n" {
		t.Errorf("%q", got)
	}
	if _, err := os.Lstat("/etc/imgbuild-was-here"); err == nil {
		t.Error("this machine was changed")
	}
	if _, err := result.Run(t.Context(), tree, sandbox.Spec{Args: []string{"sh", "-c", "rm /both; exit 3"}}); err == nil {
		t.Error("no error")
	}
	if err := result.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"etc/y": true, "both": false} {
		if _, err := os.Stat(filepath.Join(r.Dir, name)); (err == nil) != want {
			t.Errorf("in the directory: /%s: %v", name, err)
		}
	}
}

// TestScriptGone removes a script that would run later.
func TestScriptGone(t *testing.T) {
	testenv.NeedRoot(t)
	image := load(t, map[string]string{"config.xml": describe("tbz"), "config.sh": "rm -rf /image", "images.sh": "echo images > /ran"})
	result, err := Overlay(t.Context(), request(t, busyboxTree(t, nil), image))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"config.sh"}, result.Ran); diff != "" {
		t.Error(diff)
	}
}

// TestDeltaScripts runs the scripts of a container that is a layer on top of another one.
func TestDeltaScripts(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.NeedProgram(t, "bash")
	text := strings.Replace(describe("docker"), `<type image="docker"/>`, `<type image="docker" derived_from="docker://debian:12" delta_root="true"><containerconfig name="delta"/></type>`, 1)
	image := load(t, map[string]string{"config.xml": text, "config-overlay.sh": "echo inside >> /order\n", "config-host-overlay.sh": "echo outside >> order\n", "images.sh": "echo images >> /order\n"})
	result, err := Overlay(t.Context(), request(t, busyboxTree(t, nil), image))
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, result.Tree, "order"); got != "images\ninside\noutside\n" {
		t.Errorf("%q", got)
	}
}

// TestToolsOfTheTree looks that the tree's tools for the splash theme and for permissions run.
func TestToolsOfTheTree(t *testing.T) {
	testenv.NeedRoot(t)
	text := strings.Replace(describe("tbz"), "<keytable>", "<bootsplash-theme>spin</bootsplash-theme><keytable>", 1)
	for name, test := range map[string]struct {
		files       map[string]string
		ran, failed string
	}{
		"both":     {map[string]string{"usr/sbin/plymouth-set-default-theme": "#!/bin/sh\necho theme $1 >> /ran\n", "usr/bin/chkstat": "#!/bin/sh\necho chkstat $* >> /ran\n"}, "theme spin\nchkstat --system --set\n", ""},
		"no tools": {nil, "", ""},
		"no theme": {map[string]string{"usr/sbin/plymouth-set-default-theme": "#!/bin/sh\necho no theme $1; exit 1\n"}, "", "no theme spin"},
	} {
		t.Run(name, func(t *testing.T) {
			edit := busyboxTree(t, test.files).Edit(layers.Timespec{})
			for file := range test.files {
				if err := edit.Change(file, func(n *layers.Node) { n.Mode = layers.TypeRegular | 0o755 }); err != nil {
					t.Fatal(err)
				}
			}
			result, err := Overlay(t.Context(), request(t, edit.Tree(), load(t, map[string]string{"config.xml": text})))
			var at *description.Error
			if test.failed != "" {
				if !errors.As(err, &at) || !strings.Contains(err.Error(), test.failed) {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := result.Tree.ReadFile("ran", 100); string(got) != test.ran {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestDiskFull runs a script on a file system that it fills.
func TestDiskFull(t *testing.T) {
	testenv.NeedRoot(t)
	const variable = "IMGBUILD_TEST_SMALL_DISK"
	dir := os.Getenv(variable)
	if dir == "" {
		// In a mount namespace of its own, whose mounts go with it.
		unshare := testenv.NeedProgram(t, "unshare")
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		small := t.TempDir()
		cmd := exec.Command(unshare, "--mount", "sh", "-c", `mount -t tmpfs -o size=6m none "$1" && exec "$2" -test.run '^TestDiskFull$' -test.v`, "sh", small, self)
		cmd.Env = append(os.Environ(), variable+"="+small)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestDiskFull") {
			t.Errorf("%v\n%s", err, out)
		}
		if entries, err := os.ReadDir(small); err != nil || len(entries) > 0 {
			t.Errorf("it left %v, %v", entries, err)
		}
		return
	}
	image := load(t, map[string]string{"config.xml": describe("tbz"), "config.sh": "echo filling\ncat /bin/busybox /bin/busybox /bin/busybox /bin/busybox > /full\n"})
	r := request(t, busyboxTree(t, nil), image)
	r.Dir = filepath.Join(dir, "root")
	_, err := Overlay(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "No space left on device") || !strings.Contains(err.Error(), "config.sh") {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the tree: %v, %v", entries, err)
	}
	// Where not even the tree fits, that is what the error says.
	if err := os.RemoveAll(r.Dir); err != nil {
		t.Fatal(err)
	}
	edit := r.Tree.Edit(layers.Timespec{})
	if err := edit.WriteFile("big", []byte(strings.Repeat("x", 8<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	r.Tree = edit.Tree()
	if _, err = Overlay(t.Context(), r); err == nil || !strings.Contains(err.Error(), "unpacking the root tree") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
}

// TestInterrupted cancels a script and looks that nothing goes on.
func TestInterrupted(t *testing.T) {
	testenv.NeedRoot(t)
	sleep := fmt.Sprintf("sleep 12345.%d", os.Getpid()) // nobody else sleeps as long
	image := load(t, map[string]string{"config.xml": describe("tbz"), "config.sh": sleep + " &\n" + sleep + "\n"})
	r := request(t, busyboxTree(t, nil), image)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Overlay(ctx, r); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if out, err := exec.Command("pgrep", "-f", sleep).Output(); err == nil {
		t.Errorf("still running: %s", out)
	}
	if entries, err := filepath.Glob(filepath.Join(filepath.Dir(r.Dir), ".*")); err != nil || len(entries) > 0 {
		t.Errorf("temporary files are left: %v, %v", entries, err)
	}
}

// TestShellOnError opens a shell where a script has failed, on a terminal that script(1) makes, and types into it.
func TestShellOnError(t *testing.T) {
	testenv.NeedRoot(t)
	const variable = "IMGBUILD_TEST_SHELL"
	if os.Getenv(variable) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(testenv.NeedProgram(t, "script"), "--quiet", "--return", "--command", command.Quote(self)+" -test.run '^TestShellOnError$' -test.v", "/dev/null")
		cmd.Env = append(os.Environ(), variable+"=1", "TERM=xterm")
		cmd.Stdin = strings.NewReader("echo sum $((40 + 2)) $kiwi_iname $TERM\ncat /made\ntty\nexit 9\n")
		out, err := cmd.CombinedOutput()
		for _, want := range []string{"running config.sh: it failed (exit code 5)", "This is a shell in the root tree", "sum 42 Test_Machine xterm", "by the script", "/dev/", "--- PASS: TestShellOnError"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("no %q (%v) in\n%s", want, err, out)
			}
		}
		return
	}
	image := load(t, map[string]string{"config.xml": describe("tbz"), "config.sh": "echo by the script > /made\nexit 5\n"})
	r := request(t, busyboxTree(t, nil), image)
	r.ShellOnError = true
	_, err := Overlay(t.Context(), r)
	var exit *command.ExitError
	if !errors.As(err, &exit) || exit.Code != 5 {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(r.Dir); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
