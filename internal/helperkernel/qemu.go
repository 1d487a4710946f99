package helperkernel

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/internal/command"
)

// qemuMachine is a virtual machine without hardware acceleration: it needs no rights, and works inside other virtual machines too.
type qemuMachine struct {
	program string
	target  qemuTarget
	kernel  Kernel
}

// qemuTarget is what differs between architectures.
type qemuTarget struct {
	program string
	args    []string
	console string
}

func qemuTargetOf(arch string) (qemuTarget, bool) {
	targets := map[string]qemuTarget{
		"amd64": {"qemu-system-x86_64", []string{"-machine", "q35"}, "ttyS0"},
		"arm64": {"qemu-system-aarch64", []string{"-machine", "virt"}, "ttyAMA0"},
	}
	t, ok := targets[arch]
	return t, ok
}

// findQEMU finds the virtual machine and a kernel for it: the first of those given, or else the newest of this machine.
func findQEMU(kernels []Kernel) (machine, error) {
	target, ok := qemuTargetOf(runtime.GOARCH)
	if !ok {
		return nil, fmt.Errorf("QEMU is not supported on %s", runtime.GOARCH)
	}
	program, err := command.Find(target.program)
	if err != nil {
		return nil, err
	}
	if len(kernels) == 0 {
		kernels = KernelsOf(os.DirFS("/"))
	}
	if len(kernels) == 0 {
		return nil, errors.New("QEMU finds no kernel with modules in /boot and /lib/modules; install one (such as linux-image-cloud-amd64)")
	}
	return &qemuMachine{program, target, kernels[0]}, nil
}

// KernelsOf returns the kernels of a root tree that QEMU can start on this machine and that have modules, the one whose name sorts last
// first.
func KernelsOf(fsys fs.FS) []Kernel {
	images, err := fs.Glob(fsys, "boot/vmlinu[xz]-*")
	if err != nil {
		return nil // the pattern is fine, so this does not happen
	}
	var kernels []Kernel
	for _, image := range images {
		_, version, _ := strings.Cut(path.Base(image), "-")
		for _, dir := range []string{"lib/modules/" + version, "usr/lib/modules/" + version} {
			if _, err := fs.Stat(fsys, dir+"/modules.dep"); err == nil && startable(fsys, image) {
				kernels = append(kernels, Kernel{FS: fsys, Image: image, Modules: dir})
				break
			}
		}
	}
	slices.Reverse(kernels)
	return kernels
}

// startable reports whether a kernel can be read and is for this machine's architecture.
func startable(fsys fs.FS, image string) bool {
	f, err := fsys.Open(image)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, 0x206)
	if _, err := io.ReadFull(f, start); err != nil {
		return false
	}
	// A kernel for x86 has this mark in its header (kernel documentation, arch/x86/boot).
	x86 := string(start[0x202:0x206]) == "HdrS"
	return x86 == (runtime.GOARCH == "amd64")
}

func (m *qemuMachine) kind() Kind       { return QEMU }
func (m *qemuMachine) describe() string { return m.program + " with /" + m.kernel.Image }

func (m *qemuMachine) device(n int) string { return "/dev/vd" + string(rune('a'+n)) }

func (m *qemuMachine) prepare(s *Spec, _ []Disk) string {
	var b strings.Builder
	for _, name := range s.Modules {
		fmt.Fprintf(&b, "modprobe -q %s || true\n", name)
	}
	return b.String()
}

// virtualDrivers are the modules that a virtual machine needs to see its disks.
func virtualDrivers() []string { return []string{"virtio_pci", "virtio_blk"} }

func (m *qemuMachine) run(ctx context.Context, s *Spec, disks []Disk) (string, error) {
	image, err := fs.ReadFile(m.kernel.FS, m.kernel.Image)
	if err != nil {
		return "", fmt.Errorf("reading the kernel: %w", err)
	}
	kernel, err := memoryDisk("kernel", image, 0)
	if err != nil {
		return "", err
	}
	defer kernel.Close()
	initrd, err := memoryDisk("initrd", nil, 0)
	if err != nil {
		return "", err
	}
	defer initrd.Close()
	if err := m.writeInitrd(initrd, s); err != nil {
		return "", err
	}
	files := []*os.File{kernel, initrd}
	args := slices.Concat(m.target.args, []string{
		"-accel", "tcg,thread=multi", "-cpu", "max", "-m", fmt.Sprint(s.Memory), "-nodefaults", "-no-user-config", "-no-reboot",
		"-display", "none", "-serial", "stdio",
		"-kernel", "/proc/self/fd/3", "-initrd", "/proc/self/fd/4",
		"-append", "console=" + m.target.console + " quiet panic=-1",
	})
	for i, d := range disks {
		drive, err := driveOptions(i, 3+len(files), d)
		if err != nil {
			return "", err
		}
		args = append(args, "-blockdev", drive, "-device", fmt.Sprintf("virtio-blk-pci,drive=disk%d,werror=report,rerror=report", i))
		files = append(files, d.File)
	}
	var console bytes.Buffer
	err = command.Run(ctx, command.Cmd{Name: m.program, Args: args, Files: files, Stdout: &console, Stderr: &console})
	return console.String(), err
}

// driveOptions describes a disk that is an open file, as QEMU's option -blockdev takes it. What the guest syncs is not synced here:
// a disk that is left half-done is of no use in any case.
func driveOptions(number, fd int, d Disk) (string, error) {
	options := map[string]any{
		"driver": "raw", "node-name": fmt.Sprintf("disk%d", number), "discard": "unmap", "read-only": d.ReadOnly,
		"cache": map[string]any{"no-flush": true},
		"file": map[string]any{
			"driver": "file", "filename": fmt.Sprintf("/proc/self/fd/%d", fd), "locking": "off", "discard": "unmap",
			"read-only": d.ReadOnly, "cache": map[string]any{"no-flush": true},
		},
	}
	if d.Offset != 0 || d.Size != 0 {
		size := d.Size
		if size == 0 {
			info, err := d.File.Stat()
			if err != nil {
				return "", err
			}
			size = (info.Size() - d.Offset) / 512 * 512
		}
		options["offset"], options["size"] = d.Offset, size
	}
	text, err := json.Marshal(options)
	return string(text), err
}

// writeInitrd writes an initial RAM disk with the programs that the script uses, the drivers, and a first process that runs the script
// from the first disk.
func (m *qemuMachine) writeInitrd(f *os.File, s *Spec) error {
	buffer := bufio.NewWriterSize(f, 1<<20)
	out := newInitrd(buffer)
	out.addDevice("dev/console", unix.S_IFCHR|0o600, nil, 5, 1)
	out.addDevice("dev/null", unix.S_IFCHR|0o666, nil, 1, 3)
	for _, dir := range []string{"proc", "sys", "tmp", "run", "mnt", "etc"} {
		out.add(dir, unix.S_IFDIR|0o755, nil)
	}
	c := &closure{out: out, libs: map[string]bool{}}
	if err := c.file("/bin/sh", "/bin/sh"); err != nil {
		return err
	}
	for _, name := range append([]string{"sh", "mount", "modprobe", "tail", "sync", "sleep", "mkdir"}, s.Programs...) {
		if err := c.program(name); err != nil {
			return err
		}
	}
	// The kernel itself calls this path when it wants a module.
	if path, err := command.Find("modprobe"); err == nil {
		if err := c.file(path, "/sbin/modprobe"); err != nil {
			return err
		}
	}
	out.add("init", 0o100755, []byte(`#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH=`+strings.Join(c.dirs, ":")+`
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in `+strings.Join(virtualDrivers(), " ")+`; do modprobe -q $module; done
exec sh `+m.device(scriptDisk)+`
`))
	modules, err := readModules(m.kernel.FS, m.kernel.Modules)
	if err != nil {
		return err
	}
	if err := modules.add(out, append(virtualDrivers(), s.Modules...)); err != nil {
		return err
	}
	if err := out.close(); err != nil {
		return err
	}
	return buffer.Flush()
}
