// Package boot starts images in a virtual machine: disks in every format, ISO images and kernel-initrd-systems. It finds out what an image is by looking into
// it, shows its console, waits for words on it, and runs commands: a boot test that needs nothing but QEMU.
package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/internal/qemu"
)

// Options say what to boot and what to do then.
type Options struct {
	// Image is the file, or a directory: the target directory of a build, or one with the files of a kernel-initrd-system.
	Image string
	// Firmware is bios, uefi or secureboot; empty for what the image is made for.
	Firmware string
	// Arch is the machine's architecture, as uname -m gives it; empty for the one in the image's name, else x86_64.
	Arch string
	// AsDisk gives an ISO image to the machine as a disk, as a USB stick is one.
	AsDisk bool
	// Memory is in MiB, 0 for 1024. CPUs is how many processors there are, 0 for 2.
	Memory, CPUs int
	// Writable lets the machine change the image. Otherwise changes are lost with the machine.
	Writable bool
	// Forward leads TCP ports of this machine to the virtual one, each as HOST:GUEST. With any the machine has a network.
	Forward []string
	// Arguments are further arguments for QEMU.
	Arguments []string

	// Expect are texts that the console must show, one after the other.
	Expect []string
	// Run are shell commands to be run on the console, after a login as User with Password. The first that fails ends the run.
	Run            []string
	User, Password string
	// Timeout is how long each of these may take; 0 is five minutes.
	Timeout time.Duration

	// Input is typed into the console where there is nothing to expect and to run; nil is nothing.
	Input io.Reader
	// Console gets all that the machine prints; nil drops it.
	Console io.Writer
	// Log is told what was found out about the image; nil drops it.
	Log *slog.Logger
}

// Result is what commands did.
type Result struct {
	Commands []Command `json:"commands"`
}

// Command is one command that ran in the machine.
type Command struct {
	Line   string `json:"command"`
	Output string `json:"output"` // both outputs together
	Code   int    `json:"code"`   // exit code
}

// CommandError says that a command in the machine failed.
type CommandError struct{ Command }

// Error implements error.
func (e *CommandError) Error() string {
	text := fmt.Sprintf("running %q in the virtual machine: exit code %d", e.Line, e.Code)
	if out := strings.TrimSpace(e.Output); out != "" {
		text += "; it said: " + out
	}
	return text
}

// OptionError says which option makes no sense.
type OptionError struct{ Reason string }

// Error implements error.
func (e *OptionError) Error() string { return e.Reason }

const defaultTimeout = 5 * time.Minute

// check refuses options that make no sense whatever the image is, with an [*OptionError].
func (o Options) check() error {
	switch {
	case !slices.Contains([]string{"", string(qemu.BIOS), string(qemu.UEFI), string(qemu.SecureBoot)}, o.Firmware):
		return &OptionError{fmt.Sprintf("there is no firmware %q; there are bios, uefi and secureboot", o.Firmware)}
	case o.Memory < 0 || o.CPUs < 0:
		return &OptionError{"a machine has neither less than no memory nor less than no processor"}
	case o.Timeout < 0:
		return &OptionError{fmt.Sprintf("nothing can be done in %v", o.Timeout)}
	}
	return nil
}

// Run boots the image. Options that make no sense are an [*OptionError]. With nothing to expect and no command it returns when the machine ends; else when all is done, and the machine is switched off.
func Run(ctx context.Context, opts Options) (_ *Result, err error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Timeout == 0 {
		opts.Timeout = defaultTimeout
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	forward, err := parseForward(opts.Forward)
	if err != nil {
		return nil, err
	}
	about, err := inspect(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("booting %s: %w", opts.Image, err)
	}
	defer func() { err = errors.Join(err, about.close()) }()
	opts.Log.Info("booting", "image", opts.Image, "kind", about.kind, "firmware", string(about.spec.Firmware), "architecture", about.spec.Arch)
	spec := about.spec
	spec.Memory, spec.CPUs, spec.Console, spec.Forward, spec.Arguments = opts.Memory, opts.CPUs, opts.Console, forward, opts.Arguments
	machine, err := qemu.Start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("booting %s: %w", opts.Image, err)
	}
	defer func() { err = errors.Join(err, machine.Close()) }()
	if len(opts.Expect) == 0 && len(opts.Run) == 0 {
		return &Result{}, attend(ctx, machine, opts.Input)
	}
	result, err := work(ctx, machine, opts)
	if err != nil {
		return result, fmt.Errorf("booting %s: %w%s", opts.Image, err, remedy(err, machine.Console(), spec.Arch, opts.Password))
	}
	return result, nil
}

// remedy is what helps in the usual cases, "" where nothing is known.
func remedy(err error, console, arch, password string) string {
	var late *qemu.TimeoutError
	switch {
	case errors.Is(err, qemu.ErrLogin) && password == "":
		return "; say its password with --password or --password-file"
	case errors.As(err, &late) && !strings.Contains(console, "Linux version"):
		return "\nIf the system has started without a word: its kernel must be told console=" + serialPort(arch) + ", in kernelcmdline"
	}
	return ""
}

// serialPort is what Linux calls the first serial port.
func serialPort(arch string) string {
	if arch == "aarch64" {
		return "ttyAMA0"
	}
	return "ttyS0"
}

// parseForward reads pairs of ports, HOST:GUEST.
func parseForward(pairs []string) ([]qemu.Forward, error) {
	var list []qemu.Forward
	for _, pair := range pairs {
		host, guest, ok := strings.Cut(pair, ":")
		from, err := strconv.ParseUint(host, 10, 16)
		to, err2 := strconv.ParseUint(guest, 10, 16)
		if !ok || err != nil || err2 != nil || from == 0 || to == 0 {
			return nil, &OptionError{fmt.Sprintf("forwarding %q: it must be two numbers of ports, such as 8080:80", pair)}
		}
		list = append(list, qemu.Forward{Host: uint16(from), Guest: uint16(to)})
	}
	return list, nil
}

// attend types what comes from input until the machine ends.
func attend(ctx context.Context, machine *qemu.Machine, input io.Reader) error {
	if input != nil {
		go func() {
			buffer := make([]byte, 4096)
			for {
				n, err := input.Read(buffer)
				if n > 0 && machine.Send(string(buffer[:n])) != nil || err != nil {
					return // the machine or the input has ended
				}
			}
		}()
	}
	const forever = 1 << 62
	return machine.Wait(ctx, forever)
}

// work expects what is to be seen, and runs what is to be run.
func work(ctx context.Context, machine *qemu.Machine, opts Options) (*Result, error) {
	result := &Result{Commands: []Command{}}
	for _, text := range opts.Expect {
		if err := machine.ExpectText(ctx, text, opts.Timeout); err != nil {
			return result, err
		}
	}
	if len(opts.Run) == 0 {
		return result, nil
	}
	if showsPrompt(machine) { // it was one of the texts, and another is to be seen
		if err := machine.Send("\n"); err != nil {
			return result, err
		}
	}
	if err := machine.Login(ctx, opts.User, opts.Password, opts.Timeout); err != nil {
		return result, err
	}
	for _, line := range opts.Run {
		output, code, err := machine.Run(ctx, line, opts.Timeout)
		if err != nil {
			return result, err
		}
		done := Command{line, output, code}
		result.Commands = append(result.Commands, done)
		if code != 0 {
			return result, &CommandError{done}
		}
	}
	return result, nil
}

// showsPrompt reports whether the last thing on the console that is not the kernel's is a prompt to log in.
func showsPrompt(machine *qemu.Machine) bool {
	text := machine.Console()
	at := strings.LastIndex(text, "login:")
	return at >= 0 && !strings.Contains(text[at:], "Password:")
}
