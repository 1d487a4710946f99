package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/imgbuild/imgbuild/boot"
)

func newBoot(s *session) *cobra.Command {
	var opts boot.Options
	var asJSON, quiet bool
	var passwordFile string
	cmd := &cobra.Command{
		Use:   "boot IMAGE [--expect TEXT]... [--run COMMAND]...",
		Short: "Boot an image in a virtual machine and test what it does",
		Long: `Boot a disk of any format, an ISO image or a kernel-initrd-system in QEMU, with its serial console in the
terminal. They may be compressed (gzip, xz, zstd) or in an archive (OVA, Vagrant's boxes, Google's images);
of a directory it is what a build has left there, or the files of a kernel-initrd-system. KVM is used where
it really works. What the machine changes is lost when it ends, unless --writable is given. It has a network
only with --forward.

With --expect or --run it is a test: the texts must appear on the console one after the other, then a login as
--user happens and the commands run; what they print is printed, and the exit code is 1 if a text does not come
within --timeout or a command fails.

In a terminal, Ctrl-] ends the machine.`,
		DisableFlagsInUseLine: true,
		Example: `  imgbuild boot out/web.x86_64-1.0.0.qcow2
  imgbuild boot out/web.x86_64-1.0.0.raw --firmware uefi --run 'systemctl is-active nginx'
  imgbuild boot out/web.x86_64-1.0.0.qcow2 --forward 8080:80
  imgbuild boot live.iso --expect 'login:' --timeout 3m`,
		GroupID: groupMachines,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Image, opts.Log = args[0], s.log
			if passwordFile != "" {
				password, err := s.readSecret(passwordFile)
				if err != nil {
					return err
				}
				opts.Password = string(password)
			}
			testing := len(opts.Expect)+len(opts.Run) > 0
			if !quiet {
				opts.Console = s.stdout
				if testing {
					opts.Console = s.stderr
				}
			}
			ctx, end := context.WithCancelCause(cmd.Context())
			defer end(nil)
			if !testing {
				restore := s.console(&opts, func() { end(errEnded) })
				defer restore()
			}
			result, err := boot.Run(ctx, opts)
			if errors.Is(err, errEnded) {
				return nil
			}
			if wrong := (*boot.OptionError)(nil); errors.As(err, &wrong) {
				return &usageError{err: err, command: cmd.CommandPath()}
			}
			if result != nil && asJSON {
				if encoding := s.writeJSON(result); err == nil {
					err = encoding
				}
			} else if result != nil {
				for _, c := range result.Commands {
					if _, writing := io.WriteString(s.stdout, c.Output); err == nil {
						err = writing
					}
				}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Firmware, "firmware", "", "bios, uefi or secureboot (default: what the image is made for)")
	f.StringVar(&opts.Arch, "target-arch", "", "the machine's `architecture` (default: the one in the image's name)")
	f.BoolVar(&opts.AsDisk, "as-disk", false, "give an ISO image to the machine as a disk, as a USB stick is one")
	f.IntVar(&opts.Memory, "memory", 0, "the machine's memory in `MiB` (default 1024)")
	f.IntVar(&opts.CPUs, "cpus", 0, "the machine's `number` of processors (default 2)")
	f.BoolVar(&opts.Writable, "writable", false, "let the machine change the image")
	f.StringArrayVar(&opts.Forward, "forward", nil, "give the machine a network, and lead a TCP port of this machine (127.0.0.1) to one of its own, as `HOST:GUEST`; repeatable")
	f.StringArrayVar(&opts.Arguments, "qemu-argument", nil, "a further `argument` for QEMU; repeatable")
	f.StringArrayVar(&opts.Expect, "expect", nil, "a `text` that the console must show; repeatable")
	f.StringArrayVar(&opts.Run, "run", nil, "a `command` for the shell of --user; repeatable")
	f.StringVar(&opts.User, "user", "root", "the `name` to log in with for --run")
	f.StringVar(&opts.Password, "password", "", "that user's `password`, if it is no secret: other users of this machine can see it")
	f.StringVar(&passwordFile, "password-file", "", "a `file` with that user's password; - reads it from standard input")
	cmd.MarkFlagsMutuallyExclusive("password", "password-file")
	f.DurationVar(&opts.Timeout, "timeout", 0, "how long each text and each command may take (default 5m)")
	f.BoolVar(&quiet, "quiet", false, "don't show the console")
	f.BoolVar(&asJSON, "json", false, "print what the commands did as JSON")
	return cmd
}

// escapeKey, Ctrl-], ends a machine whose console is a terminal, where Ctrl-C is the machine's.
const escapeKey = 0x1d

// errEnded says that the user has ended the machine.
var errEnded = errors.New("ended")

// console ties the machine's console to the terminal, every key as it is, but for the one that calls end. The function it returns brings the terminal
// back.
func (s *session) console(opts *boot.Options, end func()) (restore func()) {
	opts.Input = s.stdin
	in, ok := s.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return func() {}
	}
	state, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		s.log.Warn("the terminal shows typed keys twice", "error", err)
		return func() {}
	}
	opts.Input = untilEscape{in, end}
	return func() { _ = term.Restore(int(in.Fd()), state) } // there is nobody to tell any more
}

// untilEscape reads keys and ends the program at the escape key.
type untilEscape struct {
	io.Reader
	end func()
}

func (u untilEscape) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	for i, key := range p[:n] {
		if key == escapeKey {
			u.end()
			return i, io.EOF
		}
	}
	return n, err
}
