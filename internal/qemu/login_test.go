package qemu

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// guest pretends to be a machine: a login on a console that shows what is typed, then a shell, and a login again when that ends.
func guest(t *testing.T, password string) *Machine {
	t.Helper()
	keyboard, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	m := &Machine{console: newConsole(nil), input: input, finished: make(chan struct{}), cancel: func(error) {}}
	typed := make(chan string)
	go func() {
		defer close(typed)
		for lines := bufio.NewReader(keyboard); ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			typed <- line
		}
	}()
	go func() {
		defer close(m.finished)
		defer m.console.end()
		io.WriteString(m.console, "Starting...\r\nDebian host ttyS0\r\n\r\n")
		for session(m.console, typed, password) {
		}
	}()
	t.Cleanup(func() {
		input.Close()
		<-m.finished
	})
	return m
}

// session is one login. It returns false when nobody types any more, or the password is wrong.
func session(c *console, typed <-chan string, password string) bool {
	io.WriteString(c, "host login: ")
	io.WriteString(c, strings.TrimSpace(<-typed)+"\r\nPassword: [   34.942914] kvm: the kernel speaks behind a prompt\r\n")
	if strings.TrimSpace(<-typed) != password {
		io.WriteString(c, "\r\n\r\nLogin incorrect\r\nhost login: ")
		return false
	}
	io.WriteString(c, "\r\nLinux host\r\nroot@host:~# [   35.000001] again\r\n")
	shell := exec.Command("sh")
	keys, err := shell.StdinPipe()
	if err != nil {
		return false
	}
	shell.Stdout, shell.Stderr = c, c
	done := make(chan error, 1)
	go func() { done <- shell.Run() }()
	for {
		select {
		case line, ok := <-typed:
			if !ok {
				keys.Close()
				<-done
				return false
			}
			io.WriteString(echo{c}, line)
			io.WriteString(keys, line)
		case <-done:
			return true
		}
	}
}

// echo shows what is typed the way a terminal does.
type echo struct{ c *console }

func (e echo) Write(p []byte) (int, error) {
	_, err := io.WriteString(e.c, strings.ReplaceAll(string(p), "\n", "\r\n"))
	return len(p), err
}

func TestLoginAndRun(t *testing.T) {
	m := guest(t, "linux")
	if err := m.Login(t.Context(), "root", "linux", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command, output string
		code            int
	}{
		{"echo one; echo two", "one\ntwo\n", 0},
		{"printf 'no newline'; (exit 3)", "no newline", 3},
		{"true", "", 0},
		{"echo 'imgbuild-9-end 0'", "imgbuild-9-end 0\n", 0},
		{"cat", "", 0}, // nobody types anything for it
		{"echo it''s \"so!\" # a comment", "its so!\n", 0},
		{"cat <<'E'\ntwo\nlines\nE", "two\nlines\n", 0},
		{"cd /etc; x=5", "", 0},
		{"pwd; echo $x", "/etc\n5\n", 0},
		{"echo 'unclosed", "", 2},
		{"echo last; exit 3", "last\n", 3}, // the shell has ended
		{"pwd; echo \"x=$x\"", "x=\n", 0},
		{"set -e; false; echo no", "", 1},
	} {
		output, code, err := m.Run(t.Context(), c.command, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		// The pretended terminal goes on showing what is typed, as one that does not obey stty would; it may do so among the output.
		if !strings.Contains(output, c.output) || code != c.code {
			t.Errorf("%s: output %q, exit code %d; want %q, %d", c.command, output, code, c.output, c.code)
		}
	}
	_, _, err := m.Run(t.Context(), "sleep 5", 200*time.Millisecond)
	var timeout *TimeoutError
	if !errors.As(err, &timeout) || !strings.Contains(err.Error(), "sleep 5") {
		t.Errorf("error is %v", err)
	}
}

func TestWrongPassword(t *testing.T) {
	m := guest(t, "secret")
	if err := m.Login(t.Context(), "root", "linux", 10*time.Second); err == nil || !strings.Contains(err.Error(), "incorrect") {
		t.Errorf("error is %v", err)
	}
}

func TestEscapeOption(t *testing.T) {
	if got := escapeOption("/a,b/c,,d"); got != "/a,,b/c,,,,d" {
		t.Errorf("got %q", got)
	}
}
