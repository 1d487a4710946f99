package helperkernel

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
)

// umlMachine is user-mode Linux: a Linux kernel that is a program (kernel documentation, virt/uml/user_mode_linux_howto_v2). This machine's files are its
// root, read-only.
type umlMachine struct {
	program string
	setpriv string // the first process: it turns setuid bits off, see run
}

func findUML() (machine, error) {
	path, err := command.Find("linux.uml")
	if err != nil {
		return nil, err
	}
	setpriv, err := command.Find("setpriv")
	if err != nil {
		return nil, err
	}
	if _, err := command.Find("unshare"); err != nil {
		return nil, err
	}
	return &umlMachine{path, setpriv}, nil
}

func (m *umlMachine) kind() Kind       { return UML }
func (m *umlMachine) describe() string { return m.program }

func (m *umlMachine) device(n int) string { return "/dev/ubd" + string(rune('a'+n)) }

// partition returns the device of a disk that is a part of a file: a disk of user-mode Linux is always a whole file.
func (m *umlMachine) partition(device string, d Disk) string {
	if wholeFile(d) {
		return device
	}
	return device + "1"
}

func wholeFile(d Disk) bool {
	if d.Offset != 0 || d.Size == 0 {
		return d.Offset == 0
	}
	info, err := d.File.Stat()
	return err == nil && info.Size() == d.Size
}

// umlModules is the directory of the modules of Debian's package user-mode-linux, one directory for each version.
const umlModules = "/usr/lib/uml/modules"

func (m *umlMachine) prepare(s *Spec, disks []Disk) string {
	var b strings.Builder
	if len(s.Modules) > 0 {
		fmt.Fprintf(&b, `version=$(uname -r)
mkdir -p /tmp/.modules/lib/modules
ln -s %s/$version /tmp/.modules/lib/modules/$version
printf '#!/bin/sh\nexec modprobe -d /tmp/.modules "$@"\n' >/tmp/.modprobe
chmod +x /tmp/.modprobe
echo /tmp/.modprobe >/proc/sys/kernel/modprobe
`, umlModules)
		for _, name := range s.Modules {
			fmt.Fprintf(&b, "modprobe -q -d /tmp/.modules %s || true\n", name)
		}
	}
	for i, d := range disks {
		if wholeFile(d) {
			continue
		}
		size := d.Size
		if size == 0 {
			if info, err := d.File.Stat(); err == nil {
				size = info.Size() - d.Offset
			}
		}
		device := m.device(firstDisk + i)
		// Partitions that the kernel has found by itself may lie across.
		fmt.Fprintf(&b, "partx -d %s >/dev/null 2>&1 || true\naddpart %s 1 %d %d\n", device, device, d.Offset/512, size/512)
	}
	return b.String()
}

func (m *umlMachine) run(ctx context.Context, s *Spec, disks []Disk) (string, error) {
	args := []string{
		fmt.Sprintf("mem=%dM", s.Memory), "root=/dev/root", "rootfstype=hostfs", "ro", "init=" + m.setpriv,
		"con=null", "con0=null,fd:1", "con1=null,fd:1", "quiet", "panic=1",
	}
	var files []*os.File
	for i, d := range disks {
		flag := ""
		if d.ReadOnly {
			flag = "r"
		}
		args = append(args, fmt.Sprintf("ubd%d%s=/proc/self/fd/%d", i, flag, 3+i))
		files = append(files, d.File)
	}
	// In a user namespace this machine's root is nobody, to whom a setuid program like mount would switch.
	args = append(args, "--", "--no-new-privs", "/bin/sh", m.device(scriptDisk))
	var console bytes.Buffer
	cmd := command.Cmd{Name: m.program, Args: args, Env: umlEnvironment()}
	if apart(ctx) {
		cmd = command.Cmd{Name: "unshare", Args: slices.Concat(apartArgs(), []string{mountApart + `"$@"; exit $?`, "sh", m.program, "uml_dir=" + apartDir + "/"}, args),
			Env: []string{"TMPDIR=" + apartDir}}
	}
	cmd.Files, cmd.Stdout, cmd.Stderr = files, &console, &console
	err := command.Run(ctx, cmd)
	return console.String(), err
}

// User-mode Linux has threads that outlive it when it is killed, and leaves a directory behind. So it runs in namespaces of its own: all processes of
// a pid namespace end with its first one, which is the shell, and a private tmpfs, which nobody else sees, takes its files and its memory.
const (
	apartDir   = "/sys" // any directory that every machine has and user-mode Linux needs nothing from
	mountApart = "mount -t tmpfs -o mode=0700 uml " + apartDir + " || exit 125; "
)

func apartArgs() []string {
	return []string{"--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c"}
}

// apart reports whether this process may make such namespaces, as root of a machine or of a user namespace may.
func apart(ctx context.Context) bool {
	return os.Geteuid() == 0 && command.Run(ctx, command.Cmd{Name: "unshare", Args: append(apartArgs(), mountApart+"exit 0")}) == nil
}

// umlEnvironment makes user-mode Linux keep its memory in a file system in memory, which must allow programs to run, where it has no
// namespace of its own.
func umlEnvironment() []string {
	const shm = "/dev/shm"
	var fs unix.Statfs_t
	if err := unix.Statfs(shm, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Flags&unix.ST_NOEXEC != 0 || unix.Access(shm, unix.W_OK) != nil {
		return nil
	}
	return []string{"TMPDIR=" + shm}
}

// lastLines returns the end of what a console printed, or what came before the kernel's panic: its register dump helps nobody.
func lastLines(console string) string {
	const kept = 1500
	text := strings.ToValidUTF8(strings.ReplaceAll(console, "\r", ""), "?")
	if at := strings.Index(text, "Kernel panic"); at >= 0 {
		line, _, _ := strings.Cut(text[at:], "\n")
		text = text[:at] + line
	}
	text = strings.TrimSpace(text)
	if len(text) > kept {
		text = text[len(text)-kept:]
	}
	return text
}
