package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgbuild/imgbuild/internal/command"
)

// scriptKills is how often a build is killed while a script of its description runs.
const scriptKills = 10

// sleepy is a description whose config.sh starts programs that sleep for so many seconds, a number by which they can be found.
func (k *killed) sleepy(seconds string) string {
	k.t.Helper()
	dir := filepath.Join(k.dir, "description")
	k.write(filepath.Join(dir, "config.xml"), strings.Replace(ociDescription, `<packages type="image"><package name="web"/></packages>`,
		`<packages type="bootstrap"/>`, 1), 0o644)
	k.write(filepath.Join(dir, "config.sh"), fmt.Sprintf(`#!/bin/sh
(sleep %s & sleep %[1]s) &
sleep %[1]s &
: > /started
sleep %[1]s
`, seconds), 0o755)
	return dir
}

func (k *killed) write(path, text string, mode os.FileMode) {
	k.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		k.t.Fatal(err)
	}
}

// shellTree stashes a root tree with the machine's shell and sleep.
func (k *killed) shellTree(name string) {
	k.t.Helper()
	root := filepath.Join(k.dir, name)
	if err := copyPrograms(root, "sh", "bash", "sleep"); err != nil {
		k.t.Fatal(err)
	}
	k.must("stash", "--root", root, "--container-name", name)
}

// programs puts programs of this machine into a directory: programs DIR PROGRAM...
func programs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: programs dir program...")
	}
	ts.Check(copyPrograms(ts.MkAbs(args[0]), args[1:]...))
}

// copyPrograms copies programs of this machine into /bin of a root tree, with the libraries that they need.
func copyPrograms(root string, names ...string) error {
	for _, name := range names {
		path, err := command.Find(name)
		if err != nil {
			return err
		}
		libraries, err := exec.Command("ldd", path).Output()
		if err != nil {
			return err
		}
		files := map[string]string{path: "/bin/" + name}
		for _, word := range strings.Fields(string(libraries)) {
			if strings.HasPrefix(word, "/") {
				files[word] = word
			}
		}
		for from, to := range files {
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			to = filepath.Join(root, to)
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o755)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sleepers returns the processes that sleep for so many seconds.
func sleepers(t *testing.T, seconds string) []string {
	t.Helper()
	var found []string
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range lines {
		line, _ := os.ReadFile(file) // it may end meanwhile
		if bytes.Equal(line, []byte("sleep\x00"+seconds+"\x00")) {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}

// waitFor waits until done, for at most half a minute.
func waitFor(t *testing.T, what string, done func() bool) bool {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("waited in vain for %s", what)
			return false
		}
	}
	return true
}

// startSleepy starts a build and returns when its script's four programs sleep.
func (k *killed) startSleepy(target, seconds string, output *bytes.Buffer) *exec.Cmd {
	k.t.Helper()
	cmd := k.command("stackbuild", "--stash", "shell", "--description", filepath.Join(k.dir, "description"), "--target-dir", target, "--force")
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended already, unless the test failed
	if !waitFor(k.t, "the script to start its programs", func() bool { return len(sleepers(k.t, seconds)) == 4 }) {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
		k.t.Fatalf("the build said: %s", output)
	}
	return cmd
}

func TestKilledScriptLeavesNothing(t *testing.T) {
	k := newKilled(t)
	k.shellTree("shell")
	seconds := fmt.Sprint(100000 + os.Getpid())
	k.sleepy(seconds)
	target := filepath.Join(k.dir, "out")
	for range scriptKills {
		var output bytes.Buffer
		cmd := k.startSleepy(target, seconds, &output)
		time.Sleep(time.Duration(k.random.Int64N(int64(50 * time.Millisecond))))
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		if !waitFor(t, "the script's programs to end", func() bool { return len(sleepers(t, seconds)) == 0 }) {
			t.FailNow()
		}
		k.nothingLeft()
		k.verifyStore()
		if images, _ := filepath.Glob(filepath.Join(target, "web.*")); len(images) > 0 {
			t.Fatalf("a killed build left %v", images)
		}
	}
	// What a kill leaves in the target directory is replaced by the next build.
	k.write(filepath.Join(k.dir, "description/config.sh"), "#!/bin/sh\n: > /made\n", 0o755)
	k.must("stackbuild", "--stash", "shell", "--description", filepath.Join(k.dir, "description"), "--target-dir", target, "--force")
	if left, _ := filepath.Glob(filepath.Join(target, ".*")); len(left) > 0 {
		t.Errorf("left over after a build that went through: %v", left)
	}
	if _, err := os.Stat(filepath.Join(target, "SHA256SUMS")); err != nil {
		t.Error(err)
	}
}

// interrupt sends SIGINT as Ctrl-C does and checks how the program ends, and that it does at once.
func (k *killed) interrupt(cmd *exec.Cmd, output *bytes.Buffer) {
	k.t.Helper()
	k.endBy(cmd, os.Interrupt, output)
}

// endBy does so by a signal.
func (k *killed) endBy(cmd *exec.Cmd, signal os.Signal, output *bytes.Buffer) {
	k.t.Helper()
	if err := cmd.Process.Signal(signal); err != nil {
		k.t.Fatal(err)
	}
	start := time.Now()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		k.t.Fatalf("interrupted, it ended with %v: %s", err, output)
	}
	if took := time.Since(start); took > 20*time.Second {
		k.t.Errorf("it took %v to end", took)
	}
	if !strings.HasSuffix(output.String(), "imgbuild: interrupted\n") {
		k.t.Errorf("it said: %s", output)
	}
	k.nothingLeft()
	k.verifyStore()
}

func TestInterruptedScriptLeavesNothing(t *testing.T) {
	k := newKilled(t)
	k.shellTree("shell")
	seconds := fmt.Sprint(200000 + os.Getpid())
	k.sleepy(seconds)
	target := filepath.Join(k.dir, "out")
	var output bytes.Buffer
	cmd := k.startSleepy(target, seconds, &output)
	k.interrupt(cmd, &output)
	if left := sleepers(t, seconds); len(left) > 0 {
		t.Errorf("programs of the script go on: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(target, "*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(target, ".*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestInterruptedPullLeavesNothing(t *testing.T) {
	k := newKilled(t)
	asked, release := make(chan struct{}, 1), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		select { // a registry that says nothing
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	var output bytes.Buffer
	cmd := k.command("pull", strings.TrimPrefix(server.URL, "http://")+"/web:1")
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	<-asked
	k.interrupt(cmd, &output)
	if got := k.must("images", "--json"); strings.TrimSpace(got) != "[]" {
		t.Errorf("the store holds %s", got)
	}
}

func TestInterruptedStashLeavesNothing(t *testing.T) {
	k := newKilled(t)
	root := filepath.Join(k.dir, "root")
	k.fill(root)
	k.must("stash", "--root", root, "--container-name", "web")
	before := k.must("images", "--json")
	big, err := os.Create(filepath.Join(root, "big"))
	if err != nil {
		t.Fatal(err)
	}
	// Much to read and nothing to store: a sparse file would be skipped, so its bytes are there.
	if _, err := io.CopyN(big, zeros{}, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := big.Close(); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	cmd := k.command("stash", "--root", root, "--container-name", "web", "--compression", "zstd:19", "--progress", "json")
	reader, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(reader, first); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(&output, reader); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
		t.Fatalf("interrupted, it ended with %v: %s", err, &output)
	}
	k.nothingLeft()
	k.verifyStore()
	if after := k.must("images", "--json"); after != before {
		t.Errorf("the store changed from %s to %s", before, after)
	}
	if left, _ := filepath.Glob(filepath.Join(k.dir, "store/imgbuild/tmp/*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestSecondInterrupt interrupts imgbuild where it can't end by itself: nobody takes what it prints.
func TestSecondInterrupt(t *testing.T) {
	k := newKilled(t)
	t.Run("in the foreground", func(t *testing.T) { interruptTwice(t, k.command("--help")) })
	t.Run("as a shell's background process", func(t *testing.T) {
		cmd := k.command()
		cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `trap '' INT; exec "$0" --help`, k.program}
		interruptTwice(t, cmd)
	})
}

func interruptTwice(t *testing.T, cmd *exec.Cmd) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.Write(make([]byte, 1<<16)); err != nil { // a pipe holds so much
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != exitInterrupted {
				t.Errorf("it ended with %v", err)
			}
			return
		case <-time.After(100 * time.Millisecond):
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		}
	}
}
