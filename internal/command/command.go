// Package command runs external programs: one way to start them, to stop them, and to say what went wrong.
//
// A program that is started here dies with its context and with this process, children included. Its failure carries its command line
// and the end of its output; a program that is not installed gives an error with the command that installs it.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keptOutput is how many bytes of a program's output are kept for the error message.
const keptOutput = 4 << 10

// waitForPipes is how long the descendants of a program that has ended may hold its output open without a word before it is closed, and how long its
// input may take to end.
const waitForPipes = 2 * time.Second

// Cmd says what to run.
type Cmd struct {
	// Name is the program: a name that is looked for as by [Find], or a path with a slash in it.
	Name string
	// Args are the arguments after the name.
	Args []string
	// Stdin is what the program reads; nil is /dev/null.
	Stdin io.Reader
	// Stdout takes what the program prints; nil keeps the end of it for the error.
	Stdout io.Writer
	// Stderr takes what the program complains about, besides the end of it that is kept for the error. It may be the same writer as Stdout.
	Stderr io.Writer
	// Dir is the working directory; "" is this process's.
	Dir string
	// Env is added to this process's environment, NAME=value each; a later entry wins. A NAME alone takes the variable away. LC_ALL=C.UTF-8 is
	// set in any case.
	Env []string
	// Files are passed on as file descriptors 3 and up.
	Files []*os.File
	// Redact are secrets that must not appear in an error: each is shown as "***".
	Redact []string
	// Title is what errors show in the place of the command line; "" is the command line itself.
	Title string
	// Attr has further settings for the new process, such as namespaces. It dies with this process in any case, and leads a process group of its
	// own unless Attr asks for a session. nil is no further settings.
	Attr *syscall.SysProcAttr
}

// Line returns the command line as a user could type it into a shell, with secrets hidden.
func (c Cmd) Line() string {
	if c.Title != "" {
		return c.hide(c.Title)
	}
	words := make([]string, 0, 1+len(c.Args))
	for _, word := range append([]string{c.Name}, c.Args...) {
		words = append(words, Quote(word))
	}
	return c.hide(strings.Join(words, " "))
}

func (c Cmd) hide(text string) string {
	for _, secret := range c.Redact {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

// attributes returns the settings of the new process. A process group of its own lets a cancel reach the program's children too; the
// parent-death signal does the rest when this process is killed.
func (c Cmd) attributes() *syscall.SysProcAttr {
	attr := syscall.SysProcAttr{}
	if c.Attr != nil {
		attr = *c.Attr
	}
	attr.Pdeathsig = syscall.SIGKILL
	attr.Setpgid = !attr.Setsid // a session leader leads a group already
	return &attr
}

// Quote puts a word into single quotes where a shell would not take it as it is.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./=:,@%+^", r))
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !plain(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ExitError is the failure of a program that ran.
type ExitError struct {
	Line   string // the command line, secrets hidden
	Code   int    // the exit code, or -1 if a signal ended it
	Signal string // the signal that ended it, or ""
	Output string // the end of what it printed, secrets hidden
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("exit code %d", e.Code)
	if e.Signal != "" {
		how = "ended by signal: " + e.Signal
	}
	if e.Output == "" {
		return fmt.Sprintf("running %s: %s", e.Line, how)
	}
	return fmt.Sprintf("running %s: %s; it said: %s", e.Line, how, e.Output)
}

// Run runs a program until it ends. A program that is not installed gives a [*MissingError], one that fails an [*ExitError]. When ctx ends
// first, the program and its children are killed and the error wraps the cause of ctx.
func Run(ctx context.Context, c Cmd) error {
	path, err := Find(c.Name)
	if err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("running %s: %w", c.Line(), err)
	}
	kept := &tail{}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Stdin, cmd.Dir, cmd.ExtraFiles = c.Stdin, c.Dir, c.Files
	cmd.Env = environment(c.Env)
	cmd.SysProcAttr = c.attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = waitForPipes
	// The parent-death signal follows the thread that started the program, so the thread has to live as long as the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	passing, err := runPassing(cmd, c, kept)
	if err == nil && passing == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("running %s: %w", c.Line(), cause)
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || passing != nil && passing != errHeld {
		// A program whose output nobody takes fails for that.
		return fmt.Errorf("running %s: %w", c.Line(), errors.Join(passing, err))
	}
	failed := &ExitError{Line: c.Line(), Code: exit.ExitCode(), Output: c.hide(kept.String())}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		failed.Signal = status.Signal().String()
	}
	return failed
}

// runPassing runs a program, passes on what it prints, and returns why that could not be done and how it ended.
func runPassing(cmd *exec.Cmd, c Cmd, kept *tail) (passing, err error) {
	var pipes outputPipes
	stdout, stderr := outputs(c, kept)
	out, err := pipes.open(stdout)
	if err == nil {
		cmd.Stdout = out
		if out, err = pipes.open(stderr); err == nil {
			cmd.Stderr = out
			starting.RLock()
			err = cmd.Start()
			starting.RUnlock()
		}
	}
	if err != nil {
		pipes.discard()
		return nil, err
	}
	pipes.start()
	if err = cmd.Wait(); errors.Is(err, exec.ErrWaitDelay) {
		err = nil // it has ended well without reading all of its input
	}
	return pipes.finish(), err
}

// starting is held by those who start a program. It belongs to the process as [syscall.ForkLock] does, and for the same reason.
var starting sync.RWMutex

// Settle waits until the programs are running that are being started at this moment. Until then they have the files open that this process has open, and
// one that was open to be written can't be executed ("text file busy"). So who has written programs calls it before they are run.
func Settle() {
	starting.Lock()
	starting.Unlock() //nolint:staticcheck // to have had it is all
}

// outputs returns the writers for the program's two outputs. They are the same value where both go to one place, so that the program gets
// one pipe and its lines stay in order.
func outputs(c Cmd, kept *tail) (stdout, stderr io.Writer) {
	switch {
	case c.Stdout == nil && c.Stderr == nil:
		return kept, kept
	case c.Stdout == nil:
		both := io.MultiWriter(c.Stderr, kept)
		return kept, both
	case c.Stderr == nil:
		return c.Stdout, kept
	case sameWriter(c.Stdout, c.Stderr):
		both := io.MultiWriter(c.Stdout, kept)
		return both, both
	}
	return c.Stdout, io.MultiWriter(c.Stderr, kept)
}

// sameWriter compares two writers; types that can't be compared are different.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() {
		if recover() != nil {
			same = false
		}
	}()
	return a == b
}

// Output runs a program and returns what it printed to its standard output. c.Stdout must be nil.
func Output(ctx context.Context, c Cmd) ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	if err := Run(ctx, c); err != nil {
		var exit *ExitError
		if errors.As(err, &exit) && exit.Output == "" {
			t := &tail{}
			_, _ = t.Write(out.Bytes())
			exit.Output = c.hide(t.String())
		}
		return nil, err
	}
	return out.Bytes(), nil
}

// Find returns the path of a program. It looks in the folders of PATH and then in the system folders that an ordinary user's PATH
// lacks. The error is a [*MissingError].
func Find(name string) (string, error) {
	if strings.Contains(name, "/") {
		if executable(name) {
			return name, nil
		}
		return "", &MissingError{Program: name}
	}
	dirs := append(filepath.SplitList(os.Getenv("PATH")), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue // a program from the working directory is never meant
		}
		if path := filepath.Join(dir, name); executable(path) {
			return path, nil
		}
	}
	return "", &MissingError{Program: name}
}

// environment is that of this process with changes as in [Cmd].
func environment(changes []string) []string {
	env := append(os.Environ(), "LC_ALL=C.UTF-8")
	for _, change := range changes {
		if !strings.Contains(change, "=") {
			env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, change+"=") })
			continue
		}
		env = append(env, change)
	}
	return env
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// tail keeps the end of what is written to it, by both outputs at the same time if need be.
type tail struct {
	mu      sync.Mutex
	buf     []byte
	dropped bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*keptOutput {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-keptOutput:]...)
		t.dropped = true
	}
	return len(p), nil
}

// String returns the kept end without the broken first line, blanks trimmed and what is not UTF-8 replaced.
func (t *tail) String() string {
	buf := t.buf
	dropped := t.dropped
	if len(buf) > keptOutput {
		buf, dropped = buf[len(buf)-keptOutput:], true
	}
	if dropped {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 && i < len(buf)-1 {
			buf = buf[i+1:]
		}
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(buf)), "\uFFFD")
}
