package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// firstOutput calls stop at the first byte it gets.
type firstOutput struct {
	seen atomic.Bool
	stop func()
}

func (f *firstOutput) Write(p []byte) (int, error) {
	if len(p) > 0 {
		f.seen.Store(true)
		f.stop()
	}
	return len(p), nil
}

// console keeps what the machine prints.
type console struct {
	copy io.Writer

	mu      sync.Mutex
	text    []byte
	read    int // what Expect has gone past
	changed chan struct{}
	ended   bool
}

func newConsole(w io.Writer) *console {
	if w == nil {
		w = io.Discard
	}
	return &console{copy: w, changed: make(chan struct{})}
}

// Write implements io.Writer for QEMU's output.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.text = append(c.text, p...)
	c.wake()
	c.mu.Unlock()
	_, _ = c.copy.Write(p) // a reader who went away must not stop the machine
	return len(p), nil
}

func (c *console) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *console) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.wake()
}

// ErrEnded says that the machine was switched off, or died.
var ErrEnded = errors.New("the virtual machine has ended")

// ErrLogin says that the machine knows the user not, or by another password.
var ErrLogin = errors.New("the machine does not take the password")

// TimeoutError says that the machine did not print what was waited for.
type TimeoutError struct {
	What    string // was waited for
	After   time.Duration
	Console string // the end of what it printed
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("waiting for %s: it did not come in %v; the last lines on the console were:\n%s", e.What, e.After, e.Console)
}

// Expect waits until pattern matches what the machine has printed since the last match, and returns the match and its groups.
func (m *Machine) Expect(ctx context.Context, pattern *regexp.Regexp, timeout time.Duration) ([]string, error) {
	return m.expect(ctx, pattern, strconv.Quote(pattern.String()), timeout)
}

// expect does it for something that people know by another name.
func (m *Machine) expect(ctx context.Context, pattern *regexp.Regexp, what string, timeout time.Duration) ([]string, error) {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	c := m.console
	for {
		c.mu.Lock()
		found := pattern.FindSubmatchIndex(c.text[c.read:])
		if found != nil {
			groups := make([]string, len(found)/2)
			for i := range groups {
				if found[2*i] >= 0 {
					groups[i] = string(c.text[c.read+found[2*i] : c.read+found[2*i+1]])
				}
			}
			c.read += found[1]
			c.mu.Unlock()
			return groups, nil
		}
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		if ended {
			return nil, fmt.Errorf("waiting for %s: %w; the last lines on the console were:\n%s", what, m.endError(), m.lastLines())
		}
		select {
		case <-changed:
		case <-timer.C:
			return nil, &TimeoutError{what, timeout, m.lastLines()}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (m *Machine) endError() error {
	<-m.finished
	if m.err != nil {
		return fmt.Errorf("%w: %w", ErrEnded, m.err)
	}
	return ErrEnded
}

// ExpectText waits for exactly this text.
func (m *Machine) ExpectText(ctx context.Context, text string, timeout time.Duration) error {
	_, err := m.expect(ctx, regexp.MustCompile(regexp.QuoteMeta(text)), strconv.Quote(text), timeout)
	return err
}

// Console returns everything the machine has printed so far.
func (m *Machine) Console() string {
	m.console.mu.Lock()
	defer m.console.mu.Unlock()
	return string(m.console.text)
}

func (m *Machine) lastLines() string {
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(m.Console(), "\r", "")), "\n")
	return strings.Join(lines[max(len(lines)-25, 0):], "\n")
}

// Send types text into the machine.
func (m *Machine) Send(text string) error {
	if _, err := m.input.WriteString(text); err != nil {
		return fmt.Errorf("typing into the virtual machine: %w", err)
	}
	return nil
}

// send is [Machine.Send] to a machine that may not read what is typed.
func (m *Machine) send(text string, timeout time.Duration) error {
	if err := m.input.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("typing into the virtual machine: %w", err)
	}
	err := m.Send(text)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &TimeoutError{"the machine to read what is typed", timeout, m.lastLines()}
	}
	return errors.Join(err, m.input.SetWriteDeadline(time.Time{}))
}

// Login waits up to timeout for the login prompt, logs in and makes the shell quiet, so that [Machine.Run] works.
func (m *Machine) Login(ctx context.Context, user, password string, timeout time.Duration) error {
	const (
		step = 3 * time.Minute        // of a machine that is emulated on a slow one
		end  = `($|\[ *\d+\.\d{6}\])` // the kernel may say something right behind a prompt
	)
	if _, err := m.expect(ctx, regexp.MustCompile(`login: ?`+end), `"login:"`, timeout); err != nil {
		return fmt.Errorf("logging in as %s: %w", user, err)
	}
	if err := m.send(user+"\n", step); err != nil {
		return err
	}
	prompt := `[#$%>] (\x1b\[[0-9;?]*[a-zA-Z])*` + end
	answer, err := m.expect(ctx, regexp.MustCompile(`(Password: ?)`+end+`|`+prompt), `"Password:" or a shell's prompt`, step)
	if err != nil {
		return fmt.Errorf("logging in as %s: %w", user, err)
	}
	if answer[1] != "" {
		if err := m.send(password+"\n", step); err != nil {
			return err
		}
		if answer, err = m.expect(ctx, regexp.MustCompile(`([Ll]ogin incorrect)|`+prompt), "a shell's prompt", step); err != nil {
			return fmt.Errorf("logging in as %s: %w", user, err)
		}
		if answer[1] != "" {
			return fmt.Errorf("logging in as %s: %w: it says %q", user, ErrLogin, answer[1])
		}
	}
	m.loggedIn, m.user, m.password = true, user, password
	if err := m.send(quietShell, step); err != nil {
		return err
	}
	_, _, err = m.Run(ctx, "true", step)
	return err
}

// quietShell makes a shell neither show what is typed nor change it, and say its exit code when it ends.
const quietShell = `stty -echo; [ -z "$BASH_VERSION" ] || { set +H; bind 'set enable-bracketed-paste off'; bind 'set disable-completion on'; } 2>/dev/null; PS1=; PS2=; trap 'echo imgbuild-exit $?' EXIT` + "\n"

// Run runs a shell command in the machine, with nothing to read, and returns what it printed, both outputs together, and its exit code. What it sets, such as the directory, holds for
// the next one, unless it ends the shell: then the next one logs in again. Login comes first.
func (m *Machine) Run(ctx context.Context, cmd string, timeout time.Duration) (output string, code int, err error) {
	failed := func(err error) error { return fmt.Errorf("running %q in the virtual machine: %w", cmd, err) }
	if !m.loggedIn {
		if m.user == "" {
			return "", 0, failed(errors.New("nobody is logged in"))
		}
		if err := m.Login(ctx, m.user, m.password, timeout); err != nil {
			return "", 0, failed(err)
		}
	}
	m.commands++
	// The quotes keep the words apart where the terminal shows what was typed.
	mark := "imgbuild-" + strconv.Itoa(m.commands)
	quoted := "'" + strings.ReplaceAll(cmd, "'", `'\''`) + "'"
	if err := m.send(fmt.Sprintf("echo %s''-begin; eval %s </dev/null\necho %s''-end $?\n", mark, quoted, mark), timeout); err != nil {
		return "", 0, failed(err)
	}
	pattern := regexp.MustCompile(`(?s)` + mark + `-begin\r*\n(.*?)(` + mark + `-end|imgbuild-exit) (\d+)`)
	answer, err := m.expect(ctx, pattern, "its end", timeout)
	if err != nil {
		return "", 0, failed(err)
	}
	output = strings.ReplaceAll(answer[1], "\r", "")
	if answer[2] == "imgbuild-exit" {
		m.loggedIn, output = false, strings.TrimSuffix(output, "logout\n")
	}
	code, err = strconv.Atoi(answer[3])
	return output, code, err
}

// Shutdown asks the system in the machine to switch it off and waits until it has. Login comes first.
func (m *Machine) Shutdown(ctx context.Context, timeout time.Duration) error {
	if !m.loggedIn {
		return errors.New("shutting the virtual machine down: nobody is logged in")
	}
	if err := m.Send("poweroff\n"); err != nil {
		return err
	}
	if err := m.Wait(ctx, timeout); err != nil {
		return fmt.Errorf("shutting the virtual machine down: %w", err)
	}
	return nil
}

// Wait waits until the machine has ended, and returns QEMU's error if it failed.
func (m *Machine) Wait(ctx context.Context, timeout time.Duration) error {
	select {
	case <-m.finished:
		return m.err
	case <-time.After(timeout):
		return &TimeoutError{"the end of the machine", timeout, m.lastLines()}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errClosed is why QEMU is killed by Close.
var errClosed = errors.New("closed")

// Close switches the machine off at once and removes its files.
func (m *Machine) Close() error {
	m.cancel(errClosed)
	<-m.finished
	m.input.Close()
	if err := os.RemoveAll(m.workdir); err != nil {
		return fmt.Errorf("removing the virtual machine's files: %w", err)
	}
	return nil
}
