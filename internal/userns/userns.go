// Package userns lets an ordinary user's run of the program have root-like powers over its own files: the program starts itself again, once,
// as root of a user namespace of its own (user_namespaces(7)), in which the user's subordinate ids (subuid(5)) are the other users.
//
// Below [Enter] nothing has to ask who runs it.
package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
)

// ExitCode is what a program exits with when it can't run for an [Error]: something that is needed is missing on this machine.
const ExitCode = 4

// stageVar tells a started copy of the program how far it is: its value is stageWait until the id maps are written, then stageReady.
const (
	stageVar   = "_IMGBUILD_USERNS"
	stageWait  = "wait"
	stageReady = "ready"
)

// The names of the environment variables in which a copy finds who started it.
const (
	uidVar  = "IMGBUILD_UID"
	gidVar  = "IMGBUILD_GID"
	homeVar = "IMGBUILD_HOME"
)

// Error says why an ordinary user can't have a user namespace here, and what to do about it.
type Error struct {
	Text string
	Err  error // the cause, or nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// User is the user who started the program.
type User struct {
	UID, GID int
	Home     string // the home directory, "" if unknown
	Rootless bool   // an ordinary user, whose run is root of a user namespace only
}

// Real returns the user who started the program, inside and outside of the user namespace.
func Real() User {
	uid, err1 := strconv.Atoi(os.Getenv(uidVar))
	gid, err2 := strconv.Atoi(os.Getenv(gidVar))
	if err1 == nil && err2 == nil && os.Getuid() == 0 {
		return User{UID: uid, GID: gid, Home: os.Getenv(homeVar), Rootless: true}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	return User{UID: os.Getuid(), GID: os.Getgid(), Home: home, Rootless: os.Getuid() != 0}
}

// Enter gives an ordinary user's run a user namespace. It belongs at the very start of main. As root it does nothing.
// As an ordinary user it starts the program again inside, passes signals on, and exits with the exit code of that copy,
// in which Enter returns nil. The copy dies with its parent. If a user namespace can't be had, the error is an [*Error].
func Enter() error {
	stage := os.Getenv(stageVar)
	switch {
	case stage == stageWait:
		return waitForMaps()
	case stage == stageReady:
		return becomeRoot()
	case os.Getuid() == 0:
		return nil
	}
	code, err := runInside()
	if err != nil {
		return err
	}
	os.Exit(code)
	return nil
}

// MustEnter is [Enter] for the TestMain of packages that need root-like powers: it prints an error and exits with [ExitCode].
func MustEnter() {
	if err := Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(ExitCode)
	}
}

// runInside starts the copy, writes its id maps and waits for it. It returns the copy's exit code.
func runInside() (int, error) {
	maps, err := findMaps()
	if err != nil {
		return 0, err
	}
	ready, release, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("making a pipe: %w", err)
	}
	defer release.Close()
	home, _ := os.UserHomeDir() // "" says that it is unknown
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{ready}
	cmd.Env = append(os.Environ(),
		stageVar+"="+stageWait,
		uidVar+"="+strconv.Itoa(os.Getuid()), gidVar+"="+strconv.Itoa(os.Getgid()), homeVar+"="+home,
		// The same facts for podman's storage library and for podman's tools, so that they don't make a namespace of their own.
		"_CONTAINERS_USERNS_CONFIGURED=done",
		"_CONTAINERS_ROOTLESS_UID="+strconv.Itoa(os.Getuid()), "_CONTAINERS_ROOTLESS_GID="+strconv.Itoa(os.Getgid()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL}
	// The parent-death signal follows this thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := cmd.Start(); err != nil {
		return 0, &Error{Text: "making a user namespace" + Restriction(), Err: err}
	}
	ready.Close()
	if err := writeMaps(cmd.Process.Pid, maps); err != nil {
		_ = cmd.Process.Kill() // it is about to end by itself: its pipe closes
		_ = cmd.Wait()
		return 0, err
	}
	if _, err := release.Write([]byte{1}); err != nil {
		return 0, fmt.Errorf("starting again in a user namespace: %w", err)
	}
	go passOn(signals, cmd.Process)
	return exitCode(cmd.Wait())
}

// passOn hands signals to the copy. The terminal sends SIGINT and SIGQUIT to the copy by itself, since both are in its foreground process group.
func passOn(signals <-chan os.Signal, p *os.Process) {
	for s := range signals {
		if (s == syscall.SIGINT || s == syscall.SIGQUIT) && inForeground() {
			continue
		}
		_ = p.Signal(s) // it may have ended in this moment
	}
}

// inForeground reports whether this process is in the foreground process group of its controlling terminal.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// exitCode is what a shell would report: the exit code, or 128 and the signal's number.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 0, fmt.Errorf("waiting for the copy in the user namespace: %w", err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}

// waitForMaps is the copy's first stage. It runs without capabilities, because its user id was not mapped when it was executed; when the maps are
// there its id has become 0, and executing itself once more gives it the capabilities of the namespace's root.
func waitForMaps() error {
	pipe := os.NewFile(3, "user namespace start")
	_, err := io.ReadFull(pipe, make([]byte, 1))
	pipe.Close()
	if err != nil {
		os.Exit(ExitCode) // the parent has given up and says why
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, stageVar+"=") })
	if err := syscall.Exec("/proc/self/exe", os.Args, append(env, stageVar+"="+stageReady)); err != nil {
		return fmt.Errorf("starting again in the user namespace: %w", err)
	}
	return nil
}

// becomeRoot is the copy's second stage: it has every capability in its namespace.
func becomeRoot() error {
	if err := os.Unsetenv(stageVar); err != nil {
		return fmt.Errorf("clearing %s: %w", stageVar, err)
	}
	if os.Getuid() != 0 {
		return fmt.Errorf("%s is set in the environment, but this is no user namespace of the program: unset it", stageVar)
	}
	// Gaining capabilities by execve has cleared both (commit_creds in the kernel).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("asking to die with the parent process: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("getting access to /proc/self: %w", err)
	}
	return nil
}

// writeMaps lets newuidmap and newgidmap, which have the right to, write the id maps of a process.
func writeMaps(pid int, m idMaps) error {
	for _, one := range []struct {
		program string
		own     int
		ranges  []idRange
	}{{"newuidmap", os.Getuid(), m.uids}, {"newgidmap", os.Getgid(), m.gids}} {
		path, err := command.Find(one.program)
		if err != nil {
			return &Error{Text: "an ordinary user needs it to be root of a user namespace", Err: err}
		}
		args := []string{strconv.Itoa(pid), "0", strconv.Itoa(one.own), "1"}
		next := uint64(1)
		for _, r := range one.ranges {
			args = append(args, strconv.FormatUint(next, 10), strconv.FormatUint(r.first, 10), strconv.FormatUint(r.count, 10))
			next += r.count
		}
		out, err := exec.Command(path, args...).CombinedOutput()
		if err != nil {
			return &Error{Text: fmt.Sprintf("writing the id map of a user namespace: %s %s: %v: %s (is %s still setuid root?)",
				one.program, strings.Join(args, " "), err, strings.TrimSpace(string(out)), path)}
		}
	}
	return nil
}

// Restriction names the kernel setting that keeps user namespaces, or rights in them, from ordinary users, with the way out, or "" if there is none.
func Restriction() string {
	for _, setting := range []struct{ file, bad, fix string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns=0"},
		{"/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"},
	} {
		if data, err := os.ReadFile(setting.file); err == nil && strings.TrimSpace(string(data)) == setting.bad {
			return fmt.Sprintf(" (the kernel forbids it to ordinary users; as root: sysctl %s)", setting.fix)
		}
	}
	return ""
}

// userNames returns the names that the user may have in subuid(5): the login name and the number.
func userNames() []string {
	number := strconv.Itoa(os.Getuid())
	names := []string{}
	if u, err := user.LookupId(number); err == nil {
		names = append(names, u.Username)
	} else if name := os.Getenv("USER"); name != "" {
		names = append(names, name) // a network directory's user is not in /etc/passwd
	}
	return append(names, number)
}
