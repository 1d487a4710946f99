// Package qemu boots a disk in a virtual machine and talks to it over the serial console: it waits for text, logs in, runs commands.
//
// The machine dies with this process and with its context. Disks are opened as snapshots: what the machine writes is lost.
package qemu

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/internal/command"
)

// Firmware is what starts the machine.
type Firmware string

// The kinds of firmware.
const (
	BIOS       Firmware = "bios"       // SeaBIOS
	UEFI       Firmware = "uefi"       // OVMF, or AAVMF on arm64
	SecureBoot Firmware = "secureboot" // OVMF with Microsoft's keys, refusing what is not signed
)

// Disk is a disk of the machine.
type Disk struct {
	File     string
	Format   string // as qemu-img names it: raw, qcow2 …
	Writable bool   // what the machine writes stays in the file
	Sector   int    // bytes; 0: 512
}

// Forward leads a TCP port of this machine, on the loopback address alone, to one of the virtual machine.
type Forward struct{ Host, Guest uint16 }

// Spec says what machine to start.
type Spec struct {
	Arch     string // as uname -m; empty: x86_64
	Firmware Firmware
	Disks    []Disk
	CDROM    string // an ISO image, or empty
	Memory   int    // MiB; 0: 1024
	CPUs     int    // 0: 2
	// Kernel boots this kernel without firmware's help, with Initrd and Append.
	Kernel, Initrd, Append string
	// Forward gives the machine a network card, with addresses by DHCP, through which it reaches what this machine reaches, and leads ports to it. nil for no card.
	Forward []Forward
	// Arguments are further arguments for QEMU.
	Arguments []string
	// Console gets a copy of all that the machine prints; nil drops it.
	Console io.Writer
	// Accelerator is QEMU's -accel; empty: KVM if it works, else emulation. See [Accelerator].
	Accelerator string
}

// Machine is a machine under way.
type Machine struct {
	console  *console
	input    *os.File
	cancel   context.CancelCauseFunc
	workdir  string
	finished chan struct{}
	err      error // of QEMU, once finished is closed
	commands int

	loggedIn       bool
	user, password string // of the last login
}

// Start starts the machine. Close must be called.
func Start(ctx context.Context, spec Spec) (*Machine, error) {
	workdir, err := os.MkdirTemp("", "imgbuild-qemu-")
	if err != nil {
		return nil, fmt.Errorf("starting a virtual machine: %w", err)
	}
	m := &Machine{workdir: workdir, console: newConsole(spec.Console), finished: make(chan struct{})}
	if err := m.start(ctx, spec); err != nil {
		os.RemoveAll(workdir)
		return nil, fmt.Errorf("starting a virtual machine: %w", err)
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context, spec Spec) error {
	program, args, err := m.commandLine(ctx, spec)
	if err != nil {
		return err
	}
	if _, err := command.Find(program); err != nil {
		return err
	}
	stdin, input, err := os.Pipe()
	if err != nil {
		return err
	}
	ctx, m.cancel = context.WithCancelCause(ctx)
	m.input = input
	go func() {
		defer stdin.Close()
		m.err = command.Run(ctx, command.Cmd{Name: program, Args: args, Stdin: stdin, Stdout: m.console})
		m.console.end()
		close(m.finished)
	}()
	return nil
}

// commandLine returns the program and arguments for spec, and puts the firmware's variables into the work directory.
func (m *Machine) commandLine(ctx context.Context, spec Spec) (string, []string, error) {
	arch := spec.Arch
	if arch == "" {
		arch = "x86_64"
	}
	program := "qemu-system-" + arch
	accel := spec.Accelerator
	if accel == "" {
		accel = Accelerator(ctx, arch)
	}
	cpus, memory := spec.CPUs, spec.Memory
	if cpus == 0 {
		cpus = 2
	}
	if memory == 0 {
		memory = 1024
	}
	machine := map[string]string{"x86_64": "q35", "aarch64": "virt"}[arch]
	if machine == "" {
		return "", nil, fmt.Errorf("no virtual machine is known for the architecture %s; there are x86_64 and aarch64", arch)
	}
	if spec.Firmware == SecureBoot {
		machine += ",smm=on"
	}
	cpu := "max"
	if arch == "x86_64" {
		cpu += ",smap=off" // its emulation stops Xen's first machine
	}
	if accel == acceleratorKVM {
		cpu = "host"
	}
	args := []string{
		"-accel", accel, "-machine", machine, "-cpu", cpu, "-m", strconv.Itoa(memory), "-smp", strconv.Itoa(cpus),
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-nic", nic(spec.Forward), "-no-reboot", "-device", "virtio-rng-pci",
	}
	firmware, err := m.firmware(arch, spec.Firmware)
	if err != nil {
		return "", nil, err
	}
	args = append(args, firmware...)
	for i, disk := range spec.Disks {
		snapshot := "on"
		if disk.Writable {
			snapshot = "off"
		}
		device := fmt.Sprintf("virtio-blk-pci,drive=disk%d,bootindex=%d", i, i+1)
		if disk.Sector != 0 {
			device += fmt.Sprintf(",logical_block_size=%d,physical_block_size=%d", disk.Sector, disk.Sector)
		}
		args = append(args, "-drive", fmt.Sprintf("file=%s,format=%s,if=none,id=disk%d,snapshot=%s,discard=unmap", escapeOption(disk.File), disk.Format, i, snapshot),
			"-device", device)
	}
	if spec.CDROM != "" {
		args = append(args, "-drive", "file="+escapeOption(spec.CDROM)+",format=raw,if=none,id=cd,media=cdrom,readonly=on")
		if arch == "x86_64" {
			args = append(args, "-device", "ide-cd,drive=cd")
		} else { // which have no drives of PCs
			args = append(args, "-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd")
		}
	}
	if spec.Kernel != "" {
		args = append(args, "-kernel", spec.Kernel, "-append", spec.Append)
		if spec.Initrd != "" {
			args = append(args, "-initrd", spec.Initrd)
		}
	}
	return program, append(args, spec.Arguments...), nil
}

// nic is the network card, in QEMU's option syntax.
func nic(forward []Forward) string {
	if len(forward) == 0 {
		return "none"
	}
	text := "user,model=virtio-net-pci"
	for _, f := range forward {
		text += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", f.Host, f.Guest)
	}
	return text
}

// firmware returns the arguments for the firmware, with a copy of its variables to write to.
func (m *Machine) firmware(arch string, f Firmware) ([]string, error) {
	if f == BIOS || f == "" && arch == "x86_64" {
		return nil, nil
	}
	for _, pair := range firmwareFiles(arch, f) {
		vars, err := os.ReadFile(pair.vars)
		if err != nil {
			continue
		}
		if _, err := os.Stat(pair.code); err != nil {
			continue
		}
		own := filepath.Join(m.workdir, "vars.fd")
		if err := os.WriteFile(own, vars, 0o600); err != nil {
			return nil, err
		}
		args := []string{
			"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=" + escapeOption(pair.code),
			"-drive", "if=pflash,format=raw,unit=1,file=" + escapeOption(own),
		}
		if f == SecureBoot {
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
		}
		return args, nil
	}
	return nil, &FirmwareError{Arch: arch, Firmware: f}
}

// FirmwareError says that no firmware for the machine is installed here.
type FirmwareError struct {
	Arch     string
	Firmware Firmware
}

// Error implements error.
func (e *FirmwareError) Error() string {
	pkg := "ovmf (Debian), edk2-ovmf (Fedora) or qemu-ovmf-x86_64 (openSUSE)"
	if e.Arch == "aarch64" {
		pkg = "qemu-efi-aarch64 (Debian), edk2-aarch64 (Fedora) or qemu-uefi-aarch64 (openSUSE)"
	}
	return fmt.Sprintf("the firmware %s for %s is not installed: install the package %s", e.Firmware, e.Arch, pkg)
}

type firmwarePair struct{ code, vars string }

// firmwareFiles lists where Debian, Fedora and openSUSE keep firmware, in order of preference.
func firmwareFiles(arch string, f Firmware) []firmwarePair {
	switch {
	case arch == "aarch64":
		return []firmwarePair{
			{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
			{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
			{"/usr/share/qemu/aavmf-aarch64-code.bin", "/usr/share/qemu/aavmf-aarch64-vars.bin"},
		}
	case f == SecureBoot:
		return []firmwarePair{
			{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
			{"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
			{"/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"},
		}
	}
	return []firmwarePair{
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"},
	}
}

// escapeOption doubles the commas of a file name, as QEMU's option syntax wants it.
func escapeOption(name string) string {
	var out []byte
	for _, c := range []byte(name) {
		if c == ',' {
			out = append(out, ',')
		}
		out = append(out, c)
	}
	return string(out)
}

// The accelerators.
const (
	acceleratorKVM = "kvm"
	acceleratorTCG = "tcg,thread=multi"
)

// probeLimit is how long KVM may take to run the first instructions of a BIOS.
const probeLimit = 3 * time.Second

// Accelerator returns QEMU's -accel argument for a machine of this architecture. KVM is taken if it runs a BIOS within three seconds: that
// /dev/kvm can be opened says little, since inside another virtual machine it may accept a guest and then hang.
func Accelerator(ctx context.Context, arch string) string {
	host := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if arch != host || arch != "x86_64" {
		return acceleratorTCG
	}
	kvm, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return acceleratorTCG
	}
	kvm.Close()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	out := &firstOutput{stop: cancel}
	_ = command.Run(ctx, command.Cmd{Name: "qemu-system-x86_64", Stdout: out, Args: []string{
		"-accel", "kvm", "-cpu", "host", "-smp", "2", "-machine", "q35", "-m", "64", "-nodefaults", "-display", "none",
		"-chardev", "stdio,id=log", "-device", "isa-debugcon,iobase=0x402,chardev=log",
	}})
	if out.seen.Load() {
		return acceleratorKVM
	}
	return acceleratorTCG
}
