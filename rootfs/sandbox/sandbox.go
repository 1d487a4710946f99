// Package sandbox runs programs of a root tree inside of it, in a way that the host does not notice.
//
// A program runs in mount, pid, ipc and uts namespaces of its own, with the tree as its root directory. It has a private /proc, a /dev with
// the harmless devices only, a read-only /sys, and an empty /run and /tmp. All of it dies with the program, and the program with
// this process, even on kill -9: no mount and no process stays behind. No service starts, and no program waits for the disk: fsync and
// its kin are answered at once, because a tree under construction is worth nothing after a power cut anyway.
//
// The caller must have the rights of root: those of the machine, or those in a user namespace as package userns makes it.
// A program that uses this package calls [Init] at the very start of main.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/userns"
)

// Spec says what to run and what it finds inside.
type Spec struct {
	// Root is the directory that holds the root tree; "/" is this machine's own system.
	Root string
	// ReadOnlyRoot lets nothing inside change Root, nor what is mounted below it; Root "/" asks for it.
	ReadOnlyRoot bool
	// Target is another root tree that is to be changed from here, "" for none. It is writable as [TargetDir], where it has /proc, /dev, /sys, /run
	// and /tmp as Root has them, and the same files that are there for a while only, so that a program may chroot into it.
	Target string
	// Args is the program and its arguments. The program is looked for inside, in the folders of PATH.
	Args []string
	// Env is added to the environment, which is otherwise the same on every machine: see [Environment].
	Env []string
	// Dir is the working directory inside; "" is /.
	Dir string
	// Stdin is what the program reads; nil is /dev/null.
	Stdin io.Reader
	// Stdout and Stderr take the program's output, as in command.Cmd: where they are nil, the end of it is kept for the error.
	Stdout, Stderr io.Writer
	// Binds are the host's files and directories that are visible inside.
	Binds []Bind
	// Files are files that exist inside only, and only while the program runs. They lie in memory: below /run or /tmp.
	Files []File
	// NoNetwork cuts the program off from every network.
	NoNetwork bool
	// HostNames lets the program know the names of the host's /etc/hosts.
	HostNames bool
	// Redact are secrets that must not appear in an error.
	Redact []string
	// Emulator lets programs of another architecture run inside; nil is none.
	Emulator *Emulator
	// Terminal gives the program this process's terminal, in the place of Stdin, Stdout and Stderr: it is a shell for a person.
	Terminal bool
	// Title is what errors call the program; "" is its command line.
	Title string
	// Log is told what the kernel does not allow here; nil is nobody.
	Log *slog.Logger
}

// TargetDir is where programs find [Spec].Target.
const TargetDir = "/run/imgbuild/target"

// Bind shows one file or directory of the host inside.
type Bind struct {
	Source   string // absolute, on the host
	Target   string // absolute, inside; below /run or /tmp it leaves no trace, elsewhere it must exist
	ReadOnly bool
}

// File is a file that exists inside only.
type File struct {
	Path string // absolute, below /run or /tmp, or below these in TargetDir
	Data []byte
	Perm uint32 // permission bits
}

// marker is the environment variable that makes a copy of the program the first process of a sandbox.
const marker = "_IMGBUILD_SANDBOX"

// The file descriptors of that first process: where it reads its order, where it reports to, and the terminal, if the program gets it.
const (
	orderFD    = 3
	reportFD   = 4
	terminalFD = 5
)

// order is what the first process is told.
type order struct {
	Root, Dir string
	ReadOnly  bool   // of Root
	Target    string // absolute, "" for none
	Terminal  bool
	Emulator  *Emulator
	Args, Env []string
	Binds     []Bind
	Files     []File
	Names     map[string][]byte // contents for /etc/resolv.conf and /etc/hosts by name
}

// report is what the first process says at its end.
type report struct {
	Error  string   // why nothing was run; "" if something was
	Notes  []string // what the kernel does not allow here
	Code   int      // the program's exit code
	Signal string   // what ended the program, or ""
}

// Run runs a program until it ends. A failure of the program is a *[command.ExitError]; any other error says what kept it from running.
// When ctx ends, every process inside is killed at once.
func Run(ctx context.Context, spec Spec) error {
	o, err := prepare(spec)
	if err != nil {
		return fmt.Errorf("preparing a sandbox in %s: %w", spec.Root, err)
	}
	orderRead, orderWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer orderRead.Close()
	// This end stays open for as long as the sandbox may live: its end of file is the sandbox's end too.
	defer orderWrite.Close()
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	defer reportRead.Close()
	go func() {
		_ = json.NewEncoder(orderWrite).Encode(o) // a process that could not be started reads nothing; its own error tells
	}()
	reports := make(chan report, 1)
	go func() {
		var r report
		if err := json.NewDecoder(reportRead).Decode(&r); err != nil {
			r = report{Code: -1} // it was killed
		}
		reports <- r
	}()
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS)
	if spec.NoNetwork {
		flags |= unix.CLONE_NEWNET
	}
	inner := command.Cmd{Name: spec.Args[0], Args: spec.Args[1:]}
	title := spec.Title
	if title == "" {
		title = inner.Line() + " in " + spec.Root
	}
	cmd := command.Cmd{
		Name: "/proc/self/exe", Title: title, Env: []string{marker + "=1"}, Redact: spec.Redact,
		Stdin: spec.Stdin, Stdout: spec.Stdout, Stderr: spec.Stderr, Files: []*os.File{orderRead, reportWrite},
		Attr: &syscall.SysProcAttr{Cloneflags: flags, Setsid: !spec.Terminal},
	}
	if spec.Emulator != nil {
		if err := ownUserNamespace(cmd.Attr); err != nil {
			return fmt.Errorf("preparing a sandbox in %s: %w", spec.Root, err)
		}
	}
	command.Settle() // what this process has written may be run
	if spec.Terminal {
		err = withTerminal(ctx, cmd)
	} else {
		err = command.Run(ctx, cmd)
	}
	reportWrite.Close()
	return judge(err, <-reports, spec)
}

// judge puts the end of the first process and its report together.
func judge(err error, r report, spec Spec) error {
	log := spec.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, note := range r.Notes {
		log.Debug("sandbox", "root", spec.Root, "note", note)
	}
	if text, ok := strings.CutPrefix(r.Error, registrationFailed); ok {
		return fmt.Errorf("preparing a sandbox in %s: %w: %s", spec.Root, ErrNoRegistration, text)
	}
	if r.Error != "" {
		return fmt.Errorf("preparing a sandbox in %s: %s%s", spec.Root, r.Error, hint(r.Error))
	}
	var exit *command.ExitError
	if errors.As(err, &exit) && r.Signal != "" {
		exit.Code, exit.Signal = -1, r.Signal
	}
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w (namespaces need root, or an ordinary user with subordinate ids; in a container they need --privileged)", err)
	}
	return err
}

// hint says what may keep a sandbox from being made here.
func hint(text string) string {
	switch {
	case strings.Contains(text, unix.ENOSYS.Error()):
		return " (sandboxes need Linux 5.12 or newer)"
	case strings.Contains(text, unix.EPERM.Error()) || strings.Contains(text, unix.EACCES.Error()):
		return userns.Restriction()
	}
	return ""
}

// prepare checks the request and reads what the sandbox needs of the host.
func prepare(spec Spec) (order, error) {
	if len(spec.Args) == 0 {
		return order{}, errors.New("no program is given")
	}
	root, err := treeDir(spec.Root)
	if err != nil {
		return order{}, err
	}
	o := order{
		Root: root, ReadOnly: spec.ReadOnlyRoot, Dir: spec.Dir, Args: spec.Args, Binds: spec.Binds, Files: spec.Files, Terminal: spec.Terminal,
		Emulator: spec.Emulator,
		Env:      Environment(!spec.NoNetwork),
	}
	if root == "/" && !o.ReadOnly {
		return order{}, errors.New("this machine's own root directory is shown to programs read-only or not at all")
	}
	if spec.Target != "" {
		if o.Target, err = treeDir(spec.Target); err != nil {
			return order{}, err
		}
	}
	if spec.Terminal {
		o.Env = append(o.Env, "TERM="+os.Getenv("TERM"))
	}
	if o.Dir == "" {
		o.Dir = "/"
	}
	o.Env = lastCounts(append(o.Env, spec.Env...))
	for _, f := range spec.Files {
		if !inMemory(f.Path) {
			return order{}, fmt.Errorf("file %s would stay in the root tree: only /run and /tmp are in memory, and those of the target", f.Path)
		}
	}
	if spec.NoNetwork {
		return o, nil
	}
	o.Names = map[string][]byte{}
	names := []string{"resolv.conf"}
	if spec.HostNames {
		names = append(names, "hosts")
	}
	for _, name := range names {
		data, err := os.ReadFile("/etc/" + name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return order{}, err
		}
		if err == nil {
			o.Names[name] = data
		}
	}
	return o, nil
}

// treeDir returns the absolute path of a directory that programs can run in.
func treeDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	if st.Flags&unix.ST_NOEXEC != 0 {
		return "", fmt.Errorf("%s lies on a file system that is mounted noexec; choose another working directory", dir)
	}
	return dir, nil
}

// lastCounts returns an environment in which each name is set once, to what the last one says. Of two, programs would take one or the other.
func lastCounts(env []string) []string {
	name := func(setting string) string {
		name, _, _ := strings.Cut(setting, "=")
		return name
	}
	var all []string
	for i, setting := range env {
		if !slices.ContainsFunc(env[i+1:], func(later string) bool { return name(later) == name(setting) }) {
			all = append(all, setting)
		}
	}
	return all
}

// inTarget returns the path in the target of a path inside, and whether it is there.
func inTarget(path string) (string, bool) {
	rest, ok := strings.CutPrefix(filepath.Clean(path), TargetDir+"/")
	return "/" + rest, ok
}

// inMemory reports whether a path inside is on one of the sandbox's own file systems.
func inMemory(path string) bool {
	path = filepath.Clean(path)
	if rest, ok := inTarget(path); ok {
		path = rest
	}
	return strings.HasPrefix(path, "/run/") || strings.HasPrefix(path, "/tmp/")
}

// binDir holds, inside, the stand-ins for programs that would start services. It comes first in PATH.
const binDir = "/run/imgbuild/bin"

// Path is where programs in a sandbox find others (PATH), the stand-ins first.
const Path = binDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment returns the environment that every program in a sandbox gets. It has nothing of the host but, with a network, its proxies.
func Environment(network bool) []string {
	env := []string{
		"PATH=" + Path,
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=dumb", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true", "DEBIAN_PRIORITY=critical",
		"SYSTEMD_OFFLINE=1",
	}
	if !network {
		return env
	}
	for _, name := range []string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"} {
		for _, name := range []string{name, strings.ToUpper(name)} {
			if value := os.Getenv(name); value != "" {
				env = append(env, name+"="+value)
			}
		}
	}
	return env
}
