package toolbox

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/testenv"
	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	userns.MustEnter()
	os.Exit(m.Run())
}

// lacks is a machine that has all programs but one.
func lacks(program string) func(string) (string, error) {
	return func(name string) (string, error) {
		if name == program {
			return "", &command.MissingError{Program: name}
		}
		return command.Find(name)
	}
}

// run runs a program and returns what it prints.
func run(t *testing.T, box *Toolbox, spec sandbox.Spec) (string, error) {
	t.Helper()
	var out bytes.Buffer
	spec.Stdout, spec.NoNetwork = &out, true
	err := box.Run(t.Context(), spec)
	return out.String(), err
}

func open(t *testing.T, opts Options) *Toolbox {
	t.Helper()
	opts.Workdir = t.TempDir()
	box := Open(opts)
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(opts.Workdir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
	return box
}

// busybox is a small builder container: the program apk of it prints what it sees.
func busybox(t *testing.T) *layers.Tree {
	t.Helper()
	data, err := os.ReadFile(testenv.NeedProgram(t, "busybox"))
	if err != nil {
		t.Fatal(err)
	}
	edit := layers.NewTree().Edit(layers.Timespec{})
	for name, text := range map[string]string{
		"usr/bin/busybox": string(data), "sbin/apk": "#!/usr/bin/busybox sh\n/usr/bin/busybox sh -c \"$1\"\n", "etc/apk/repositories": "http://container.invalid/\n",
		"etc/pacman-real.conf": "[container]\n", "opt/not-a-program": "x",
	} {
		if err := edit.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := edit.Symlink("/etc/pacman-real.conf", "etc/pacman.conf"); err != nil {
		t.Fatal(err)
	}
	return edit.Tree()
}

// TestMachine runs a program of this machine, which can't change it and doesn't see its configuration.
func TestMachine(t *testing.T) { testenv.AsBoth(t, testMachine) }

func testMachine(t *testing.T) {
	testenv.NeedFile(t, "/etc/apt")
	testenv.NeedFile(t, "/etc/dpkg")
	box := open(t, Options{Builder: func(context.Context) (*layers.Tree, error) { return nil, errors.New("not to be asked") }})
	target := t.TempDir()
	out, err := run(t, box, sandbox.Spec{Args: []string{"sh", "-c", "echo $HOME; ls -A /etc/apt /etc/dpkg; touch /usr/x 2>/dev/null && echo bad; echo y >" + sandbox.TargetDir + "/file"}, Target: target})
	if err != nil || out != "/tmp\n/etc/apt:\n\n/etc/dpkg:\n" {
		t.Errorf("%q, %v", out, err)
	}
	if data, err := os.ReadFile(filepath.Join(target, "file")); string(data) != "y\n" {
		t.Errorf("the target has %q, %v", data, err)
	}
}

// TestBuilder runs a program of the builder container, which is unpacked once, whoever asks.
func TestBuilder(t *testing.T) { testenv.AsBoth(t, testBuilder) }

func testBuilder(t *testing.T) {
	tree := busybox(t)
	asked := 0
	box := open(t, Options{Find: lacks("apk"), Builder: func(context.Context) (*layers.Tree, error) {
		asked++
		return tree, nil
	}})
	target := t.TempDir()
	var group sync.WaitGroup
	for _, name := range []string{"one", "two", "three"} {
		group.Go(func() {
			out, err := run(t, box, sandbox.Spec{Args: []string{"apk", "/usr/bin/busybox ls -A /etc/apk; /usr/bin/busybox cat /etc/pacman.conf; echo here > " + sandbox.TargetDir + "/" + name}, Target: target})
			if err != nil || out != "" {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
	group.Wait()
	if list, err := filepath.Glob(target + "/*"); len(list) < 3 || asked != 1 {
		t.Errorf("%v, %v, asked %d times", list, err, asked)
	}
	if dirs, err := filepath.Glob(filepath.Join(box.opts.Workdir, "builder-*")); len(dirs) != 1 {
		t.Errorf("unpacked as %v, %v", dirs, err)
	}
}

func TestMissing(t *testing.T) {
	testenv.NeedRoot(t)
	var missing *command.MissingError
	_, err := run(t, open(t, Options{Find: lacks("apt-get")}), sandbox.Spec{Args: []string{"apt-get"}})
	if !errors.As(err, &missing) || !strings.Contains(err.Error(), "--builder") {
		t.Errorf("error %v", err)
	}
	tree := busybox(t)
	box := open(t, Options{Find: func(name string) (string, error) { return "", &command.MissingError{Program: name} }, Builder: func(context.Context) (*layers.Tree, error) { return tree, nil }})
	for _, name := range []string{"pacman", "/opt/nothing", "opt"} {
		if _, err := run(t, box, sandbox.Spec{Args: []string{name}}); !errors.As(err, &missing) || !strings.Contains(err.Error(), "the builder container doesn't have it either") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	broken := errors.New("the registry is gone")
	box = open(t, Options{Find: lacks("apk"), Builder: func(context.Context) (*layers.Tree, error) { return nil, broken }})
	if _, err := run(t, box, sandbox.Spec{Args: []string{"apk"}}); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if err := box.Run(t.Context(), sandbox.Spec{}); err == nil {
		t.Error("nothing was run")
	}
}

// TestUnpackingFails leaves nothing behind.
func TestUnpackingFails(t *testing.T) {
	testenv.NeedRoot(t)
	tree := busybox(t)
	box := open(t, Options{Find: lacks("apk"), Builder: func(context.Context) (*layers.Tree, error) { return tree, nil }})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if err := box.Run(ctx, sandbox.Spec{Args: []string{"apk", "true"}}); !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
}

// TestDebianBuilder takes apt from a container with Debian where this machine has none.
func TestDebianBuilder(t *testing.T) {
	testenv.NeedRoot(t)
	name := os.Getenv("IMGBUILD_TEST_DEBIAN")
	if name == "" {
		testenv.Missing(t, "IMGBUILD_TEST_DEBIAN names no archive of a Debian root tree")
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers.ReadLayer(t.Context(), blob{file, info.Size()}, layers.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree, err := layers.Apply(nil, layer)
	if err != nil {
		t.Fatal(err)
	}
	box := open(t, Options{Find: lacks("apt-get"), Builder: func(context.Context) (*layers.Tree, error) { return tree, nil }})
	target := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt"} {
		if err := os.MkdirAll(filepath.Join(target, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(target, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, box, sandbox.Spec{Args: []string{"apt-get", "-o", "Dir=" + sandbox.TargetDir, "-o", "Dir::State::status=" + sandbox.TargetDir + "/var/lib/dpkg/status", "check"}, Target: target})
	if err != nil || !strings.Contains(out, "Reading package lists") {
		t.Errorf("%q, %v", out, err)
	}
	if out, err := run(t, box, sandbox.Spec{Args: []string{"sh", "-c", "ls -A /etc/apt"}}); err != nil || out != "" {
		t.Errorf("this machine's configuration: %q, %v", out, err)
	}
}

type blob struct {
	*os.File
	size int64
}

func (b blob) Size() int64 { return b.size }
