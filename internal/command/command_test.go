package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunFailure(t *testing.T) {
	err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo on stdout; echo secret-word it broke >&2; exit 7"}, Redact: []string{"secret-word"}})
	var exit *ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("error %v is not an ExitError", err)
	}
	if exit.Code != 7 || exit.Output != "on stdout\n*** it broke" {
		t.Errorf("code %d, output %q", exit.Code, exit.Output)
	}
	if text := err.Error(); strings.Contains(text, "secret-word") || !strings.Contains(text, "sh -c") {
		t.Errorf("text %q", text)
	}
}

func TestRunSignal(t *testing.T) {
	err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "kill -9 $$"}})
	if err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("error %v", err)
	}
}

func TestOutput(t *testing.T) {
	out, err := Output(t.Context(), Cmd{
		Name: "sh", Args: []string{"-c", "cat; pwd; echo $X $LC_ALL"}, Stdin: strings.NewReader("in\n"), Dir: "/", Env: []string{"X=1", "X=2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("in\n/\n2 C.UTF-8\n", string(out)); diff != "" {
		t.Error(diff)
	}
	_, err = Output(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo only here; false"}})
	if err == nil || !strings.Contains(err.Error(), "only here") {
		t.Errorf("error %v does not have the output", err)
	}
}

func TestBothOutputsKeepOrder(t *testing.T) {
	var out bytes.Buffer
	err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done"}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("o1\ne1\no2\ne2\no3\ne3\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

// TestComplaintsAlone takes what goes to one output, while the end of both is kept.
func TestComplaintsAlone(t *testing.T) {
	var complaints bytes.Buffer
	script := "for i in $(seq 2000); do echo o; echo e >&2; done & for i in $(seq 2000); do echo o; done; wait; exit 1"
	err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", script}, Stderr: &complaints})
	var exit *ExitError
	if !errors.As(err, &exit) || strings.Trim(exit.Output, "oe\n") != "" || len(exit.Output) == 0 {
		t.Errorf("error %v", err)
	}
	if complaints.String() != strings.Repeat("e\n", 2000) {
		t.Errorf("%d bytes of complaints", complaints.Len())
	}
}

func TestFiles(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo hello >&3"}, Files: []*os.File{w}}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	buf := make([]byte, 16)
	n, err := r.Read(buf)
	if err != nil || string(buf[:n]) != "hello\n" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestCancelKillsChildren(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	dir := t.TempDir()
	alive := filepath.Join(dir, "alive")
	go func() {
		for {
			if _, err := os.Stat(alive); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		cancel(errors.New("the user asked"))
	}()
	start := time.Now()
	err := Run(ctx, Cmd{Name: "sh", Args: []string{"-c", fmt.Sprintf("sleep 100 & echo $! > %s.tmp; mv %s.tmp %s; wait", alive, alive, alive)}})
	if err == nil || !strings.Contains(err.Error(), "the user asked") {
		t.Errorf("error %v", err)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("it took %v to stop", took)
	}
	pid, err := os.ReadFile(alive)
	if err != nil {
		t.Fatal(err)
	}
	status := filepath.Join("/proc", strings.TrimSpace(string(pid)), "stat")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		data, err := os.ReadFile(status)
		if err != nil || strings.Contains(string(data), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the child still lives: %s", data)
		}
	}
}

func TestMissing(t *testing.T) {
	err := Run(t.Context(), Cmd{Name: "no-such-program-here"})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Program != "no-such-program-here" {
		t.Errorf("error %v", err)
	}
	for _, test := range []struct {
		osRelease, program, want string
	}{
		{"ID=debian\n", "mke2fs", "apt-get install e2fsprogs"},
		{"NAME=x\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "newuidmap", "apt-get install uidmap"},
		{"ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "qemu-img", "dnf install qemu-img"},
		{"ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "mkfs.btrfs", "zypper install btrfsprogs"},
		{"ID=fedora\n", "linux.uml", ""},
		{"ID=debian\n", "unheard-of", ""},
	} {
		file := filepath.Join(t.TempDir(), "os-release")
		if err := os.WriteFile(file, []byte(test.osRelease), 0o600); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, installCommand(test.program, osFamily(file))); diff != "" {
			t.Errorf("%s on %q: %s", test.program, test.osRelease, diff)
		}
		text := missingText(test.program, osFamily(file))
		if !strings.HasPrefix(text, "running "+test.program+": it is not installed") || !strings.HasSuffix(text, test.want) {
			t.Errorf("text %q", text)
		}
	}
}

func TestTail(t *testing.T) {
	out := &tail{}
	for i := range 10000 {
		fmt.Fprintf(out, "line %d\n", i)
	}
	text := out.String()
	if len(text) > keptOutput || !strings.HasSuffix(text, "\nline 9999") || !strings.HasPrefix(text, "line ") {
		t.Errorf("%d bytes: %.30q ... %q", len(text), text, text[len(text)-30:])
	}
}

func TestLine(t *testing.T) {
	c := Cmd{Name: "grub-mkimage", Args: []string{"-O", "x86_64-efi", "it's", "", "a b", "pass"}, Redact: []string{"pass", ""}}
	if diff := cmp.Diff(`grub-mkimage -O x86_64-efi 'it'\''s' '' 'a b' ***`, c.Line()); diff != "" {
		t.Error(diff)
	}
}

func TestCanceledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, Cmd{Name: "true"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("IMGBUILD_TEST_ONE", "1")
	out, err := Output(t.Context(), Cmd{Name: "env", Env: []string{"IMGBUILD_TEST_TWO=2", "IMGBUILD_TEST_ONE", "IMGBUILD_TEST_TWO=3"}})
	if err != nil {
		t.Fatal(err)
	}
	if text := string(out); strings.Contains(text, "IMGBUILD_TEST_ONE") || !strings.Contains(text, "IMGBUILD_TEST_TWO=3\n") || !strings.Contains(text, "LC_ALL=C.UTF-8\n") {
		t.Errorf("the environment is %s", text)
	}
}

// TestSlowReader takes what a program prints long after it has ended.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	out, to := io.Pipe()
	go func() {
		to.CloseWithError(Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "head -c 60000 /dev/zero; echo end"}, Stdout: to}))
	}()
	time.Sleep(waitForPipes + time.Second)
	got, err := io.ReadAll(out)
	if err != nil || len(got) != 60004 || !bytes.HasSuffix(got, []byte("\x00end\n")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestLeftBehind runs programs that leave a process behind, which is silent or not, with their output.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	for _, behind := range []string{"sleep 60", "while sleep 0.05; do echo again; done"} {
		var out bytes.Buffer
		start := time.Now()
		err := Run(t.Context(), Cmd{Name: "sh", Args: []string{"-c", "echo pid $$; (" + behind + ") & echo done"}, Stdout: &out})
		if !errors.Is(err, errHeld) || !strings.Contains(out.String(), "done\n") {
			t.Errorf("%s: %q, %v", behind, out.String(), err)
		}
		if took := time.Since(start); took > 3*waitForPipes {
			t.Errorf("%s: it took %v", behind, took)
		}
		var pid int
		if _, err := fmt.Sscanf(out.String(), "pid %d\n", &pid); err != nil {
			t.Fatal(err)
		}
		_ = syscall.Kill(-pid, syscall.SIGKILL) // its group
	}
}

// failing is a writer that takes so many bytes.
type failing struct{ left int }

var errFull = errors.New("the disk is full")

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestNobodyTakesIt has a program print more than is taken: that is the error, and not that the program is ended by a signal for it.
func TestNobodyTakesIt(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"yes", "yes; exit 3", "echo a little"} {
		for _, c := range []Cmd{{Stdout: &failing{2}}, {Stdout: &failing{2}, Stderr: &bytes.Buffer{}}} {
			c.Name, c.Args = "sh", []string{"-c", script}
			if err := Run(t.Context(), c); !errors.Is(err, errFull) {
				t.Errorf("%s: %v", script, err)
			}
		}
	}
}

// TestInputThatIsNotRead gives a program input that comes later than its end.
func TestInputThatIsNotRead(t *testing.T) {
	t.Parallel()
	in, from := io.Pipe()
	go func() {
		time.Sleep(waitForPipes + time.Second)
		from.Close()
	}()
	if err := Run(t.Context(), Cmd{Name: "true", Stdin: in}); err != nil {
		t.Error(err)
	}
}
