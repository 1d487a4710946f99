package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// exitDead is the exit code of a first process whose parent is gone; nobody is left to read it.
const exitDead = 137

// Init turns a copy of the program that [Run] has started into the first process of a sandbox, and does not return in it. In any other
// process it does nothing. It belongs at the very start of main, and of TestMain in tests that run sandboxes.
func Init() {
	if os.Getenv(marker) == "" || os.Getpid() != 1 {
		return
	}
	unix.CloseOnExec(orderFD)
	unix.CloseOnExec(reportFD)
	unix.CloseOnExec(terminalFD) // nothing happens where there is none
	r := first(os.NewFile(orderFD, "order"))
	if err := json.NewEncoder(os.NewFile(reportFD, "report")).Encode(r); err != nil {
		os.Exit(exitDead)
	}
	switch {
	case r.Error != "":
		os.Exit(1)
	case r.Signal != "":
		os.Exit(exitDead)
	}
	os.Exit(r.Code)
}

// first is the life of the first process: it makes the sandbox, runs the program, buries orphans, and tidies up.
func first(orders *os.File) report {
	var o order
	decoder := json.NewDecoder(orders)
	if err := decoder.Decode(&o); err != nil {
		return report{Error: fmt.Sprintf("reading the order: %v", err)}
	}
	go func() {
		// The other end closes when the parent ends in whatever way. The parent-death signal says the same, but it is lost if the parent
		// dies before this process could ask for it.
		_, _ = io.Copy(io.Discard, io.MultiReader(decoder.Buffered(), orders))
		os.Exit(exitDead)
	}()
	s := &setup{order: o}
	if err := s.enter(); err != nil {
		return report{Error: err.Error(), Notes: s.notes}
	}
	// The capabilities that are dropped now are those of this thread, and it is this thread that starts the program.
	runtime.LockOSThread()
	if err := dropCapabilities(); err != nil {
		return report{Error: err.Error(), Notes: s.notes}
	}
	r, err := runProgram(o)
	if tidyErr := s.tidy(); err == nil {
		err = tidyErr
	}
	if err != nil {
		r = report{Error: err.Error()}
	}
	r.Notes = s.notes
	return r
}

// runProgram starts the program and waits until it ends. What it leaves running is killed by the kernel when this process exits.
func runProgram(o order) (report, error) {
	if err := os.Chdir(o.Dir); err != nil {
		return report{}, fmt.Errorf("entering the working directory: %w", err)
	}
	path, err := lookPath(o.Args[0], o.Env)
	if err != nil {
		return report{}, err
	}
	unix.Umask(0o022)
	attr := &syscall.ProcAttr{Env: o.Env, Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setsid: true}}
	if o.Terminal {
		// It stays in the session of the terminal, with a process group of its own in its foreground.
		attr.Files, attr.Sys = []uintptr{terminalFD, terminalFD, terminalFD}, &syscall.SysProcAttr{Foreground: true, Ctty: terminalFD}
		signal.Ignore(syscall.SIGTTOU)
	}
	pid, err := startWhenReady(path, o.Args, attr)
	if err != nil {
		return report{}, explainExec(path, err)
	}
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return report{}, fmt.Errorf("waiting for %s: %w", path, err)
		case got != pid: // an orphan
			continue
		case status.Signaled():
			return report{Code: 128 + int(status.Signal()), Signal: status.Signal().String()}, nil
		case status.Exited():
			return report{Code: status.ExitStatus()}, nil
		}
	}
}

// startWhenReady starts a program that others may have open for writing for a moment: a process that was forked when it was written, and is about to become
// another program.
func startWhenReady(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	const most = 10 * time.Second
	for wait := time.Millisecond; ; wait *= 2 {
		if pid, err = syscall.ForkExec(path, args, attr); !errors.Is(err, unix.ETXTBSY) || wait > most {
			return pid, err
		}
		time.Sleep(wait)
	}
}

// lookPath finds a program inside.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := ""
	for _, v := range env {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("the root tree has no program %s", name)
}

// explainExec adds the usual reason to an error of execve(2).
func explainExec(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, unix.ENOEXEC):
		hint = fmt.Sprintf(" (is the root tree of another architecture than this machine's %s? then it needs qemu-user with binfmt_misc)", runtime.GOARCH)
	case errors.Is(err, unix.ENOENT):
		hint = " (the file, or the interpreter that it names, is missing in the root tree)"
	}
	return fmt.Errorf("starting %s: %w%s", path, err, hint)
}
